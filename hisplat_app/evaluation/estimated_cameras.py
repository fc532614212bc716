"""Cameras estimated from the two photos, laid over the stated ones so that targets can be drawn."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hisplat_data_tools.datasets import PosedFolderDataset
from hisplat_data_tools.images import Photo
from hisplat_data_tools.two_view import TwoViewError, estimate_two_view
from hisplat_models.cameras import Cameras


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

    With ``true_focal`` the estimator is told the stated horizontal focal length, as a user with
    ``--focal`` would; else it takes what the program guesses. The principal point is always the
    photo's centre.

    Raises:
        PairRefused: if the estimator refuses the pair.
    """
    pair = dataset.pairs[index]
    photos = [dataset.photo(name) for name in (pair.left, pair.right)]
    focals = [
        dataset.camera(name).at_size(photo.width, photo.height).fx if true_focal else None
        for name, photo in zip((pair.left, pair.right), photos, strict=True)
    ]
    intrinsics = [_intrinsics(photo, focal) for photo, focal in zip(photos, focals, strict=True)]
    try:
        found = estimate_two_view(
            photos[0].pixels, photos[1].pixels, *intrinsics, focal_is_guess=not true_focal
        )
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


def _intrinsics(photo: Photo, focal_px: float | None) -> Float[Tensor, "3 3"]:
    """Square pixels and a central principal point, as the program assumes for users."""
    assert focal_px is not None
    return torch.tensor(
        [[focal_px / photo.width, 0, 0.5], [0, focal_px / photo.height, 0.5], [0, 0, 1.0]]
    )
