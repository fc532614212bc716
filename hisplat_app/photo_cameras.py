"""The cameras of two photos: from a file, as given, or estimated from the photos themselves."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from hisplat_data_tools.cameras_json import ImageCamera, from_cameras, read_cameras, to_cameras
from hisplat_data_tools.images import (
    Photo,
    crop_intrinsics,
    crop_to_aspect,
    shared_aspect,
    to_tensor,
    working_size,
)
from hisplat_data_tools.intrinsics import FocalEstimate, focals_of_pair, normalized_intrinsics
from hisplat_data_tools.two_view import (
    TwoViewEstimate,
    estimate_two_view,
    refit_two_view,
    scene_range_from_known_cameras,
)
from hisplat_models.cameras import Cameras

from .dense_matches import dense_matches

PhotoPair = tuple[Photo, Photo]

REFINEMENT_SIZE = 384
"""Long side at which estimated cameras are refined with dense matches."""

FEWEST_DENSE_MATCHES = 300
"""With fewer the keypoints' estimate stays."""

FOCAL_SOURCES = {
    "given": "with the given focal length",
    "exif": "with the focal length of their EXIF data",
    "default": "with an assumed focal length",
}


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
    focals = focals_of_pair(*photos, focal_px, fov_degrees)
    left, right = (
        normalized_intrinsics(focal.focal_px, photo.width, photo.height)
        for focal, photo in zip(focals, photos, strict=True)
    )
    uncertainty = max(focal.relative_uncertainty for focal in focals)
    estimate = estimate_two_view(photos[0].pixels, photos[1].pixels, left, right, uncertainty)
    estimate = _refined(estimate, photos, uncertainty)
    quality = {
        "matches": float(estimate.matches),
        "inliers": float(estimate.inliers),
        "in_front": estimate.in_front,
        "median_angle_deg": estimate.median_angle_deg,
        "median_epipolar_px": estimate.median_epipolar_px,
    }
    source = f"estimated from the photos, {FOCAL_SOURCES[focals[0].source]}"
    warnings = (*_focal_warnings(focals), *estimate.warnings)
    return _named(photos, estimate.cameras, source, quality, warnings)


def _refined(
    estimate: TwoViewEstimate, photos: PhotoPair, focal_uncertainty: float
) -> TwoViewEstimate:
    """The estimate that fits matches of nearly every pixel, where there are enough of them."""
    matches = dense_matches(*at_working_size(photos, estimate.cameras, REFINEMENT_SIZE, 8))
    if len(matches.left) < FEWEST_DENSE_MATCHES:
        return estimate
    return refit_two_view(estimate, matches, focal_uncertainty)


def _focal_warnings(focals: tuple[FocalEstimate, FocalEstimate]) -> list[str]:
    """The warnings about both photos; one is enough where nothing is known of either."""
    told = focals[:1] if all(focal.source == "default" for focal in focals) else focals
    return [focal.warning for focal in told if focal.warning is not None]


def at_working_size(
    photos: tuple[Photo, Photo], cameras: Cameras, size: int, multiple: int
) -> tuple[Float[Tensor, "2 3 height width"], Cameras]:
    """Both photos cropped to the same proportions and resized, and their cameras.

    Args:
        photos: Left and right.
        cameras: Of the whole photos, shape (2,).
        size: Long side in pixels.
        multiple: What both sides are to be multiples of.
    """
    aspect = shared_aspect(*photos)
    cropped = [crop_to_aspect(photo, aspect) for photo in photos]
    shape = working_size(cropped[0][0].width, cropped[0][0].height, size, multiple)
    images = torch.stack([to_tensor(photo, shape) for photo, _ in cropped])
    intrinsics = [
        crop_intrinsics(k, box) for k, (_, box) in zip(cameras.intrinsics, cropped, strict=True)
    ]
    return images, replace(cameras, intrinsics=torch.stack(intrinsics))


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
