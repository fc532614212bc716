"""Scenes of many pairs as one: what other views contradict is dropped, duplicates are merged."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import Gaussians

from .defaults import MOST_GAUSSIANS


@dataclass(frozen=True)
class FusionSettings:
    """When Gaussians are the same, and when they are wrong."""

    cell: float = 0.8
    """Side of the voxels in which Gaussians are merged, in pixels of the photo they come from."""
    depth_tolerance: float = 0.05
    """Relative difference of depths that counts as the same surface."""
    color_tolerance: float = 0.25
    """Mean difference of RGB, in [0, 1], up to which the same surface has the same colour."""
    known_tolerance: float = 0.15
    """Relative difference of depths up to which another pair's surface is taken for the same."""
    as_fine: float = 1.5
    """A surface is known if the pixels that showed it are no more than this times larger."""
    most: int = MOST_GAUSSIANS
    """Gaussians in all; voxels grow until there are no more."""


DEFAULT = FusionSettings()


@dataclass(frozen=True)
class Surface:
    """What one view of a pair says about the scene; small, since a capture has many.

    Attributes:
        camera: Of the view at the size of its maps, no leading axes.
        inverse_depth: 1 / z-depth, half precision.
        trusted: Where the pair's other view has the same surface.
        color: The photo, 8-bit RGB.
    """

    camera: Cameras
    inverse_depth: Float[Tensor, "height width"]
    trusted: Bool[Tensor, "height width"]
    color: UInt8[Tensor, "3 height width"]


@dataclass(frozen=True)
class Fragment:
    """Gaussians with the size on the surface of the photo's pixels they stand for.

    Attributes:
        gaussians: Without leading axes.
        footprint: Side of a pixel at their depth, world units, > 0.
    """

    gaussians: Gaussians
    footprint: Float[Tensor, "n"]


def fused(
    fragments: Sequence[Fragment],
    surfaces: Sequence[Surface],
    settings: FusionSettings = DEFAULT,
) -> Fragment:
    """One scene: duplicates merged, without what more views contradict than confirm.

    Args:
        fragments: Scenes of pairs in one world frame, or such results of ``merged``.
        surfaces: Those of all pairs.
        settings: See there.
    """
    whole = merged(joined(fragments), settings)
    confirmed, contradicted = votes(whole.gaussians, surfaces, settings)
    return chosen(whole, contradicted <= confirmed)


def joined(fragments: Sequence[Fragment]) -> Fragment:
    """The union."""
    return Fragment(
        Gaussians.cat([fragment.gaussians for fragment in fragments]),
        torch.cat([fragment.footprint for fragment in fragments]),
    )


def chosen(fragment: Fragment, wanted: Bool[Tensor, "n"] | Int64[Tensor, "m"]) -> Fragment:
    """Some of the Gaussians, by mask or by index."""
    return Fragment(fragment.gaussians[wanted], fragment.footprint[wanted])


def merged(fragment: Fragment, settings: FusionSettings = DEFAULT) -> Fragment:
    """One Gaussian for those of a level that share a voxel, and no more in all than are allowed.

    A voxel is as large as a pixel's footprint, so surfaces seen from nearby stay finer than those
    seen from afar; footprints are rounded to powers of two, and only equal ones are merged.
    """
    cell = settings.cell
    result = _merged(fragment, cell)
    while result.gaussians.count > settings.most:
        # The number of voxels of a surface falls with the square of their side.
        cell *= max(1.1, math.sqrt(result.gaussians.count / settings.most))
        result = _merged(result, cell)
    return result


def _merged(fragment: Fragment, cell: float) -> Fragment:
    octave = fragment.footprint.log2().round()
    side = cell * octave.exp2()
    place = (fragment.gaussians.means / side[:, None]).floor().long()
    keys = torch.cat([place, octave.long()[:, None], fragment.gaussians.level.long()[:, None]], 1)
    _, group = torch.unique(keys, dim=0, return_inverse=True)
    return _means(fragment, group)


def _means(fragment: Fragment, group: Int64[Tensor, "n"]) -> Fragment:
    """One Gaussian per group: means by opacity, but orientation and level of the most opaque.

    The spread of the centres is added to the standard deviations, so that no holes open.
    """
    gaussians, count = fragment.gaussians, int(group.max()) + 1 if len(group) else 0
    weight = gaussians.opacities.clamp_min(1e-6)
    total = weight.new_zeros(count).index_add_(0, group, weight)

    def mean(values: Tensor) -> Tensor:
        flat = values.reshape(len(values), -1) * (weight / total[group])[:, None]
        out = flat.new_zeros(count, flat.shape[1]).index_add_(0, group, flat)
        return out.reshape(count, *values.shape[1:])

    means = mean(gaussians.means)
    spread = mean((gaussians.means - means[group]).square().sum(dim=-1)) / 3
    order = gaussians.opacities.argsort(stable=True)
    highest = torch.zeros(count, dtype=torch.long).scatter_reduce(
        0, group, order.argsort(), "amax", include_self=False
    )
    lead = gaussians[order[highest]]
    result = replace(
        lead,
        means=means,
        scales=(mean(gaussians.scales.square()) + spread[:, None]).sqrt(),
        harmonics=mean(gaussians.harmonics),
    )
    return Fragment(result, mean(fragment.footprint))


