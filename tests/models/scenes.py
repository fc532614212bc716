"""Small synthetic scenes for tests of the network, rendered by our own renderer."""

import math

import torch

from hisplat_models.cameras import Cameras
from hisplat_models.example import Example
from hisplat_models.gaussians import Gaussians
from hisplat_models.rendering import CpuRenderer


def sideways_cameras(count: int, baseline: float, near: float = 2.0, far: float = 8.0) -> Cameras:
    """(count,) cameras along x, looking at z, with a field of view of about 53 degrees."""
    pose = torch.eye(4).repeat(count, 1, 1)
    pose[:, 0, 3] = torch.linspace(-baseline / 2, baseline / 2, count)
    intrinsics = torch.tensor([[1.0, 0, 0.5], [0, 1.0, 0.5], [0, 0, 1]]).repeat(count, 1, 1)
    return Cameras(pose, intrinsics, torch.full((count,), near), torch.full((count,), far))


def wall_of_gaussians(seed: int = 0, count: int = 6000) -> Gaussians:
    """(1, n) coloured, nearly opaque blobs on a wall at z = 5 with a box in front at z = 3.5."""
    generator = torch.Generator().manual_seed(seed)
    xy = (torch.rand(count, 2, generator=generator) - 0.5) * 8
    z = torch.where((xy.abs() < 0.7).all(-1), 3.5, 5.0)
    return Gaussians(
        means=torch.cat([xy, z[:, None]], -1)[None],
        scales=torch.full((1, count, 3), 0.06),
        quaternions_wxyz=torch.tensor([1.0, 0, 0, 0]).expand(1, count, 4),
        opacities=torch.full((1, count), 0.95),
        harmonics=(torch.rand(1, count, 1, 3, generator=generator) - 0.5) * 3,
        level=torch.zeros(1, count, dtype=torch.long),
    )


def example(
    seed: int = 0, height: int = 48, width: int = 64, views: int = 2, targets: int = 1
) -> Example:
    """Context views at the ends of a sideways move and targets between, unbatched."""
    gaussians = wall_of_gaussians(seed)
    context = sideways_cameras(views, 0.6)
    between = sideways_cameras(targets + 2, 0.6)[1:-1]
    renderer = CpuRenderer()
    seen = renderer(gaussians, context[None], (height, width))
    wanted = renderer(gaussians, between[None], (height, width))
    return Example(
        name=f"wall/{seed}",
        context_images=seen.color[0].clamp(0, 1),
        context_cameras=context,
        target_images=wanted.color[0].clamp(0, 1),
        target_cameras=between,
        context_depth=seen.expected_depth()[0],
        target_depth=wanted.expected_depth()[0],
    )


def rigid_pose(angle: float, translation: tuple[float, float, float]) -> torch.Tensor:
    """(4, 4): a turn about a skew axis, then a shift."""
    axis = torch.nn.functional.normalize(torch.tensor([1.0, 2.0, 3.0]), dim=0)
    x, y, z = axis
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    pose = torch.eye(4)
    pose[:3, :3] += math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
    pose[:3, 3] = torch.tensor(translation)
    return pose
