"""Scenes of many posed photos as examples: a source of scenes, a view sampler and a size.

The interface that training and evaluation build upon, beside ``len(dataset)``:

- ``dataset[index] -> Example``: always the same example; random samplers use a fixed seed and the
  end of their curriculum. Raises ``UnusableScene`` (a ValueError) for a scene that cannot be used,
  so that evaluation can list it.
- ``dataset.example(index, seed=..., step=...) -> Example``: for training. A pure function of its
  three arguments; ``step`` (the global step) drives the curriculum. A scene that cannot be used is
  replaced by the next usable one, with a warning, and noted in ``dataset.skipped``.
- ``dataset.epoch_order(seed, epoch) -> list[int]``: a permutation of all indices that visits
  scenes stored together one after the other; a pure function of its arguments.
- ``dataset.left_out -> dict[scene key, reason]``: scenes known beforehand to give no example, for
  instance those an evaluation index has ``null`` for; they have no index.
- ``dataset.key(index) -> str``: the example's name: that of its scene, or of the entry of the
  evaluation index where a scene has several. No two are the same.

A loader that also takes simple datasets looks for ``example`` and ``epoch_order`` and does without.
"""

import logging
from dataclasses import replace

import numpy as np
import torch

from hisplat_models.cameras import Cameras
from hisplat_models.example import Example

from ..images import crop_intrinsics
from .cover_crop import CoverCrop, centred_intrinsics
from .posed_scene import PosedScene, SceneCollection, UnusableScene
from .view_samplers import IndexSampler, ViewChoice, ViewSampler

logger = logging.getLogger(__name__)

MAX_REPLACED = 100
"""So many scenes in a row that cannot be used mean that something is wrong with the data."""


