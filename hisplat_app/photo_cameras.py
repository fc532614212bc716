"""The cameras of photos: from a file, as given, or estimated from the photos themselves."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from hisplat_data_tools.cameras_json import (
    CameraFile,
    ImageCamera,
    from_cameras,
    read_cameras,
    to_cameras,
)
from hisplat_data_tools.distortion import RadialDistortion, undistorted
from hisplat_data_tools.images import (
    Photo,
    crop_intrinsics,
    crop_to_aspect,
    shared_aspect,
    to_tensor,
    working_size,
)
from hisplat_data_tools.intrinsics import (
    FocalEstimate,
    centre_of_photo,
    focals_of_photos,
    normalized_intrinsics,
)
from hisplat_data_tools.known_cameras import scene_range_from_known_cameras
from hisplat_data_tools.multi_view import estimate_multi_view
from hisplat_data_tools.two_view import TwoViewEstimate, estimate_two_view, refit_two_view
from hisplat_models.cameras import Cameras

from .dense_matches import dense_matches

Photos = Sequence[Photo]
_Estimate = tuple[Cameras, dict[str, float], tuple[str, ...]]
"""Cameras, figures about them, and warnings."""

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
    """The cameras of two or more whole photos.

    Attributes:
        cameras: Shape (photo,), with the range of depths.
        image_cameras: The same in pixels of the photos' files.
        source: Where they come from, in words.
        quality: Figures of the estimate; empty for given cameras.
        warnings: What makes them doubtful.
    """

    cameras: Cameras
    image_cameras: tuple[ImageCamera, ...]
    source: str
    quality: dict[str, float]
    warnings: tuple[str, ...]


def find_photo_cameras(
    photos: Photos,
    given: str | os.PathLike[str] | Cameras | None = None,
    focal_px: float | None = None,
    fov_degrees: float | None = None,
    principal_point: tuple[float, float] | None = None,
    intrinsics: Sequence[Float[Tensor, "3 3"]] | None = None,
) -> PhotoCameras:
    """The given cameras, or else those that the photos were taken with as far as they tell.

    Args:
        photos: Two or more, the left one first.
        given: A camera file, or cameras of shape (photo,) with their range of depths.
        focal_px: Focal length of all photos in pixels of their files, for the estimate.
        fov_degrees: Horizontal field of view of all photos, for the estimate.
        principal_point: Of all photos, x and y in pixels of their files, for the estimate; by
            default the middle.
        intrinsics: Instead of these three: a normalised matrix per photo, taken for exact.

    Raises:
        ValueError: if the cameras don't fit the photos, or none can be found; says why.
        OSError: if the file cannot be read.
    """
    lens = focal_px, fov_degrees, principal_point
    if given is None and intrinsics is not None:
        _check_alone(lens, "Given intrinsics")
        return _named(photos, *_estimated(photos, intrinsics, 0.0, "with the given intrinsics"))
    if given is None:
        return _estimated_with_lens(photos, *lens)
    _check_alone((*lens, intrinsics), "Given cameras")
    found = _given(photos, given) if isinstance(given, Cameras) else _from_file(photos, Path(given))
    if (found.cameras.positions == found.cameras.positions[0]).all():
        raise ValueError("All given cameras stand in the same place, so depth cannot be seen.")
    return found


def undistorted_photos(
    photos: Photos,
    distortion: RadialDistortion,
    given: str | os.PathLike[str] | Cameras | None = None,
    focal_px: float | None = None,
    fov_degrees: float | None = None,
    principal_point: tuple[float, float] | None = None,
) -> list[Photo]:
    """The photos without the distortion of their lens; their cameras are those of such photos.

    Args:
        photos: All taken with the same lens.
        distortion: Its k1 and k2.
        given: As ``find_photo_cameras`` gets it; so are the others.
        focal_px: The focal length that the distortion was measured with.
        fov_degrees: Or the field of view.
        principal_point: And the point that it leaves in its place.

    Raises:
        ValueError: as ``find_photo_cameras`` and ``undistorted`` do.
        OSError: if the file cannot be read.
    """
    if given is None:
        focals = focals_of_photos(photos, focal_px, fov_degrees)
        intrinsics = _intrinsics(photos, focals, principal_point)
    elif isinstance(given, Cameras):
        intrinsics = list(given.intrinsics)
    else:
        views = _views_of(photos, read_cameras(Path(given)))
        intrinsics = [torch.from_numpy(view.intrinsics) for view in views]
    return [undistorted(p, k, distortion) for p, k in zip(photos, intrinsics, strict=True)]


def _given(photos: Photos, cameras: Cameras) -> PhotoCameras:
    if cameras.batch_shape != (len(photos),):
        raise ValueError(
            f"Expected cameras of shape ({len(photos)},), got {tuple(cameras.batch_shape)}."
        )
    return _named(photos, cameras.to("cpu"), "given cameras", {}, ())


def _from_file(photos: Photos, path: Path) -> PhotoCameras:
    file = read_cameras(path)
    views = _views_of(photos, file)
    stated = file.depth_range(*(view.file for view in views))
    warnings: tuple[str, ...] = ()
    if stated is None:
        # Any range will do here: it is what we ask for.
        rough = to_cameras(views, 1.0, 2.0)
        ranges = [
            scene_range_from_known_cameras(photos[0].pixels, photos[i].pixels, rough[[0, i]])
            for i in range(1, len(photos))
        ]
        stated = min(r.near for r in ranges), max(r.far for r in ranges)
        warnings = tuple(warning for r in ranges for warning in r.warnings)
    return PhotoCameras(
        to_cameras(views, *stated), tuple(views), f"given in {path.name}", {}, warnings
    )


def _check_alone(others: Sequence[object], what: str) -> None:
    if any(other is not None for other in others):
        raise ValueError(
            f"{what} have focal lengths and principal points: leave out those of the lens."
        )


def _estimated_with_lens(
    photos: Photos,
    focal_px: float | None,
    fov_degrees: float | None,
    principal_point: tuple[float, float] | None,
) -> PhotoCameras:
    focals = focals_of_photos(photos, focal_px, fov_degrees)
    intrinsics = _intrinsics(photos, focals, principal_point)
    uncertainty = max(focal.relative_uncertainty for focal in focals)
    source = FOCAL_SOURCES[focals[0].source]
    cameras, how, quality, doubts = _estimated(photos, intrinsics, uncertainty, source)
    return _named(photos, cameras, how, quality, (*_focal_warnings(focals), *doubts))


def _estimated(
    photos: Photos,
    intrinsics: Sequence[Float[Tensor, "3 3"]],
    focal_uncertainty: float,
    source: str,
) -> tuple[Cameras, str, dict[str, float], tuple[str, ...]]:
    """What ``_named`` takes."""
    of_photos = _estimated_pair if len(photos) == 2 else _estimated_many
    cameras, quality, doubts = of_photos(photos, intrinsics, focal_uncertainty)
    return cameras, f"estimated from the photos, {source}", quality, doubts


def _views_of(photos: Photos, file: CameraFile) -> list[ImageCamera]:
    """What a camera file says of photos, in pixels of their files."""
    return [
        file.find(photo.name).at_size(photo.original_size[1], photo.original_size[0])
        for photo in photos
    ]


def _intrinsics(
    photos: Photos,
    focals: Sequence[FocalEstimate],
    principal_point: tuple[float, float] | None = None,
) -> list[Float[Tensor, "3 3"]]:
    return [
        normalized_intrinsics(
            focal.focal_px, photo.width, photo.height, centre_of_photo(photo, principal_point)
        )
        for focal, photo in zip(focals, photos, strict=True)
    ]


def _estimated_pair(
    photos: Photos, intrinsics: Sequence[Float[Tensor, "3 3"]], focal_uncertainty: float
) -> _Estimate:
    left, right = (photo.pixels for photo in photos)
    estimate = estimate_two_view(left, right, intrinsics[0], intrinsics[1], focal_uncertainty)
    estimate = _refined(estimate, photos, focal_uncertainty)
    quality = {
        "matches": float(estimate.matches),
        "inliers": float(estimate.inliers),
        "in_front": estimate.in_front,
        "median_angle_deg": estimate.median_angle_deg,
        "median_epipolar_px": estimate.median_epipolar_px,
        "fitting_zoom": estimate.fitting_zoom,
        "repeated_share": estimate.repeated_share,
    }
    return estimate.cameras, quality, estimate.warnings


def _estimated_many(
    photos: Photos, intrinsics: Sequence[Float[Tensor, "3 3"]], focal_uncertainty: float
) -> _Estimate:
    pixels, names = [photo.pixels for photo in photos], [photo.name for photo in photos]
    estimate = estimate_multi_view(pixels, intrinsics, names, focal_uncertainty)
    quality = {
        "points": float(estimate.points),
        "fewest_points": float(min(estimate.seen)),
        "median_error_px": estimate.median_error_px,
    }
    return estimate.cameras, quality, estimate.warnings


def _refined(
    estimate: TwoViewEstimate, photos: Photos, focal_uncertainty: float
) -> TwoViewEstimate:
    """The estimate that fits matches of nearly every pixel, where there are enough of them."""
    matches = dense_matches(*at_working_size(photos, estimate.cameras, REFINEMENT_SIZE, 8))
    if len(matches.left) < FEWEST_DENSE_MATCHES:
        return estimate
    return refit_two_view(estimate, matches, focal_uncertainty)


def _focal_warnings(focals: Sequence[FocalEstimate]) -> list[str]:
    """The warnings about the photos; one is enough where nothing is known of any."""
    told = focals[:1] if all(focal.source == "default" for focal in focals) else focals
    return [focal.warning for focal in told if focal.warning is not None]


def at_working_size(
    photos: Photos, cameras: Cameras, size: int, multiple: int
) -> tuple[Float[Tensor, "photo 3 height width"], Cameras]:
    """All photos cropped to the same proportions and resized, and their cameras.

    Args:
        photos: Two or more.
        cameras: Of the whole photos, shape (photo,).
        size: Long side in pixels.
        multiple: What both sides are to be multiples of.
    """
    aspect = shared_aspect(photos)
    cropped = [crop_to_aspect(photo, aspect) for photo in photos]
    shape = working_size(cropped[0][0].width, cropped[0][0].height, size, multiple)
    images = torch.stack([to_tensor(photo, shape) for photo, _ in cropped])
    intrinsics = [
        crop_intrinsics(k, box) for k, (_, box) in zip(cameras.intrinsics, cropped, strict=True)
    ]
    return images, replace(cameras, intrinsics=torch.stack(intrinsics))


def _named(
    photos: Photos,
    cameras: Cameras,
    source: str,
    quality: dict[str, float],
    warnings: tuple[str, ...],
) -> PhotoCameras:
    names = [photo.name for photo in photos]
    views = from_cameras(cameras, names, [photo.original_size for photo in photos])
    return PhotoCameras(cameras, tuple(views), source, quality, warnings)
