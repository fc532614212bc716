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
class PhotoSet:
    """Photos to reconstruct from.

    Attributes:
        photos: Two or more, the left one first.
        fov_degrees: Horizontal field of view of all, if the user knows it.
        focal_px: Focal length of all in pixels of the uploaded photos, if the user knows it.
        model: One of the offered networks; None is the first.
        size: One of the offered working sizes, pixels; None is the usual one.
    """

    photos: tuple[Upload, ...]
    fov_degrees: float | None = None
    focal_px: float | None = None
    model: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class Example:
    """Photos that come with the program.

    Attributes:
        name: What they show.
        photos: The photos, and what is known of their lens.
    """

    name: str
    photos: PhotoSet


@dataclass(frozen=True)
class Offer:
    """What a user may choose from; empty where there is no choice.

    Attributes:
        models: Names of networks, the usual one first.
        sizes: Working sizes, pixels of the longer side, smallest first.
        size: The usual working size.
        examples: Photos to try.
        most_photos: How many photos one scene may be made of.
    """

    models: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    size: int | None = None
    examples: tuple[Example, ...] = ()
    most_photos: int = 2


@runtime_checkable
class SceneListener(Protocol):
    """Hears about one request, on any thread; nothing more after it is replaced."""

    def waiting(self, ahead: int) -> None:
        """As many requests of others come first as ``ahead``; told again as it changes."""
        ...

    def progress(self, step: str, fraction: float) -> None:
        """The step just begun and the share of the work done, in [0, 1]."""
        ...

    def preview(self, scene: Scene) -> None:
        """The coarser levels of the scene are there; finer ones, or ``finished``, come next."""
        ...

    def finished(self, scene: Scene) -> None:
        """The scene is there."""
        ...

    def failed(self, message: str) -> None:
        """There is no scene; ``message`` is for the user."""
        ...


@runtime_checkable
class SceneSource(Protocol):
    """Makes scenes from photos in the background.

    Listeners may be called while these methods run, from other threads: whoever calls them holds
    no lock that a listener waits for.
    """

    @property
    def offer(self) -> Offer:
        """What there is to choose from."""
        ...

    def request(self, client: str, photos: PhotoSet, listener: SceneListener) -> None:
        """Starts on a scene; replaces what ``client`` asked for before."""
        ...

    def withdraw(self, client: str) -> None:
        """Drops what ``client`` asked for."""
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

    def __call__(self, gaussians: Gaussians, /) -> bytes:
        """The whole file."""
        ...
