"""A capture in files: photos that are read when they are asked for, their cameras, known points."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from hisplat_data_tools.cameras_json import CameraFileError, ImageCamera, read_cameras, to_cameras
from hisplat_data_tools.images import Photo, load_photo
from hisplat_data_tools.ply import read_ply_points
from hisplat_models.cameras import Cameras


class PhotoFiles:
    """Photos of known cameras, read anew each time; one in memory is one that somebody holds.

    Args:
        paths: The photos.
        views: Their cameras.
    """

    def __init__(self, paths: Sequence[Path], views: Sequence[ImageCamera]) -> None:
        self._paths = tuple(paths)
        self._views = tuple(views)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Photo:
        """One photo.

        Raises:
            PhotoError: if it cannot be read.
            CameraFileError: if it has other proportions than its camera.
        """
        photo = load_photo(self._paths[index])
        self._views[index].at_size(photo.original_size[1], photo.original_size[0])
        return photo


@dataclass(frozen=True)
class Capture:
    """Photos with known cameras.

    Attributes:
        photos: In the file's order.
        cameras: Theirs, shape (photo,); near and far say nothing yet.
        views: The same as the file has them.
        points: World points on surfaces; None if the file names none.
    """

    photos: PhotoFiles
    cameras: Cameras
    views: tuple[ImageCamera, ...]
    points: Float[Tensor, "point 3"] | None


def read_capture(path: Path) -> Capture:
    """The capture that a ``transforms.json`` or ``cameras.json`` beside its photos describes.

    Raises:
        FileNotFoundError: if the file, or that of its points, is not there.
        CameraFileError: if it cannot be understood, or lacks photos.
        PlyError: if its points cannot be read.
    """
    file = read_cameras(path)
    if len(file.images) < 2:
        raise CameraFileError(f"{path} describes {len(file.images)} photos; a scene needs two.")
    paths = [file.photo_path(view) for view in file.images]
    missing = [photo for photo in paths if not photo.is_file()]
    if missing:
        raise CameraFileError(
            f"{len(missing)} of {len(paths)} photos that {path} names are not there, such as "
            f"{missing[0]}."
        )
    points = None if file.points is None else torch.from_numpy(read_ply_points(file.points)).float()
    cameras = to_cameras(file.images, 1.0, 2.0)
    return Capture(PhotoFiles(paths, file.images), cameras, file.images, points)
