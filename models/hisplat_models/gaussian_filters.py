"""Which Gaussians of a scene are wanted: by level, opacity, size and place."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .gaussians import Gaussians


@dataclass(frozen=True)
class CropBox:
    """A box anywhere in the world.

    Attributes:
        world_to_box: Rigid motion into the frame whose origin is the box's centre and whose axes
            are its edges.
        half_size: Half the lengths of its edges, world units, > 0.
    """

    world_to_box: Float[Tensor, "4 4"]
    half_size: Float[Tensor, "3"]

    @staticmethod
    def between(lowest: Sequence[float], highest: Sequence[float]) -> "CropBox":
        """The box along the world's axes with these corners, three numbers each."""
        low, high = torch.tensor(lowest), torch.tensor(highest)
        world_to_box = torch.eye(4)
        world_to_box[:3, 3] = -(low + high) / 2
        return CropBox(world_to_box, (high - low) / 2)

    def contains(self, points: Float[Tensor, "*n 3"]) -> Bool[Tensor, "*n"]:
        """Which points lie in the box or on its sides."""
        pose = self.world_to_box.to(points)
        inside = points @ pose[:3, :3].mT + pose[:3, 3]
        return (inside.abs() <= self.half_size.to(points)).all(dim=-1)


@dataclass(frozen=True, eq=False)
class Filters:
    """What is kept; by default everything.

    Attributes:
        levels: Only these levels; None keeps all.
        min_opacity: Only Gaussians at least this opaque.
        sizes: Only Gaussians whose size is between these, ends included; world units.
        box: Only Gaussians whose centre is in it.
        scale: Factor on the standard deviations of what is kept, > 0.
    """

    levels: frozenset[int] | None = None
    min_opacity: float = 0.0
    sizes: tuple[float, float] = (0.0, float("inf"))
    box: CropBox | None = None
    scale: float = 1.0


def sizes(gaussians: Gaussians) -> Float[Tensor, "*batch n"]:
    """The largest standard deviation of each Gaussian, world units."""
    return gaussians.scales.amax(dim=-1)


def size_limits(
    ordered: Float[Tensor, "n"], low_percent: int | float, high_percent: int | float
) -> tuple[float, float]:
    """The sizes between which Gaussians are neither among the smallest nor among the largest.

    Args:
        ordered: All sizes, smallest first; at least one.
        low_percent: Share of the smallest, 0 to 100; 0 leaves out none.
        high_percent: Share of all but the largest, likewise; 100 leaves out none.
    """
    last = len(ordered) - 1
    low = 0.0 if low_percent == 0 else ordered[round(last * low_percent / 100)].item()
    high = float("inf") if high_percent == 100 else ordered[round(last * high_percent / 100)].item()
    return low, max(low, high)


def kept(gaussians: Gaussians, filters: Filters) -> Bool[Tensor, "*batch n"]:
    """Which Gaussians pass all filters.

    Raises:
        ValueError: if an opacity, a size or the scale is out of range.
    """
    smallest, largest = filters.sizes
    if not 0 <= filters.min_opacity <= 1:
        raise ValueError(f"Expected a least opacity from 0 to 1, got {filters.min_opacity}.")
    if not 0 <= smallest <= largest:
        raise ValueError(f"Expected 0 <= smallest <= largest size, got {smallest} and {largest}.")
    if not filters.scale > 0:
        raise ValueError(f"Expected a scale above 0, got {filters.scale}.")
    wanted = gaussians.opacities >= filters.min_opacity
    if filters.levels is not None:
        levels = torch.tensor(sorted(filters.levels), device=gaussians.level.device)
        wanted = wanted & torch.isin(gaussians.level, levels.to(gaussians.level))
    if smallest > 0 or largest < float("inf"):
        size = sizes(gaussians)
        wanted = wanted & (size >= smallest) & (size <= largest)
    if filters.box is not None:
        wanted = wanted & filters.box.contains(gaussians.means)
    return wanted


def filtered(gaussians: Gaussians, filters: Filters) -> Gaussians:
    """The Gaussians that pass all filters, scaled; for sets without leading axes.

    Raises:
        ValueError: as ``kept`` does, or if the set is batched.
    """
    if gaussians.means.dim() != 2:
        raise ValueError(f"Expected means of shape (n, 3), got {tuple(gaussians.means.shape)}.")
    chosen = gaussians[kept(gaussians, filters)]
    return replace(chosen, scales=chosen.scales * filters.scale)
