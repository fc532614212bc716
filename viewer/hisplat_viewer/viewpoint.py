"""Where somebody stands in the world, and the cameras that see the same."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import quaternions_to_matrices
from hisplat_models.home_view import FAR, NEAR, intrinsics_of_view

from .scene import MEDIAN_DEPTH, DisplayFrame

SMALLEST_SIDE = 16
"""Pixels; codecs want that much."""


@dataclass(frozen=True)
class Viewpoint:
    """The eye of a browser, in the world frame of the scene.

    Attributes:
        camera_to_world: Rigid pose, OpenCV axes.
        fov_y: Vertical field of view, radians.
        depth: From the first view to the scene, world units.
    """

    camera_to_world: Float[Tensor, "4 4"]
    fov_y: float
    depth: float

    @staticmethod
    def of(
        position: Float[np.ndarray, "3"],
        wxyz: Float[np.ndarray, "4"],
        fov_y: float,
        frame: DisplayFrame,
    ) -> "Viewpoint":
        """The world's view of a position and a rotation in display coordinates."""
        world_to_view = frame.world_to_view.double()
        turn = quaternions_to_matrices(torch.as_tensor(wxyz, dtype=torch.float64))
        eye = torch.as_tensor(position, dtype=torch.float64) / frame.scale
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3] = world_to_view[:3, :3].T @ turn
        pose[:3, 3] = world_to_view[:3, :3].T @ (eye - world_to_view[:3, 3])
        return Viewpoint(pose, float(fov_y), MEDIAN_DEPTH / frame.scale)


def cameras_at(viewpoints: Sequence[Viewpoint], aspect: int | float) -> Cameras:
    """Cameras of shape (viewpoint,) for pictures of ``aspect`` = width / height."""
    intrinsics = torch.stack([intrinsics_of_view(v.fov_y, aspect) for v in viewpoints])
    depth = torch.tensor([viewpoint.depth for viewpoint in viewpoints])
    poses = torch.stack([viewpoint.camera_to_world for viewpoint in viewpoints])
    return Cameras(poses.float(), intrinsics, NEAR * depth, FAR * depth)


def picture_size(aspect: int | float, long_side: int) -> tuple[int, int]:
    """(height, width) with that long side and proportions; even, as videos need it."""
    if aspect > 1:
        return _even(long_side / aspect), _even(long_side)
    return _even(long_side), _even(long_side * aspect)


def checked_side(length: int | float, largest: int) -> int:
    """The length in whole pixels.

    Raises:
        ValueError: if it is out of range.
    """
    if not SMALLEST_SIDE <= length <= largest:
        raise ValueError(f"Expected {SMALLEST_SIDE} to {largest} pixels, got {length:g}.")
    return round(length)


def _even(length: int | float) -> int:
    return max(2, 2 * round(length / 2))
