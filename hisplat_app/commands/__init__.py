"""The commands of ``hisplat``: each is a dataclass of its options with ``run() -> exit status``.

Their modules load torch and friends only when they run, so that ``--help`` is quick.
"""
