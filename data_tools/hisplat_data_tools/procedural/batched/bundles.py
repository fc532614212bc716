"""Bundles of rays through neighbouring pixels, and which parts of a scene each may meet."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from .scenes import SceneBatch


@dataclass(frozen=True)
class Bundles:
    """Rays in bundles of equal size; all rays of a bundle belong to one scene.

    Attributes:
        origins: Where rays begin, world units; one for a whole bundle if all begin there.
        directions: Any length; ray parameters count in it.
        limits: Ray parameters at which rays end; negative for rays that aren't there.
        scenes: The scene of each bundle.
    """

    origins: Float32[Tensor, "3 bundle ray_or_one"]
    directions: Float32[Tensor, "3 bundle ray"]
    limits: Float32[Tensor, "bundle ray"]
    scenes: Int64[Tensor, " bundle"]

    def chosen(self, bundles: Int64[Tensor, " chosen"]) -> "Bundles":
        """Some of the bundles."""
        return Bundles(
            self.origins[:, bundles],
            self.directions[:, bundles],
            self.limits[bundles],
            self.scenes[bundles],
        )

    def points(self, parameters: Float32[Tensor, "bundle ray"]) -> Float32[Tensor, "3 bundle ray"]:
        """Places on the rays."""
        return torch.addcmul(self.origins, self.directions, parameters)

    def ending_at(self, limits: Float32[Tensor, "bundle ray"]) -> "Bundles":
        """The same rays with other ends."""
        return replace(self, limits=limits)


def meetings(
    scenes: SceneBatch, rays: Bundles, most_pairs: int
) -> tuple[Int64[Tensor, " meeting"], Int64[Tensor, " meeting"]]:
    """Bundles and parts that may have something in common; every pair that has is among them.

    ``most_pairs`` bounds how many pairs are looked at together.
    """
    counts = scenes.part_starts.diff()
    at_once = max(most_pairs // int(counts.max()), 1)
    intervals = _intervals(rays)
    numbers = torch.arange(len(rays.scenes), device=rays.scenes.device)
    found = [_met(scenes, rays.scenes, intervals, some) for some in numbers.split(at_once)]
    bundles, parts = zip(*found, strict=True)
    return torch.cat(bundles), torch.cat(parts)


@dataclass(frozen=True)
class _Intervals:
    """Bounds on where the rays of each bundle are.

    All rays of a bundle lie between its least and greatest origin and direction along each axis. At
    parameter t they are within [o0 + t d0, o1 + t d1], which meets a part's [low, high] where
    t d0 <= high - o0 and -t d1 <= o1 - low: six bounds on t, from above where its factor is
    positive, from below where it is negative.

    Attributes:
        factors: d0, then -d1.
        constants: o0, then -o1.
        ends: Greatest parameters.
    """

    factors: Float32[Tensor, "bundle 6"]
    constants: Float32[Tensor, "bundle 6"]
    ends: Float32[Tensor, " bundle"]


def _met(
    scenes: SceneBatch,
    scene_of_bundle: Int64[Tensor, " bundle"],
    intervals: _Intervals,
    some: Int64[Tensor, " chosen"],
) -> tuple[Int64[Tensor, " meeting"], Int64[Tensor, " meeting"]]:
    """The meetings of some bundles."""
    number, part = _pairs(scenes, scene_of_bundle[some])
    bundle = some[number]
    slope = intervals.factors[bundle]
    bound = (scenes.part_boxes[part] - intervals.constants[bundle]) / slope
    infinity = torch.inf
    last = bound.masked_fill(slope < 0, infinity).amin(dim=1)
    first = bound.masked_fill(slope > 0, -infinity).amax(dim=1).clamp(min=0)
    # A little room, as bounds are rounded.
    possible = (first <= last * 1.0001 + 1e-6) & (first <= intervals.ends[bundle])
    found = possible.nonzero()[:, 0]
    return bundle[found], part[found]


def _intervals(rays: Bundles) -> _Intervals:
    active: Bool[Tensor, "bundle ray"] = rays.limits >= 0
    infinity = torch.inf
    low_direction = rays.directions.where(active, infinity).amin(dim=2)
    high_direction = rays.directions.where(active, -infinity).amax(dim=2)
    low_origin = rays.origins.where(active, infinity).amin(dim=2)
    high_origin = rays.origins.where(active, -infinity).amax(dim=2)
    factors = torch.cat([low_direction, -high_direction]).T
    # A factor of zero leaves t free if its constant is positive, and nothing otherwise.
    factors = torch.where(factors.abs() < 1e-12, 1e-12, factors)
    constants = torch.cat([low_origin, -high_origin]).T
    return _Intervals(factors, constants, rays.limits.amax(dim=1))


def _pairs(
    scenes: SceneBatch, scene_of_bundle: Int64[Tensor, " bundle"]
) -> tuple[Int64[Tensor, " pair"], Int64[Tensor, " pair"]]:
    """Every bundle with every part of its scene."""
    first = scenes.part_starts[scene_of_bundle]
    counts = scenes.part_starts[scene_of_bundle + 1] - first
    bundles = torch.arange(len(counts), device=counts.device)
    bundle = torch.repeat_interleave(bundles, counts)
    before = counts.cumsum(0) - counts
    part = torch.arange(len(bundle), device=counts.device) - (before - first)[bundle]
    return bundle, part
