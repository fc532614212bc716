"""What every evaluated method gets and gives; the two that need no surface."""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from hisplat_models.cameras import Cameras

from .shared_work import SharedWork


class MethodFailed(Exception):
    """A method cannot handle this pair; the message says why."""


@dataclass(frozen=True)
class Context:
    """The two photos a method reconstructs from.

    Attributes:
        images: At the working size, RGB in [0, 1].
        cameras: In the frame of the target cameras.
        median_depth: Middle z-depth of the triangulated matches, over both views.
        work: What methods made of these photos that others can use.
    """

    images: Float[Tensor, "2 3 height width"]
    cameras: Cameras
    median_depth: float
    work: SharedWork = field(default_factory=SharedWork)


@dataclass(frozen=True)
class Views:
    """What a method shows at the target cameras.

    Attributes:
        color: RGB over black, in [0, 1].
        alpha: How much of each pixel is covered, in [0, 1].
        depth: Expected z-depth, 0 where nothing is; None for methods without geometry.
    """

    color: Float[Tensor, "target 3 height width"]
    alpha: Float[Tensor, "target height width"]
    depth: Float[Tensor, "target height width"] | None

    def __getitem__(self, index: slice) -> "Views":
        """Some of the target views."""
        depth = None if self.depth is None else self.depth[index]
        return Views(self.color[index], self.alpha[index], depth)


@runtime_checkable
class Method(Protocol):
    """Draws the target views from two photos with known cameras.

    Raises:
        MethodFailed: if the pair is outside what the method can do.
    """

    def __call__(self, context: Context, targets: Cameras, size: tuple[int, int]) -> Views:
        """The views of the cameras ``targets`` (one leading axis) at ``size`` = (height, width)."""
        ...


def nearest_photo(context: Context, targets: Cameras, size: tuple[int, int]) -> Views:
    """The photo of the nearer camera, copied: what a method must beat to be of any use."""
    distances = torch.cdist(targets.positions, context.cameras.positions)
    copies = interpolate(context.images, size, mode="bilinear", antialias=True, align_corners=False)
    color = copies[distances.argmin(dim=1)].clamp(0, 1)
    return Views(color, torch.ones_like(color[:, 0]), None)


def single_plane(context: Context, targets: Cameras, size: tuple[int, int]) -> Views:
    """Both photos on one plane at the median depth, warped by its homographies and averaged.

    The plane faces the mean of both cameras' viewing directions. Pixels that neither photo shows
    are black and uncovered.
    """
    normal = context.cameras.camera_to_world[:, :3, 2].sum(dim=0)
    normal = normal / normal.norm()
    through = context.cameras.positions.mean(dim=0) + context.median_depth * normal
    rays = targets.rays(*size)
    height = ((through - targets.positions) @ normal)[:, None, None]
    slope = rays @ normal
    depth = torch.where(slope.abs() > 1e-6, height / slope, torch.inf)
    hits = torch.isfinite(depth) & (depth > 0)
    depth = torch.where(hits, depth, 1.0)
    points = targets.positions[:, None, None] + depth[..., None] * rays
    colors, seen = sample_photos(context, points)
    seen = seen & hits[:, None]
    weight = seen.to(depth.dtype)[:, :, None]
    color = (colors * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1.0)
    alpha = seen.any(dim=1).to(depth.dtype)
    return Views(color.clamp(0, 1), alpha, torch.where(alpha > 0, depth, 0.0))


def sample_photos(
    context: Context, points: Float[Tensor, "target height width 3"]
) -> tuple[Float[Tensor, "target 2 3 height width"], Bool[Tensor, "target 2 height width"]]:
    """Colours of world points in both photos, bilinearly, and whether they fall inside."""
    count, height, width = points.shape[:3]
    flat = points.reshape(1, -1, 3).expand(2, -1, -1)
    projected = context.cameras.project(flat)
    inside = (projected[..., 2] > 0) & ((projected[..., :2] - 0.5).abs() <= 0.5).all(dim=-1)
    grid = torch.where(inside[..., None], projected[..., :2] * 2 - 1, -2.0)
    colors = grid_sample(
        context.images, grid[:, :, None], padding_mode="border", align_corners=False
    )
    colors = colors.view(2, 3, count, height, width).permute(2, 0, 1, 3, 4)
    return colors, inside.view(2, count, height, width).transpose(0, 1)
