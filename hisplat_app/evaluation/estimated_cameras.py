"""Cameras estimated from the two photos, laid over the stated ones so that targets can be drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from hisplat_data_tools.cameras_json import ImageCamera
from hisplat_data_tools.datasets import PosedFolderDataset
from hisplat_data_tools.images import Photo
from hisplat_data_tools.known_cameras import matched_points
from hisplat_data_tools.two_view import TwoViewError
from hisplat_models.cameras import Cameras

from ..photo_cameras import find_photo_cameras
from .alignment import Similarity, baseline, similarity_by_left, similarity_by_scene

KnownLens = Literal["intrinsics", "focal", "nothing"]
"""What the estimator is told of the stated cameras' lenses."""


class PairRefused(Exception):
    """The estimator could not solve this pair; the message says why."""


@dataclass(frozen=True)
class AlignedEstimate:
    """Estimated cameras of the two photos in the stated world, and how far off they are.

    Attributes:
        cameras: Both photos' cameras, laid over the stated ones by the scene.
        from_left: From the frame in which the left camera is as stated to that of ``cameras``:
            stated targets moved by it see the scene as if it were laid by the left camera.
        rotation_error_deg: Angle between the estimated and the stated relative rotation.
        direction_error_deg: Angle between the estimated and the stated direction of the baseline.
        warnings: What the estimator warned about.
        quality: Its figures about the estimate.
    """

    cameras: Cameras
    from_left: Similarity
    rotation_error_deg: float
    direction_error_deg: float
    warnings: tuple[str, ...]
    quality: dict[str, float]


def estimate_cameras(
    dataset: PosedFolderDataset, index: int, known_lens: KnownLens = "intrinsics"
) -> AlignedEstimate:
    """The cameras of one pair from its two photos alone, laid over the stated ones.

    Args:
        dataset: Of the pair.
        index: Of the pair.
        known_lens: What the estimator is told: the stated intrinsics of both photos; their
            horizontal focal length (the mean of both), as by a user's ``--focal``, with the
            principal point in the middle; or nothing but what the photos' files say.

    Raises:
        PairRefused: if the estimator refuses the pair.
    """
    pair = dataset.pairs[index]
    left, right = dataset.photo(pair.left), dataset.photo(pair.right)
    views = dataset.camera(pair.left), dataset.camera(pair.right)
    try:
        found = find_photo_cameras((left, right), **lens_to_tell((left, right), views, known_lens))
        points = matched_points(left.pixels, right.pixels, found.cameras)
    except TwoViewError as error:
        raise PairRefused(str(error)) from error
    stated = dataset[index].context_cameras
    shown = torch.from_numpy(points).float()
    return align(found.cameras, stated, shown, found.warnings, found.quality)


def lens_to_tell(
    photos: Sequence[Photo], views: Sequence[ImageCamera], known: KnownLens
) -> dict[str, Any]:
    """What of the photos' stated cameras ``find_photo_cameras`` gets."""
    sizes = [(photo.original_size[1], photo.original_size[0]) for photo in photos]
    stated = [view.at_size(*size) for view, size in zip(views, sizes, strict=True)]
    if known == "intrinsics":
        return {"intrinsics": [torch.from_numpy(view.intrinsics).float() for view in stated]}
    if known == "focal":
        return {"focal_px": sum(view.fx for view in stated) / len(stated)}
    return {}


def align(
    estimated: Cameras,
    stated: Cameras,
    points: Float[Tensor, "n 3"],
    warnings: tuple[str, ...] = (),
    quality: Mapping[str, float] = MappingProxyType({}),
) -> AlignedEstimate:
    """Two estimated cameras, moved and scaled onto the stated ones.

    Args:
        estimated: Shape (2,).
        stated: Likewise.
        points: Of the estimated scene in its frame, before both cameras.
        warnings: To pass on.
        quality: Likewise.
    """
    by_left = similarity_by_left(estimated, stated)
    by_scene = similarity_by_scene(estimated, stated, points)
    relative = _relative_rotation(estimated).mT @ _relative_rotation(stated)
    directions = [
        c.camera_to_world[0, :3, :3].mT @ baseline(c) / baseline(c).norm()
        for c in (estimated, stated)
    ]
    return AlignedEstimate(
        cameras=by_scene.of_cameras(estimated),
        from_left=by_scene.after(by_left.inverse()),
        rotation_error_deg=_angle_deg(relative),
        direction_error_deg=_chord_angle_deg((directions[0] - directions[1]).norm()),
        warnings=warnings,
        quality=dict(quality),
    )


def _relative_rotation(cameras: Cameras) -> Float[Tensor, "3 3"]:
    rotation = cameras.camera_to_world[:, :3, :3]
    return rotation[0].mT @ rotation[1]


def _angle_deg(rotation: Float[Tensor, "3 3"]) -> float:
    return _chord_angle_deg((rotation - torch.eye(3)).norm() / 2**0.5)


def _chord_angle_deg(chord: Tensor) -> float:
    """The angle between unit vectors that are this far apart; exact for small angles too."""
    return float(torch.rad2deg(2 * torch.asin((chord / 2).clamp(max=1.0))))
