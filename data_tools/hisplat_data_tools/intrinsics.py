"""The focal length of a photo: from the user, from its EXIF tags, or a stated default.

All focal lengths are in pixels of ``photo.pixels``. The principal point is the middle of the photo
unless the user knows better.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from .images import Photo

DEFAULT_FOCAL = 1.0
"""Focal length over the long side that is assumed where nothing is known.

The middle of the real photos it was measured on (docs/cameras.md); phones have 0.7 to 0.8.
"""

DEFAULT_UNCERTAINTY = 0.15
EXIF_UNCERTAINTY = 0.03
CROPPED_UNCERTAINTY = 0.1

NARROWEST_DEG, WIDEST_DEG = 1.0, 170.0
"""Horizontal fields of view that a user may state."""

_FILM_DIAGONAL_MM = math.hypot(36, 24)
_PLAUSIBLE = (0.3, 30.0)  # focal length over the long side: from fisheye to long telephoto


@dataclass(frozen=True)
class FocalEstimate:
    """The focal length of one photo.

    Attributes:
        focal_px: In pixels of the photo as it was read.
        source: The user, the file or the default.
        relative_uncertainty: Standard deviation over the focal length, 0 if given by the user.
        warning: What the user should know, if anything.
    """

    focal_px: float
    source: Literal["given", "exif", "default"]
    relative_uncertainty: float
    warning: str | None = None


def focal_from_fov(fov_deg: float, width: int) -> float:
    """Focal length in pixels of a photo whose ``width`` spans this horizontal angle.

    Raises:
        ValueError: unless the angle is between 1 and 170 degrees.
    """
    if not NARROWEST_DEG <= fov_deg <= WIDEST_DEG:
        raise ValueError(
            f"Expected a field of view of {NARROWEST_DEG:g} to {WIDEST_DEG:g} degrees, got "
            f"{fov_deg}."
        )
    return 0.5 * width / math.tan(math.radians(fov_deg) / 2)


def focal_of_photo(
    photo: Photo, focal_px: float | None = None, fov_deg: float | None = None
) -> FocalEstimate:
    """The focal length that is given, else the one in the EXIF tags, else the default.

    Args:
        photo: The photo.
        focal_px: Given in pixels of the photo file (at its original size).
        fov_deg: Or given as the angle across the width of the upright photo.

    Raises:
        ValueError: if both are given, or one is out of range.
    """
    if focal_px is not None and fov_deg is not None:
        raise ValueError("Give the focal length or the field of view, not both.")
    if fov_deg is not None:
        return FocalEstimate(focal_from_fov(fov_deg, photo.width), "given", 0.0)
    if focal_px is not None:
        width = photo.original_size[1]
        least, most = focal_from_fov(WIDEST_DEG, width), focal_from_fov(NARROWEST_DEG, width)
        if not least <= focal_px <= most:
            raise ValueError(
                f"Expected a focal length of {least:.0f} to {most:.0f} px for {photo.name}, which "
                f"is {width} px wide, got {focal_px:g}."
            )
        return FocalEstimate(focal_px * photo.width / width, "given", 0.0)
    return _focal_from_exif(photo) or FocalEstimate(
        DEFAULT_FOCAL * max(photo.width, photo.height),
        "default",
        DEFAULT_UNCERTAINTY,
        f"{photo.name} does not say its focal length, so {DEFAULT_FOCAL:g} times its long side was "
        "assumed and corrected as far as the photos tell; give the focal length or the field of "
        "view if you know it.",
    )


def focals_of_photos(
    photos: Sequence[Photo], focal_px: float | None = None, fov_deg: float | None = None
) -> tuple[FocalEstimate, ...]:
    """The focal lengths of photos; one without EXIF tags takes over that of one of its size.

    Args:
        photos: The first one first.
        focal_px: Given for all in pixels of their files.
        fov_deg: Or given as the angle across the width of the first photo, and of all held like it;
            those held the other way are the same camera's, turned.

    Raises:
        ValueError: if both options are given, or one is out of range.
    """
    own = [focal_of_photo(photo, focal_px, fov_deg) for photo in photos]
    if fov_deg is not None:
        return tuple(
            _turned(own[0], photos[0], photo) if _is_turned(photos[0], photo) else focal
            for photo, focal in zip(photos, own, strict=True)
        )
    known = {
        tuple(sorted(photo.original_size)): (focal, photo)
        for photo, focal in reversed(list(zip(photos, own, strict=True)))
        if focal.source == "exif"
    }

    def best(photo: Photo, focal: FocalEstimate) -> FocalEstimate:
        other = known.get(tuple(sorted(photo.original_size)))
        if focal.source != "default" or other is None:
            return focal
        return _taken_over(other[0], other[1], photo)

    return tuple(best(photo, focal) for photo, focal in zip(photos, own, strict=True))


def _is_turned(first: Photo, photo: Photo) -> bool:
    """Whether one is upright and the other lies on its side; squares are neither."""
    return (first.width - first.height) * (photo.width - photo.height) < 0


def _turned(focal: FocalEstimate, first: Photo, photo: Photo) -> FocalEstimate:
    """That of the first photo's camera turned by a quarter, in pixels of another size."""
    scale = max(photo.width, photo.height) / max(first.width, first.height)
    return replace(focal, focal_px=focal.focal_px * scale)


