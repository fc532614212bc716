"""Cameras estimated from the two photos, laid over the stated ones so that targets can be drawn."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from hisplat_data_tools.datasets import PosedFolderDataset
from hisplat_data_tools.two_view import TwoViewError, matched_points
from hisplat_models.cameras import Cameras

from ..photo_cameras import find_photo_cameras
from .alignment import Similarity, baseline, similarity_by_left, similarity_by_scene


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


def estimate_cameras(dataset: PosedFolderDataset, index: int, true_focal: bool) -> AlignedEstimate:
    """The cameras of one pair from its two photos alone, laid over the stated ones.

    With ``true_focal`` the estimator is told the stated horizontal focal length (the mean of both
    photos), as by a user's ``--focal``; else it takes what the program finds or guesses.

    Raises:
        PairRefused: if the estimator refuses the pair.
    """
    pair = dataset.pairs[index]
    left, right = dataset.photo(pair.left), dataset.photo(pair.right)
    focals = [
        dataset.camera(name).at_size(photo.width, photo.height).fx
        for name, photo in ((pair.left, left), (pair.right, right))
    ]
    focal_px = sum(focals) / 2 if true_focal else None
    try:
        found = find_photo_cameras((left, right), focal_px=focal_px)
        points = matched_points(left.pixels, right.pixels, found.cameras)
    except TwoViewError as error:
        raise PairRefused(str(error)) from error
    stated = dataset[index].context_cameras
    shown = torch.from_numpy(points).float()
    return align(found.cameras, stated, shown, found.warnings, found.quality)


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
