"""A scene of many photos with known cameras, whose photos are decoded only when asked for.

Where scenes come from is a ``SceneCollection``: published chunk files (``chunks``) or posed folders
(``scene_folders``). Which of a scene's frames are given and which are compared with is decided by
a view sampler (``view_samplers``); both together are a ``SceneDataset``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from hisplat_models.cameras import Cameras


class UnusableScene(ValueError):
    """A scene cannot give an example; the message names it and says why."""


@dataclass(frozen=True)
class PosedScene:
    """One scene.

    Attributes:
        key: Its name within the source.
        cameras: Of shape (frame,).
        photo: Decodes one frame, RGB; raises UnusableScene if it is damaged or of a wrong size.
    """

    key: str
    cameras: Cameras
    photo: Callable[[int], UInt8[np.ndarray, "height width 3"]]

    def __len__(self) -> int:
        return len(self.cameras.near)


@runtime_checkable
class SceneCollection(Protocol):
    """Scenes by index."""

    @property
    def keys(self) -> Sequence[str]:
        """The names of all scenes, in order."""
        ...

    @property
    def groups(self) -> Sequence[Sequence[int]]:
        """Indices of scenes that are stored together, so that visiting them in turn is fast."""
        ...

    def scene(self, index: int) -> PosedScene:
        """One scene.

        Raises:
            UnusableScene: if it is stored, but cannot be used.
        """
        ...