def centre_of_photo(
    photo: Photo, principal_point: tuple[float, float] | None = None
) -> tuple[float, float]:
    """The principal point as shares of width and height: the one given, else the middle.

    Args:
        photo: The photo.
        principal_point: x and y in pixels of the photo file, from its upper left corner.

    Raises:
        ValueError: if it is not in the photo.
    """
    if principal_point is None:
        return 0.5, 0.5
    height, width = photo.original_size
    x, y = principal_point[0] / width, principal_point[1] / height
    if not (0 < x < 1 and 0 < y < 1):
        raise ValueError(
            f"Expected a principal point in {photo.name}, {width}x{height} pixels, got "
            f"{principal_point[0]:g}, {principal_point[1]:g}."
        )
    return x, y


def normalized_intrinsics(
    focal_px: float, width: int, height: int, centre: tuple[float, float] = (0.5, 0.5)
) -> Float[Tensor, "3 3"]:
    """The matrix with square pixels, rows over the size; ``centre`` as shares of the size."""
    x, y = centre
    return torch.tensor([[focal_px / width, 0, x], [0, focal_px / height, y], [0, 0, 1]])


def _taken_over(focal: FocalEstimate, known: Photo, unknown: Photo) -> FocalEstimate:
    scale = max(unknown.width, unknown.height) / max(known.width, known.height)
    warning = f"{unknown.name} does not say its focal length; that of {known.name} was used."
    return FocalEstimate(focal.focal_px * scale, "exif", focal.relative_uncertainty, warning)


def _focal_from_exif(photo: Photo) -> FocalEstimate | None:
    exif = photo.exif
    stored = sorted(photo.stored_size, reverse=True)
    captured = stored
    if exif.captured_width and exif.captured_height:
        captured = sorted((exif.captured_width, exif.captured_height), reverse=True)
    # A resized photo keeps its proportions; a cropped one usually keeps one of its sides.
    to_stored = max(stored[0] / captured[0], stored[1] / captured[1])
    is_cropped = abs(stored[0] * captured[1] / (stored[1] * captured[0]) - 1) > 0.02
    candidates = []
    if exif.focal_35mm:
        # The 35 mm equivalent compares diagonals (CIPA DCG-001).
        candidates.append(exif.focal_35mm / _FILM_DIAGONAL_MM * math.hypot(*captured) * to_stored)
    if exif.focal_mm and exif.sensor_px_per_mm:
        candidates.append(exif.focal_mm * exif.sensor_px_per_mm * to_stored)
    plausible = [f for f in candidates if _PLAUSIBLE[0] < f / stored[0] < _PLAUSIBLE[1]]
    if not plausible:
        return None
    # The 35 mm equivalent comes first: editors leave a wrong sensor resolution behind.
    focal_px = plausible[0] * max(photo.width, photo.height) / stored[0]
    if is_cropped:
        warning = f"{photo.name} was cropped after it was taken; its focal length is uncertain."
        return FocalEstimate(focal_px, "exif", CROPPED_UNCERTAINTY, warning)
    return FocalEstimate(focal_px, "exif", EXIF_UNCERTAINTY)
