"""From where ``hisplat render`` looks at a scene: cameras of a file, or the page's home view."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hisplat_data_tools.cameras_json import CameraFile, ImageCamera
    from hisplat_models.gaussians import Gaussians
    from hisplat_models.home_view import Axis

HOME = "home"
HOME_SIZE = 720, 960
"""(height, width) of pictures from the home view."""


@dataclass(frozen=True)
class Views:
    """Where to look from.

    Attributes:
        names: Of the views; pictures are named after them.
        cameras: Theirs.
        pair: One view or two: where a path begins and, if there are two, where it turns.
    """

    names: tuple[str, ...]
    cameras: "tuple[ImageCamera, ...]"
    pair: "tuple[ImageCamera, ...]"


def views_of_file(file: "CameraFile", only: Sequence[str] = ()) -> Views:
    """The views that a camera file describes, or those of the named photos.

    Raises:
        ValueError: if it has none, or not one that is named.
    """
    if only:
        chosen = tuple(file.find(name) for name in only)
        return Views(tuple(only), chosen, chosen[:2])
    cameras = (*file.images, *file.trajectory)
    if not cameras:
        raise ValueError(f"{file.path} has no cameras.")
    flight = tuple(f"view_{i:04d}" for i in range(len(file.trajectory)))
    names = (*(view.file for view in file.images), *flight)
    pair = cameras[:2]
    if file.pairs:
        pair = file.find(file.pairs[0].left), file.find(file.pairs[0].right)
    return Views(names, cameras, pair)


def home_views(gaussians: "Gaussians", up: "Axis") -> Views:
    """The one view from which the page shows a file of which no cameras are known.

    Raises:
        ValueError: if there are no Gaussians.
    """
    from hisplat_data_tools.cameras_json import from_cameras
    from hisplat_models.home_view import home_view

    height, width = HOME_SIZE
    camera = home_view(gaussians).upright(up).camera(width / height)
    cameras = tuple(from_cameras(camera[None], [HOME], [HOME_SIZE]))
    return Views((HOME,), cameras, cameras)
