"""What the page asks for and what it hears: the seam to whoever makes scenes."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from hisplat_models.gaussians import Gaussians

from .scene import Scene


@dataclass(frozen=True)
class Upload:
    """A file as the browser sent it."""

    name: str
    content: bytes


@dataclass(frozen=True)
class PhotoPair:
    """Two photos to reconstruct from.

    Attributes:
        left: The first photo.
        right: The second photo.
        fov_degrees: Horizontal field of view of both, if the user knows it.
        focal_px: Focal length of both in pixels of the uploaded photos, if the user knows it.
    """

    left: Upload
    right: Upload
    fov_degrees: float | None = None
    focal_px: float | None = None


@runtime_checkable
class SceneListener(Protocol):
    """Hears about one request, on any thread; nothing more after it is replaced."""

    def progress(self, step: str, fraction: float) -> None:
        """The step just begun and the share of the work done, in [0, 1]."""
        ...

    def finished(self, scene: Scene) -> None:
        """The scene is there."""
        ...

    def failed(self, message: str) -> None:
        """There is no scene; ``message`` is for the user."""
        ...


@runtime_checkable
class SceneSource(Protocol):
    """Makes scenes from photos in the background."""

    def request(self, client: str, pair: PhotoPair, listener: SceneListener) -> None:
        """Starts on a scene; replaces what ``client`` asked for before."""
        ...

    def withdraw(self, client: str) -> None:
        """Drops what ``client`` asked for; it has left."""
        ...

    def thumbnail(self, upload: Upload, long_side: int) -> "UInt8[np.ndarray, 'height width 3']":
        """The uploaded photo, upright and small.

        Raises:
            ValueError: saying why, if it is not a photo.
        """
        ...


@runtime_checkable
class SceneWriter(Protocol):
    """Makes the content of a file, in the world frame as it is."""

    def __call__(self, gaussians: Gaussians) -> bytes:
        """The whole file."""
        ...
