"""What the other photos know of places that one photo cannot see, such as behind its surfaces."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from .cameras import Cameras
from .gaussian_head import image_grid
from .matching import MatchingPrior


@dataclass(frozen=True)
class Glimpses:
    """The same places in photos.

    Attributes:
        xy: Normalised, in [0, 1] inside a photo.
        depth: z-depth there; places behind the camera have a negative one.
        other: False in the photo that the places belong to.
    """

    xy: Float[Tensor, "batch view rows columns 2"]
    depth: Float[Tensor, "batch view rows columns"]
    other: Bool[Tensor, "view"]

    def inside(self, margin: float = 0.0) -> Bool[Tensor, "batch view rows columns"]:
        """Where another photo's frame, ``margin`` of its sides wider all around, has the place."""
        near_middle = ((self.xy - 0.5).abs() < 0.5 + margin).all(dim=-1)
        return near_middle & (self.depth > 0) & self.other[:, None, None]


def glimpses(
    cameras: Cameras, inverse_depth: Float[Tensor, "batch view rows columns"], padding: int
) -> list[Glimpses]:
    """The cells of each view's grid, at these inverse depths, as all photos see them.

    Args:
        cameras: Shape (batch, view).
        inverse_depth: 1 / z-depth in the cell's own view, > 0.
        padding: Cells of the grid beyond the photo on each side.
    """
    rows, columns = inverse_depth.shape[-2:]
    grid = image_grid(cameras, rows - 2 * padding, columns - 2 * padding, padding)
    grid = torch.cat([grid, torch.ones_like(grid[..., :1])], dim=-1)
    to_world = cameras.camera_to_world[..., :3, :3] @ torch.linalg.inv(cameras.intrinsics)
    rays = torch.einsum("bvij,hwj->bvhwi", to_world, grid)
    places = cameras.positions[:, :, None, None] + rays / inverse_depth[..., None]
    views = places.shape[1]
    every = torch.arange(views, device=places.device)
    made = []
    for view in range(views):
        for_all = places[:, view : view + 1].expand(-1, views, -1, -1, -1)
        seen = cameras.project(for_all.flatten(2, 3)).unflatten(2, (rows, columns))
        made.append(Glimpses(seen[..., :2], seen[..., 2], every != view))
    return made


def colors_in_other_photos(
    prior: MatchingPrior,
    cameras: Cameras,
    inverse_depth: Float[Tensor, "batch view rows columns"],
    cell: int,
    tolerance: float,
) -> tuple[Float[Tensor, "batch view 3 rows columns"], Float[Tensor, "batch view rows columns"]]:
    """Colours of cells at these inverse depths in the photos that see as far, and how many do.

    Args:
        prior: Colours and surfaces of all photos.
        cameras: Shape (batch, view).
        inverse_depth: Where each cell of each view is, without cells beyond the photo.
        cell: Photo pixels to a cell.
        tolerance: Relative difference by which a photo's surface may be nearer than the cell to
            count 1/e as much.
    """
    photos = avg_pool2d(prior.color.flatten(0, 1), cell)
    surfaces = prior.inverse_depth.flatten(0, 1)[:, None]
    colors, counts = [], []
    for seen in glimpses(cameras, inverse_depth, padding=0):
        inside = seen.inside()
        grid = torch.where(inside[..., None], 2 * seen.xy - 1, 0.0).flatten(0, 1)
        shape = inside.shape[:2]
        color = grid_sample(photos, grid, padding_mode="border", align_corners=False)
        surface = grid_sample(surfaces, grid, mode="nearest", align_corners=False)[:, 0]
        nearer = (surface.unflatten(0, shape) * seen.depth - 1).clamp_min(0) / tolerance
        count = torch.where(inside, torch.exp(-nearer.square()), 0.0)
        colors.append((count[:, :, None] * color.unflatten(0, shape)).sum(dim=1))
        counts.append(count.sum(dim=1))
    count = torch.stack(counts, dim=1)
    return torch.stack(colors, dim=1) / count.clamp_min(1e-6)[:, :, None], count
