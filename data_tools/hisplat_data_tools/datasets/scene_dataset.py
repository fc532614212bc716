"""Scenes of many posed photos as examples: a source of scenes, a view sampler and a size.

The interface that training and evaluation build upon, beside ``len(dataset)``:

- ``dataset[index] -> Example``: always the same example; random samplers use a fixed seed and the
  end of their curriculum. Raises ``UnusableScene`` (a ValueError) for a scene that cannot be used,
  so that evaluation can list it.
- ``dataset.example(index, seed=..., step=...) -> Example``: for training. A pure function of its
  three arguments; ``step`` (the global step) drives the curriculum. A scene that cannot be used is
  replaced by the next usable one stored beside it, with a warning, and noted in
  ``dataset.skipped``.
- ``dataset.epoch_order(seed, epoch) -> list[int]``: a permutation of all indices that visits
  scenes stored together one after the other; a pure function of its arguments.
- ``dataset.left_out -> dict[scene key, reason]``: scenes known beforehand to give no example, for
  instance those an evaluation index has ``null`` for; they have no index.
- ``dataset.key(index) -> str``: the scene's name; it is also the example's name.

A loader that also takes simple datasets looks for ``example`` and ``epoch_order`` and does without.
"""
