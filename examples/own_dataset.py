"""A dataset of one's own: anything with a length that yields ``Example`` by index.

This one shows blotchy walls at a known depth. The training loop takes it as it is.

python examples/own_dataset.py --run-dir runs/walls
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch import Tensor
from torch.nn.functional import grid_sample

from hisplat_models.cameras import Cameras
from hisplat_models.config import PRESETS
from hisplat_models.example import Example
from hisplat_models.network import HiSplat
from hisplat_models.training.loop import Trainer, TrainSettings

WALL_HALF_WIDTH = 2.5  # world units; more than the cameras see of the farthest wall


@dataclass(frozen=True)
class Walls:
    """Walls that face the cameras, 1.5 to 3 units away; item ``i`` depends on ``i`` alone.

    Attributes:
        length: Number of examples.
        size: Side of the square pictures in pixels.
    """

    length: int
    size: int = 64

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < self.length:
            raise IndexError(f"Item {index} of {self.length}")
        generator = torch.Generator().manual_seed(index)
        wall = torch.rand(1, 3, 96, 96, generator=generator)
        depth_z = 1.5 + 1.5 * torch.rand((), generator=generator)
        context, target = _cameras([-0.1, 0.1]), _cameras([0.0])
        return Example(
            name=f"walls/{index}",
            context_images=self._pictures(wall, depth_z, context),
            context_cameras=context,
            target_images=self._pictures(wall, depth_z, target),
            target_cameras=target,
            context_depth=depth_z.expand(2, self.size, self.size),
            target_depth=depth_z.expand(1, self.size, self.size),
        )

    def _pictures(self, wall: Tensor, depth_z: Tensor, cameras: Cameras) -> Tensor:
        rays = cameras.rays(self.size, self.size)
        points = cameras.positions[:, None, None] + depth_z * rays
        where = points[..., :2] / WALL_HALF_WIDTH
        return grid_sample(wall.expand(len(where), -1, -1, -1), where, align_corners=False)


def _cameras(places: list[float]) -> Cameras:
    """Cameras side by side that look along z."""
    count = len(places)
    pose = torch.eye(4).repeat(count, 1, 1)
    pose[:, 0, 3] = torch.tensor(places)
    intrinsics = torch.tensor([[1.0, 0, 0.5], [0, 1.0, 0.5], [0, 0, 1.0]]).repeat(count, 1, 1)
    return Cameras(pose, intrinsics, torch.full((count,), 1.0), torch.full((count,), 4.0))


def main(run_dir: Path, steps: int = 20) -> None:
    """Trains the small network on walls.

    Args:
        run_dir: Where checkpoints, logs and weights go.
        steps: Optimiser steps.
    """
    settings = TrainSettings(steps=steps, batch_size=2, workers=0, evaluate_every=steps)
    network = HiSplat(PRESETS["hisplat-small"])
    trainer = Trainer(network, Walls(16), Walls(2), settings, run_dir)
    trainer.run(lambda progress: print(f"step {progress.step}: loss {progress.loss:.3f}"))


if __name__ == "__main__":
    tyro.cli(main)
