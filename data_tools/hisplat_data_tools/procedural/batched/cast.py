"""Pictures of many scenes at once: light, depth and sky, on any device.

The same scenes as ``render`` draws, and the same pictures but for the rounding of single
precision: it decides anew which of two surfaces a ray through their common edge meets.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

from ..render import FARTHEST, NEAREST, Camera, ray_offsets
from .bundles import Bundles
from .scenes import SceneBatch
from .shading import radiance
from .sky import dome_distance
from .trace import trace

TILE = 8
"""Side of the square of pixels whose rays are a bundle."""


@dataclass(frozen=True)
class Views:
    """Pictures to be taken.

    Attributes:
        poses: Camera to world, OpenCV axes.
        intrinsics: First row divided by the width, second by the height.
        scenes: The scene of each view.
    """

    poses: Float64[Tensor, "view 4 4"]
    intrinsics: Float64[Tensor, "view 3 3"]
    scenes: Int64[Tensor, " view"]

    @classmethod
    def of(cls, cameras: Sequence[Camera], scenes: Sequence[int]) -> "Views":
        """The views of cameras in these scenes of a batch."""
        return cls(
            torch.from_numpy(np.stack([camera.camera_to_world for camera in cameras])),
            torch.from_numpy(np.stack([camera.intrinsics for camera in cameras])),
            torch.tensor(scenes),
        )

    def to(self, device: torch.device) -> "Views":
        """The same on another device."""
        return Views(self.poses.to(device), self.intrinsics.to(device), self.scenes.to(device))


@dataclass(frozen=True)
class Renderings:
    """What views see.

    Attributes:
        radiance: Linear light, >= 0, averaged over the rays of each pixel.
        depth: z-depth at the pixel centres.
        is_sky: Pixels whose centre sees the dome around the scene.
    """

    radiance: Float32[Tensor, "view height width 3"]
    depth: Float32[Tensor, "view height width"]
    is_sky: Bool[Tensor, "view height width"]


@dataclass(frozen=True)
class Workload:
    """How much is computed at a time: more is faster on a GPU, and takes more memory.

    Attributes:
        rays: Rays cast together; about 450 bytes each.
        tests: Rays compared with a shape, or bundles with parts, together; about 200 bytes each.
    """

    rays: int
    tests: int

    @classmethod
    def for_device(cls, device: torch.device) -> "Workload":
        """What fills a GPU, in some 4 GB of its memory, or a processor's cache."""
        return cls(1 << 22, 1 << 23) if device.type == "cuda" else cls(1 << 17, 1 << 18)


@torch.no_grad()
def cast(
    scenes: SceneBatch,
    views: Views,
    height: int,
    width: int,
    samples_per_pixel: int = 4,
    workload: Workload | None = None,
) -> Renderings:
    """What the views see, with ``samples_per_pixel`` shaded rays a pixel.

    Scenes and views must be on one device; the pictures are there too.
    """
    device = scenes.skies.device
    workload = workload or Workload.for_device(device)
    offsets = torch.from_numpy(ray_offsets(samples_per_pixel)).to(device)
    rows, columns = math.ceil(height / TILE), math.ceil(width / TILE)
    tiles = torch.arange(len(views.scenes) * rows * columns, device=device)
    at_once = max(workload.rays // (TILE * TILE * samples_per_pixel), 1)
    parts = []
    for some in tiles.split(at_once):
        view, row, column = some // (rows * columns), some // columns % rows, some % columns
        rays, spread = _rays(views, view, row, column, offsets, (height, width))
        parts.append(_picture(scenes, rays, spread, samples_per_pixel, workload.tests))
    light, depth, is_sky = (
        torch.cat(part).unflatten(0, (-1, rows, columns)) for part in zip(*parts, strict=True)
    )
    return Renderings(
        *(
            part.transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, :height, :width].contiguous()
            for part in (light, depth, is_sky)
        )
    )


def _rays(
    views: Views,
    view: Int64[Tensor, " tile"],
    row: Int64[Tensor, " tile"],
    column: Int64[Tensor, " tile"],
    offsets: Float64[Tensor, "sample 2"],
    size: tuple[int, int],
) -> tuple[Bundles, Float32[Tensor, " tile"]]:
    """All rays of tiles (pixels row by row, samples innermost), and the angle between them.

    Directions are scaled to unit z-depth, so that parameters are z-depths.
    """
    height, width = size
    intrinsics, pose = views.intrinsics[view], views.poses[view]
    fx, fy = intrinsics[:, 0, 0] * width, intrinsics[:, 1, 1] * height
    inner = torch.arange(TILE, device=view.device)
    x = (column[:, None] * TILE + inner)[:, None, :, None] + offsets[:, 0]
    y = (row[:, None] * TILE + inner)[:, :, None, None] + offsets[:, 1]
    x = ((x - (intrinsics[:, 0, 2] * width).view(-1, 1, 1, 1)) / fx.view(-1, 1, 1, 1)).float()
    y = ((y - (intrinsics[:, 1, 2] * height).view(-1, 1, 1, 1)) / fy.view(-1, 1, 1, 1)).float()
    axes = pose[:, :3, :3].float().permute(1, 2, 0)[..., None, None, None]
    directions = torch.stack([axis[0] * x + axis[1] * y + axis[2] for axis in axes]).flatten(2)
    origins = pose[:, :3, 3].float().T[..., None]
    limits = torch.full_like(directions[0], FARTHEST)
    spread = ((fx * fy).sqrt() * math.sqrt(len(offsets))).reciprocal().float()
    return Bundles(origins, directions, limits, views.scenes[view]), spread


def _picture(
    scenes: SceneBatch, rays: Bundles, spread: Float32[Tensor, " tile"], samples: int, tests: int
) -> tuple[Float32[Tensor, "tile 8 8 3"], Float32[Tensor, "tile 8 8"], Bool[Tensor, "tile 8 8"]]:
    """Light, depth and sky of tiles."""
    hits = trace(scenes, rays, NEAREST, tests)
    light = radiance(scenes, rays, hits, spread, tests).unflatten(2, (TILE, TILE, samples))
    # The first sample of a pixel is its centre.
    depth, is_sky = hits.parameters[:, ::samples], hits.shapes[:, ::samples] < 0
    directions = rays.directions[:, :, ::samples]
    sky = scenes.skies[rays.scenes][:, None].expand(-1, depth.shape[1], -1)
    dome = dome_distance(
        sky.flatten(0, 1), rays.origins.expand_as(directions).flatten(1), directions.flatten(1)
    )
    depth = torch.where(is_sky, dome.view_as(depth), depth)
    shape = (TILE, TILE)
    return (
        light.mean(dim=-1).permute(1, 2, 3, 0),
        depth.unflatten(1, shape),
        is_sky.unflatten(1, shape),
    )
