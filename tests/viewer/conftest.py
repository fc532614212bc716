"""A scene without a browser."""

import pytest
import torch

from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import Gaussians, quaternions_to_matrices
from hisplat_models.rendering import create_renderer
from hisplat_viewer import Scene

HEIGHT, WIDTH = 24, 32


def rotation(generator: torch.Generator) -> torch.Tensor:
    return quaternions_to_matrices(torch.randn(4, generator=generator))


@pytest.fixture
def scene() -> Scene:
    """Random Gaussians of three levels before two cameras that stand anywhere in the world."""
    generator = torch.Generator().manual_seed(1)
    world = torch.eye(4)
    world[:3, :3] = rotation(generator)
    world[:3, 3] = torch.tensor([70.0, -30.0, 500.0])
    step = torch.eye(4)
    step[:3, :3] = quaternions_to_matrices(torch.tensor([1.0, 0.02, 0.05, 0.1]))
    step[0, 3] = 0.3
    count = 203
    means = torch.rand(count, 3, generator=generator) * torch.tensor([2.0, 2.0, 4.0])
    means = means + torch.tensor([-1.0, -1.0, 2.0])
    gaussians = Gaussians(
        means=means,
        scales=torch.rand(count, 3, generator=generator) * 0.1 + 0.02,
        quaternions_wxyz=torch.nn.functional.normalize(
            torch.randn(count, 4, generator=generator), dim=-1
        ),
        opacities=torch.rand(count, generator=generator) * 0.8 + 0.1,
        harmonics=torch.randn(count, 1, 3, generator=generator),
        level=torch.arange(count) % 3,
    ).transformed(world)
    intrinsics = torch.tensor([[1.0, 0, 0.5], [0, 4 / 3, 0.5], [0, 0, 1]]).repeat(2, 1, 1)
    cameras = Cameras(
        torch.stack([world, world @ step]), intrinsics, torch.ones(2), torch.full((2,), 10.0)
    )
    photos = torch.rand(2, 3, HEIGHT, WIDTH, generator=generator)
    confidence = torch.rand(count, generator=generator)
    renderer = create_renderer("cpu")
    return Scene(gaussians, cameras, photos, "a test", confidence=confidence, renderer=renderer)