class SceneDataset:
    """One example per scene, or several where the view sampler says so.

    Attributes:
        left_out: Scenes that give no example, with the reason.
        skipped: Scenes that ``example`` has replaced so far in this process, with the reason.
    """

    def __init__(
        self,
        scenes: SceneCollection,
        sampler: ViewSampler,
        size: tuple[int, int] = (256, 256),
        groups_at_once: int = 2,
        exact_principal_point: bool = True,
    ) -> None:
        """Looks up which scenes there are; reads none.

        Args:
            scenes: Where they come from.
            sampler: Chooses frames.
            size: (height, width) of all pictures.
            groups_at_once: So many groups of scenes stored together are shuffled into one another
                by ``epoch_order``; the source should keep as many in memory.
            exact_principal_point: Intrinsics say where each pixel looks. False: as the published
                loader, which leaves the principal point where it was before cropping, half a
                pixel off for RealEstate10K at 256x256.

        Raises:
            ValueError: if no scene is left, or scenes have the same name.
        """
        self.scenes, self.sampler, self.size = scenes, sampler, size
        self.groups_at_once = groups_at_once
        self.exact_principal_point = exact_principal_point
        self.skipped: dict[str, str] = {}
        keys = scenes.keys
        if len(set(keys)) < len(keys):
            twice = sorted({key for key in keys if list(keys).count(key) > 1})
            raise ValueError(f"Several scenes have the same name: {', '.join(twice[:4])}.")
        self.left_out: dict[str, str] = {}
        self._items: list[tuple[int, str]] = []  # scene, name of the example
        self._groups: list[range] = []
        self._collect()
        if not self._items:
            reason = next(iter(self.left_out.values()), "there are none")
            raise ValueError(f"No scene gives an example, of {len(keys)}: {reason}.")

    def _collect(self) -> None:
        """Fills in the examples group by group, and what is left out."""
        keys, sampler = self.scenes.keys, self.sampler
        known = set(keys)
        for group in self.scenes.groups:
            first = len(self._items)
            for scene in group:
                for name in sampler.names(keys[scene]):
                    if name != keys[scene] and name in known:
                        continue  # the entry of another scene whose name ends in a number
                    reason = sampler.refusal(name)
                    if reason is None:
                        self._items.append((scene, name))
                    else:
                        self.left_out[name] = reason
            if len(self._items) > first:
                self._groups.append(range(first, len(self._items)))
        if isinstance(sampler, IndexSampler):
            served = {name for _, name in self._items}
            for name, entry in sampler.entries.items():
                if entry is not None and name not in served:
                    self.left_out[name] = "in the evaluation index, but not in the data"

    def __len__(self) -> int:
        return len(self._items)

    def key(self, index: int) -> str:
        """The name of an example."""
        return self._items[index][1]

    def __getitem__(self, index: int) -> Example:
        """The example of a scene, always the same.

        Raises:
            IndexError: beyond the last one.
            UnusableScene: if the scene cannot be used.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"Item {index} of a dataset of {len(self)}.")
        return self._example(index, _generator(0, index), None)

    def views(self, index: int) -> ViewChoice:
        """The frames that ``dataset[index]`` shows.

        Raises:
            UnusableScene: if the scene cannot be used.
        """
        position, name = self._items[index]
        scene = self.scenes.scene(position)
        return self.sampler.choose(name, len(scene), _generator(0, index), None)

    def example(self, index: int, *, seed: int, step: int) -> Example:
        """An example for training, a pure function of the arguments.

        Raises:
            UnusableScene: if neither this scene nor any of the next hundred can be used.
        """
        reason = ""
        item = index
        for offset in range(min(len(self), MAX_REPLACED)):
            item = (index + offset) % len(self)
            try:
                return self._example(item, _generator(seed, step, item), step)
            except UnusableScene as error:
                reason = str(error)
                self._note(self.key(item), reason)
        raise UnusableScene(
            f"No scene can be used, from {self.key(index)} through {self.key(item)}. {reason}"
        )

    def epoch_order(self, seed: int, epoch: int) -> list[int]:
        """All indices, those of scenes stored together near each other, otherwise shuffled.

        It is the same for the same arguments, so processes can each take their share of it.
        """
        generator = _generator(seed, epoch)
        shuffled = torch.randperm(len(self._groups), generator=generator).tolist()
        order: list[int] = []
        for i in range(0, len(shuffled), self.groups_at_once):
            groups = shuffled[i : i + self.groups_at_once]
            pool = [item for group in groups for item in self._groups[group]]
            order += [pool[i] for i in torch.randperm(len(pool), generator=generator).tolist()]
        return order

    def _note(self, key: str, reason: str) -> None:
        if self.skipped.get(key) != reason:
            count = len(self.skipped.keys() | {key})
            logger.warning("Not used in training (%d scenes so far): %s", count, reason)
        self.skipped[key] = reason

    def _example(self, index: int, generator: torch.Generator, step: int | None) -> Example:
        position, name = self._items[index]
        scene = self.scenes.scene(position)
        views = self.sampler.choose(name, len(scene), generator, step)
        # A frame may be drawn as several targets; it is decoded once.
        pictures = {i: self._picture(scene, i) for i in sorted({*views.context, *views.target})}

        def joined(frames: tuple[int, ...]) -> tuple[torch.Tensor, Cameras]:
            images = torch.stack([pictures[i][0] for i in frames])
            return images, Cameras.stack([pictures[i][1] for i in frames])

        context, target = joined(views.context), joined(views.target)
        return Example(name, context[0], context[1], target[0], target[1])

    def _picture(self, scene: PosedScene, frame: int) -> tuple[torch.Tensor, Cameras]:
        photo = scene.photo(frame)
        crop = CoverCrop.of((photo.shape[0], photo.shape[1]), self.size)
        carried = crop_intrinsics if self.exact_principal_point else centred_intrinsics
        camera = scene.cameras[frame]
        return crop.tensor(photo), replace(camera, intrinsics=carried(camera.intrinsics, crop.box))


def _generator(*numbers: int) -> torch.Generator:
    """A generator of its own for every sequence of numbers >= 0."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]) % 2**63)
