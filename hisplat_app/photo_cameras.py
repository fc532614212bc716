"""The cameras of two photos: from a file, as given, or estimated from the photos themselves."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from hisplat_data_tools.cameras_json import ImageCamera, from_cameras, read_cameras, to_cameras
from hisplat_data_tools.images import Photo
from hisplat_data_tools.two_view import estimate_two_view, scene_range_from_known_cameras
from hisplat_models.cameras import Cameras

PhotoPair = tuple[Photo, Photo]


@dataclass(frozen=True)
class PhotoCameras:
    """The cameras of two whole photos.

    Attributes:
        cameras: Shape (2,), left first, with the range of depths.
        image_cameras: The same in pixels of the photos' files.
        source: Where they come from, in words.
        quality: Figures of the estimate; empty for given cameras.
        warnings: What makes them doubtful.
    """

    cameras: Cameras
    image_cameras: tuple[ImageCamera, ImageCamera]
    source: str
    quality: dict[str, float]
    warnings: tuple[str, ...]


def find_photo_cameras(
    photos: PhotoPair,
    given: str | os.PathLike[str] | Cameras | None = None,
    focal_px: float | None = None,
    fov_degrees: float | None = None,
) -> PhotoCameras:
    """The given cameras, or else those that the photos were taken with as far as they tell.

    Args:
        photos: Left and right.
        given: A camera file, or cameras of shape (2,) with their range of depths.
        focal_px: Focal length of both photos in pixels, for the estimate.
        fov_degrees: Horizontal field of view of both photos, for the estimate.

    Raises:
        ValueError: if the cameras don't fit the photos, or none can be found; says why.
        OSError: if the file cannot be read.
    """
    if given is None:
        return _estimated(photos, focal_px, fov_degrees)
    if focal_px is not None or fov_degrees is not None:
        raise ValueError("Given cameras have their focal lengths: leave out the focal length.")
    found = _given(photos, given) if isinstance(given, Cameras) else _from_file(photos, Path(given))
    if torch.equal(*found.cameras.positions):
        raise ValueError("Both given cameras stand in the same place, so depth cannot be seen.")
    return found


def _given(photos: PhotoPair, cameras: Cameras) -> PhotoCameras:
    if cameras.batch_shape != (2,):
        raise ValueError(f"Expected cameras of shape (2,), got {tuple(cameras.batch_shape)}.")
    return _named(photos, cameras.to("cpu"), "given cameras", {}, ())


def _from_file(photos: PhotoPair, path: Path) -> PhotoCameras:
    file = read_cameras(path)
    left, right = (
        file.find(photo.name).at_size(photo.original_size[1], photo.original_size[0])
        for photo in photos
    )
    stated = file.depth_range(left.file, right.file)
    warnings: tuple[str, ...] = ()
    if stated is None:
        # Any range will do here: it is what we ask for.
        measured = scene_range_from_known_cameras(
            photos[0].pixels, photos[1].pixels, to_cameras([left, right], 1.0, 2.0)
        )
        stated, warnings = (measured.near, measured.far), measured.warnings
    cameras = to_cameras([left, right], *stated)
    return PhotoCameras(cameras, (left, right), f"given in {path.name}", {}, warnings)


def _estimated(
    photos: PhotoPair, focal_px: float | None, fov_degrees: float | None
) -> PhotoCameras:
    from hisplat_data_tools.intrinsics import choose_intrinsics

    left, right = (choose_intrinsics(photo, focal_px, fov_degrees) for photo in photos)
    estimate = estimate_two_view(
        photos[0].pixels,
        photos[1].pixels,
        left.matrix,
        right.matrix,
        focal_is_guess=left.is_guess or right.is_guess,
    )
    quality = {
        "matches": float(estimate.matches),
        "inliers": float(estimate.inliers),
        "in_front": estimate.in_front,
        "median_angle_deg": estimate.median_angle_deg,
        "median_epipolar_px": estimate.median_epipolar_px,
    }
    source = f"estimated from the photos; focal length {left.source}"
    return _named(photos, estimate.cameras, source, quality, estimate.warnings)


def _named(
    photos: PhotoPair,
    cameras: Cameras,
    source: str,
    quality: dict[str, float],
    warnings: tuple[str, ...],
) -> PhotoCameras:
    names = [photo.name for photo in photos]
    left, right = from_cameras(cameras, names, [photo.original_size for photo in photos])
    return PhotoCameras(cameras, (left, right), source, quality, warnings)
