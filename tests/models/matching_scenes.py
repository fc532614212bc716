"""Tiny scenes with exact images and depth, ray cast on planes."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hisplat_models.cameras import Cameras

HEIGHT, WIDTH = 64, 96


@dataclass(frozen=True)
class TexturedPlane:
    """The points p with ``normal @ p = offset``, within a rectangle of world x and y."""

    normal: tuple[float, float, float]
    offset: float
    left: float = -np.inf
    right: float = np.inf
    seed: int = 0


SLANTED = (TexturedPlane((0.3, 0.1, 1.0), 4.0),)
TWO_PLANES = (
    TexturedPlane((0, 0, 1), 4.0, seed=1),
    TexturedPlane((0, 0, 1), 2.5, left=-0.4, right=0.5, seed=2),
)


def cameras_in_a_row(views: int = 2, baseline: float = 0.3, near=1.8, far=7.0) -> Cameras:
    """(1, views) cameras beside each other along x, each turned a little inwards."""
    pose = torch.eye(4).repeat(1, views, 1, 1)
    for view in range(views):
        angle = torch.tensor(-0.04 * view)
        pose[0, view, 0, 0] = pose[0, view, 2, 2] = angle.cos()
        pose[0, view, 0, 2], pose[0, view, 2, 0] = angle.sin(), -angle.sin()
        pose[0, view, 0, 3] = baseline * view
    intrinsics = torch.tensor([[1.0, 0, 0.5], [0, WIDTH / HEIGHT, 0.5], [0, 0, 1]])
    return Cameras(
        pose,
        intrinsics.repeat(1, views, 1, 1),
        torch.full((1, views), near),
        torch.full((1, views), far),
    )


def photograph(
    planes: tuple[TexturedPlane, ...], cameras: Cameras, height: int = HEIGHT, width: int = WIDTH
) -> tuple[Tensor, Tensor]:
    """Images (1, V, 3, H, W) and z-depths (1, V, H, W): the nearest plane along each ray."""
    rays = cameras.rays(height, width)[0].double().numpy()
    origins = cameras.positions[0].double().numpy()[:, None, None]
    depth = np.full(rays.shape[:-1], np.inf)
    color = np.zeros(rays.shape)
    for plane in planes:
        normal = np.array(plane.normal)
        distance = (plane.offset - origins @ normal) / (rays @ normal)
        points = origins + distance[..., None] * rays
        hit = (distance > 0) & (distance < depth)
        hit &= (points[..., 0] > plane.left) & (points[..., 0] < plane.right)
        depth = np.where(hit, distance, depth)
        color = np.where(hit[..., None], _texture(points, plane.seed), color)
    images = torch.from_numpy(color).movedim(-1, 1)[None].float()
    return images, torch.from_numpy(depth)[None].float()


def _texture(points: np.ndarray, seed: int) -> np.ndarray:
    """A sum of waves of many directions and lengths, different in every channel, in [0, 1]."""
    rng = np.random.default_rng(seed)
    color = np.full(points.shape, 0.5)
    for _ in range(24):
        direction = rng.normal(size=2) * rng.uniform(2, 12)
        phase = points[..., :2] @ direction
        color += 0.06 * np.sin(phase[..., None] + rng.uniform(0, 2 * np.pi, 3))
    return np.clip(color, 0, 1)
