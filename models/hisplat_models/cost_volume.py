"""Plane sweep: how well the views agree when every pixel lies at each candidate depth.

MVSplat (Chen et al., ECCV 2024), section 3.2, equations 1 to 3; HiSplat (ICLR 2025), section 3.3,
uses it at the coarsest stage. Pure functions, no weights.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ._correlation import correlate_rows
from .cameras import Cameras
from .rendering._threads import for_ranges

_MIN_DEPTH = 1e-3
"""Points behind a camera are projected as if at this z-depth, far outside its image."""
_ROWS_AT_ONCE = 8


def disparity_candidates(
    near: Float[Tensor, "*batch"], far: Float[Tensor, "*batch"], count: int
) -> Float[Tensor, "*batch count"]:
    """Inverse depths spaced evenly from 1 / far to 1 / near, farthest first.

    Raises:
        ValueError: unless 0 < near < far everywhere and count >= 2.
    """
    if count < 2 or not bool(((near > 0) & (near < far)).all()):
        raise ValueError(f"Expected 0 < near < far and two or more candidates, got {count}.")
    steps = torch.linspace(0, 1, count, dtype=near.dtype, device=near.device)
    farthest, nearest = 1 / far[..., None], 1 / near[..., None]
    return farthest + steps * (nearest - farthest)


def plane_sweep_cost_volume(
    features: Float[Tensor, "batch view channels height width"],
    cameras: Cameras,
    inverse_depths: Float[Tensor, "batch view candidates"],
    pixel_centers: bool = True,
    chunk: int = 8,
) -> Float[Tensor, "batch view candidates height width"]:
    """Correlation of each view's features with the mean of the other views', per candidate.

    A candidate's plane is fronto-parallel to the view. Correlations are inner products divided
    by sqrt(channels); points outside the other view count as zero. Gradients reach the features,
    not cameras or candidates.

    Args:
        features: One map per view, two views or more.
        cameras: (batch, view) cameras.
        inverse_depths: Candidates per view, > 0.
        pixel_centers: True: rays pass through the centres of the feature pixels. False: through
            their top-left corners, as in the published network, while the samples are still read
            at the centres; only right for weights trained that way.
        chunk: Candidates warped at once with gradients or on a GPU: memory is proportional to it.
            The warped features are recomputed in the backward pass instead of kept. On CPUs
            without gradients compiled loops warp nothing.
    """
    if features.dtype in (torch.bfloat16, torch.float16):
        features = features.float()
    views = features.shape[1]
    # Half a percent of rounding would move samples by whole pixels.
    with torch.autocast(features.device.type, enabled=False):
        sweeps = [
            _sweep(cameras, [(v + offset) % views for v in range(views)], features, pixel_centers)
            for offset in range(1, views)
        ]
        recorded = features.requires_grad and torch.is_grad_enabled()
        if features.device.type == "cpu" and not recorded:
            volume = fused_volume(features.detach(), sweeps, inverse_depths, pixel_centers)
        else:
            volume = warped_volume(features, sweeps, inverse_depths, pixel_centers, chunk)
    return volume / (views - 1)


def expected_disparity(
    logits: Float[Tensor, "batch view candidates height width"],
    inverse_depths: Float[Tensor, "batch view candidates"],
) -> tuple[Float[Tensor, "batch view 1 height width"], Float[Tensor, "batch view 1 height width"]]:
    """Mean inverse depth under the softmax of ``logits``, and the largest probability."""
    probabilities = logits.to(inverse_depths.dtype).softmax(dim=2)
    candidates = inverse_depths[..., None, None]
    mean = (probabilities * candidates).sum(dim=2, keepdim=True)
    lowest, highest = candidates.amin(dim=2, keepdim=True), candidates.amax(dim=2, keepdim=True)
    return mean.clamp(lowest, highest), probabilities.amax(dim=2, keepdim=True)


@dataclass(frozen=True)
class Sweep:
    """Where each view's pixels lie in another view, as functions of their depth.

    Attributes:
        other: The other view of each view.
        rays: A pixel at inverse depth d is seen at ray / d + origin, before the division by z.
        origin: See ``rays``; in feature pixels.
    """

    other: list[int]
    rays: Float[Tensor, "batch view height width 3"]
    origin: Float[Tensor, "batch view 3"]


@torch.no_grad()
def _sweep(cameras: Cameras, other: list[int], features: Tensor, pixel_centers: bool) -> Sweep:
    height, width = features.shape[-2:]
    offset = 0.5 if pixel_centers else 0.0
    x = torch.arange(width, dtype=features.dtype, device=features.device) + offset
    y = torch.arange(height, dtype=features.dtype, device=features.device) + offset
    pixels = torch.stack([*torch.meshgrid(x, y, indexing="xy"), x.new_ones(height, width)], -1)

    # Point in the other image, before the division by z: K' (R K^-1 pixel / disparity + t).
    K = cameras.intrinsics_px(height, width)
    pose = cameras.world_to_camera[:, other] @ cameras.camera_to_world
    through_pixel = K[:, other] @ pose[..., :3, :3] @ torch.linalg.inv(K)
    rays = torch.einsum("bvij,hwj->bvhwi", through_pixel, pixels)
    return Sweep(other, rays, (K[:, other] @ pose[..., :3, 3:])[..., 0])


def fused_volume(
    features: Tensor, sweeps: list[Sweep], inverse_depths: Tensor, pixel_centers: bool
) -> Float[Tensor, "batch view candidates height width"]:
    """The summed correlations by compiled loops: no warped features in memory, no gradients."""
    shape = features.shape[:2]
    height, width = features.shape[-2:]
    innermost = features.permute(0, 1, 3, 4, 2).contiguous()
    depths = inverse_depths.flatten(0, 1).to(features.dtype).contiguous()
    volume = features.new_zeros(shape.numel(), height, width, depths.shape[-1])
    center = 0.5 if pixel_centers else 0.0
    for sweep in sweeps:
        arrays = [
            x.flatten(0, 1).contiguous().numpy()
            for x in (innermost, innermost[:, sweep.other], sweep.rays, sweep.origin)
        ]

        def rows(start: int, stop: int, arrays: list[np.ndarray] = arrays) -> None:
            correlate_rows(*arrays, depths.numpy(), center, _MIN_DEPTH, volume.numpy(), start, stop)

        for_ranges(shape.numel() * height, _ROWS_AT_ONCE, rows)
    return volume.unflatten(0, shape).permute(0, 1, 4, 2, 3)


def warped_volume(
    features: Tensor,
    sweeps: list[Sweep],
    inverse_depths: Tensor,
    pixel_centers: bool,
    chunk: int,
) -> Float[Tensor, "batch view candidates height width"]:
    """The summed correlations by tensor operations, on any device and with gradients."""
    volume = features.new_zeros(())
    for sweep in sweeps:
        others = features[:, sweep.other]
        slices = []
        for some in inverse_depths.split(chunk, dim=-1):
            grid = sampling_grid(sweep, some, pixel_centers)
            arguments = (features, others, grid, pixel_centers)
            if features.requires_grad and torch.is_grad_enabled():
                slices.append(checkpoint(_correlation, *arguments, use_reentrant=False))
            else:
                slices.append(_correlation(*arguments))
        volume = volume + torch.cat(slices, dim=2)
    return volume


@torch.no_grad()
def sampling_grid(
    sweep: Sweep, inverse_depths: Float[Tensor, "batch view candidates"], pixel_centers: bool
) -> Float[Tensor, "batch view candidates height width 2"]:
    """Where the other view sees the pixels, in the units of ``grid_sample``."""
    height, width = sweep.rays.shape[2:4]
    origin = sweep.origin[:, :, None, None, None]
    points = sweep.rays[:, :, None] / inverse_depths[..., None, None, None] + origin
    xy = points[..., :2] / points[..., 2:].clamp(min=_MIN_DEPTH)
    size = xy.new_tensor([width, height])
    return 2 * xy / size - 1 if pixel_centers else 2 * xy / (size - 1) - 1


def _correlation(
    features: Tensor, others: Tensor, grid: Tensor, pixel_centers: bool
) -> Float[Tensor, "batch view candidates height width"]:
    batch, views, channels, height, width = features.shape
    warped = F.grid_sample(
        others.flatten(0, 1),
        grid.flatten(2, 3).flatten(0, 1),
        padding_mode="zeros",
        align_corners=not pixel_centers,
    )
    warped = warped.reshape(batch, views, channels, -1, height, width)
    return (features[:, :, :, None] * warped).sum(dim=2) / channels**0.5
