"""Cameras estimated from the two photos, laid over the stated ones so that targets can be drawn."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hisplat_data_tools.datasets import PosedFolderDataset
from hisplat_data_tools.two_view import TwoViewError
from hisplat_models.cameras import Cameras

from ..photo_cameras import find_photo_cameras


class PairRefused(Exception):
    """The estimator could not solve this pair; the message says why."""


@dataclass(frozen=True)
class AlignedEstimate:
    """Estimated cameras of the two photos in the stated world, and how far off they are.

    Attributes:
        cameras: Both photos' cameras; the left one looks where the stated one does.
        rotation_error_deg: Angle between the estimated and the stated relative rotation.
        direction_error_deg: Angle between the estimated and the stated direction of the baseline.
        warnings: What the estimator warned about.
    """

    cameras: Cameras
    rotation_error_deg: float
    direction_error_deg: float
    warnings: tuple[str, ...]


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
    except TwoViewError as error:
        raise PairRefused(str(error)) from error
    return align(found.cameras, dataset[index].context_cameras, found.warnings)


def align(estimated: Cameras, stated: Cameras, warnings: tuple[str, ...] = ()) -> AlignedEstimate:
    """Moves and scales two estimated cameras onto the stated ones.

    The left camera is placed at its stated centre and turned so that its rays lie over the stated
    ones (with equal intrinsics: its stated pose), and lengths are scaled to the stated baseline.
    """
    turn = _rotation_between_rays(estimated[:1], stated[:1])
    length = _baseline(stated).norm() / _baseline(estimated).norm()
    scaled = estimated.scaled(float(length))
    pose = torch.eye(4)
    pose[:3, :3] = turn
    pose[:3, 3] = stated.positions[0] - turn @ scaled.positions[0]
    cameras = scaled.transformed(pose)
    relative = _relative_rotation(estimated).mT @ _relative_rotation(stated)
    directions = [
        c.camera_to_world[0, :3, :3].mT @ _baseline(c) / _baseline(c).norm()
        for c in (estimated, stated)
    ]
    return AlignedEstimate(
        cameras=cameras,
        rotation_error_deg=_angle_deg(relative),
        direction_error_deg=_chord_angle_deg((directions[0] - directions[1]).norm()),
        warnings=warnings,
    )


def _rotation_between_rays(source: Cameras, target: Cameras) -> Float[Tensor, "3 3"]:
    """The rotation that best lays the pixel rays of one camera over those of another."""
    rays = [
        torch.nn.functional.normalize(c.rays(16, 16)[0].double().reshape(-1, 3), dim=-1)
        for c in (source, target)
    ]
    # Orthogonal Procrustes (Kabsch) on unit directions.
    u, _, v = torch.linalg.svd(rays[1].mT @ rays[0])
    sign = torch.ones(3, dtype=torch.float64)
    sign[2] = torch.det(u @ v)
    return (u @ torch.diag(sign) @ v).float()


def _baseline(cameras: Cameras) -> Float[Tensor, "3"]:
    return cameras.positions[1] - cameras.positions[0]


def _relative_rotation(cameras: Cameras) -> Float[Tensor, "3 3"]:
    rotation = cameras.camera_to_world[:, :3, :3]
    return rotation[0].mT @ rotation[1]


def _angle_deg(rotation: Float[Tensor, "3 3"]) -> float:
    return _chord_angle_deg((rotation - torch.eye(3)).norm() / 2**0.5)


def _chord_angle_deg(chord: Tensor) -> float:
    """The angle between unit vectors that are this far apart; exact for small angles too."""
    return float(torch.rad2deg(2 * torch.asin((chord / 2).clamp(max=1.0))))