def votes(
    gaussians: Gaussians, surfaces: Sequence[Surface], settings: FusionSettings = DEFAULT
) -> tuple[Int64[Tensor, "n"], Int64[Tensor, "n"]]:
    """How many views confirm and how many contradict each Gaussian.

    A view that is sure of its surface contradicts what floats clearly in front of it, and what lies
    on it in another colour; it confirms what lies on it in its colour. About what is behind its
    surface or out of its frame it says nothing.
    """
    confirmed = torch.zeros(gaussians.count, dtype=torch.long)
    contradicted = torch.zeros(gaussians.count, dtype=torch.long)
    for surface in surfaces:
        seen = _seen(gaussians, surface, settings)
        confirmed[seen.index] += (seen.sure & seen.on_it & seen.same_color).long()
        wrong = seen.in_front | (seen.on_it & ~seen.same_color)
        contradicted[seen.index] += (seen.sure & wrong).long()
    return confirmed, contradicted


def known(
    fragment: Fragment, surfaces: Sequence[Surface], settings: FusionSettings = DEFAULT
) -> Bool[Tensor, "n"]:
    """Which Gaussians say what other pairs' views have said before, as finely.

    Two estimates of one surface are never quite in the same place, and drawn together they blur. So
    a pair adds only what it alone has: of the finest level what no other pair confirms, and of the
    levels behind it what is out of the others' frames.
    """
    gaussians = fragment.gaussians
    finest = gaussians.level == gaussians.level.max()
    told = torch.zeros(gaussians.count, dtype=torch.bool)
    for surface in surfaces:
        seen = _seen(gaussians, surface, settings)
        width = surface.inverse_depth.shape[1]
        theirs = seen.depth / (surface.camera.intrinsics[0, 0] * width)
        fine = theirs < settings.as_fine * fragment.footprint[seen.index]
        near_it = (seen.ratio - 1).abs() < settings.known_tolerance
        same = seen.sure & near_it & seen.same_color & fine
        told[seen.index] |= torch.where(finest[seen.index], same, fine)
    return told


@dataclass(frozen=True)
class _Seen:
    """What a view says about the Gaussians in its frame, given by ``index``.

    ``ratio`` is their depth over that of the view's surface.
    """

    index: Int64[Tensor, "m"]
    depth: Float[Tensor, "m"]
    sure: Bool[Tensor, "m"]
    ratio: Float[Tensor, "m"]
    on_it: Bool[Tensor, "m"]
    in_front: Bool[Tensor, "m"]
    same_color: Bool[Tensor, "m"]


def _seen(gaussians: Gaussians, surface: Surface, settings: FusionSettings) -> _Seen:
    height, width = surface.inverse_depth.shape
    x, y, depth = surface.camera.project(gaussians.means).unbind(dim=-1)
    inside = (depth > 0) & (x >= 0) & (x < 1) & (y >= 0) & (y < 1)
    index = inside.nonzero()[:, 0]
    depth = depth[index]
    pixel = (y[index] * height).long().clamp(0, height - 1) * width
    pixel += (x[index] * width).long().clamp(0, width - 1)
    there = surface.inverse_depth.float()
    # At the edge of a surface a rounded position must not fall beside it.
    nearest = F.max_pool2d(there[None, None], 3, stride=1, padding=1).flatten()[pixel]
    shown = surface.color.flatten(1)[:, pixel].mT.float() / 255
    difference = (shown - gaussians.base_colors[index].clamp(0, 1)).abs().mean(dim=-1)
    ratio = depth * there.flatten()[pixel]
    return _Seen(
        index,
        depth,
        sure=surface.trusted.flatten()[pixel],
        ratio=ratio,
        on_it=(ratio - 1).abs() < settings.depth_tolerance,
        in_front=depth * nearest < 1 - settings.depth_tolerance,
        same_color=difference < settings.color_tolerance,
    )


def agreement(
    inverse_depth: Float[Tensor, "2 height width"],
    cameras: Cameras,
    settings: FusionSettings = DEFAULT,
) -> Bool[Tensor, "2 height width"]:
    """Where the two views of a pair, cameras of shape (2,), have the same surface."""
    height, width = inverse_depth.shape[-2:]
    points = (
        cameras.positions[:, None, None] + cameras.rays(height, width) / inverse_depth[..., None]
    )
    agreed = []
    for here, there in ((0, 1), (1, 0)):
        x, y, depth = cameras[there].project(points[here].reshape(-1, 3)).unbind(dim=-1)
        inside = (depth > 0) & (x >= 0) & (x < 1) & (y >= 0) & (y < 1)
        row = (y * height).nan_to_num(0).long().clamp(0, height - 1)
        column = (x * width).nan_to_num(0).long().clamp(0, width - 1)
        ratio = depth * inverse_depth[there, row, column]
        agreed.append((inside & ((ratio - 1).abs() < settings.depth_tolerance)).view(height, width))
    return torch.stack(agreed)
