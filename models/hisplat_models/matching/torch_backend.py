"""Matching as plain tensor operations on the images' device; meant for GPUs.

The same method as cpu_backend.py, with the same integer costs, ties (the first minimum, the
farther plane) and window definitions, and agreement with it is tested. What may differ: the last
bits of float32 projections where a device fuses or reorders arithmetic, which can move a sample by
1/64 px or a rounded colour cost by one unit; sums of fits and running minima of distances, which
are added up in another order. A cost off by one unit can change which of two equally good planes
wins, so single pixels may differ by more than rounding.

Nothing of a scene leaves the device. Scans run row by row, so a GPU spends its time on launching
small kernels; therefore all views given at once are scanned together.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int16
from torch import Tensor

from .cpu_backend import COST_SQUASH
from .filling import fit_holds
from .geometry import Sweep
from .prior import CANDIDATE_NAMES, EVIDENCE_NAMES
from .settings import MatchingSettings
from .torch_consistency import (
    Selection,
    Surface,
    color_difference,
    consistency_error,
    make_occlusion_aware,
    other_surfaces,
    partner_color,
    partner_error,
    select,
    verdicts_on,
    visibility,
)
from .torch_filling import background_planes, distance_to_trusted, fill_by_fit
from .torch_slopes import surface_slopes
from .torch_volume import aggregate, pack_colors, sweep_cost

_BACKGROUND_CELL = 4


def match_scene_torch(
    images: Float[Tensor, "view 3 height width"], sweeps: list[Sweep], settings: MatchingSettings
) -> list[dict[str, Tensor]]:
    """Maps of each view (see MatchingPrior; planes instead of inverse depths).

    Several scenes may be given as one: only views that a sweep transfers to are matched with it.

    Args:
        images: RGB in [0, 1].
        sweeps: One per view; ``Transfer.other`` indexes the views.
        settings: Constants.
    """
    views = range(len(sweeps))
    packed = [pack_colors(image) for image in images]
    red, green, blue = images.unbind(1)
    gray = ((red + green + blue) / 3 * 255).round().to(torch.uint8).long()

    costs = [
        sweep_cost(packed[v], [packed[t.other] for t in sweeps[v].transfers], sweeps[v], settings)
        for v in views
    ]
    totals = aggregate(costs, gray, None, settings, second=False)
    first = [select(total) for total in totals]
    first_maps = [s.plane for s in first]
    errors = [consistency_error(v, first_maps, sweeps, settings) for v in views]
    trusted = [error <= settings.tolerance_px for error in errors]
    anchored = [error <= settings.anchor_tolerance_px for error in errors]
    for v in views:
        surfaces = other_surfaces(v, first_maps, trusted, sweeps, settings)
        make_occlusion_aware(costs[v], first_maps[v], anchored[v], surfaces, sweeps[v], settings)
    slopes = [surface_slopes(first_maps[v], anchored[v], sweeps[v].transfers) for v in views]
    again = aggregate(costs, gray, torch.stack(slopes), settings, second=True)
    for total, other, known in zip(totals, again, anchored, strict=True):
        total.copy_(total.where(known[..., None], other))
    second = [select(total) for total in totals]
    maps = [s.plane for s in second]

    errors = [consistency_error(v, maps, sweeps, settings) for v in views]
    agrees = [error <= settings.tolerance_px for error in errors]
    distance = distance_to_trusted(torch.stack(agrees))
    results = []
    for v in views:
        surfaces = other_surfaces(v, maps, agrees, sweeps, settings)
        described = _describe(
            v, first[v], second[v], agrees[v], totals[v], surfaces, images, sweeps, settings
        )
        described["error"] = errors[v].where(agrees[v], settings.max_consistency_px)
        described["second_pass"] = ~anchored[v] & agrees[v]
        described["trusted_distance"] = 1 - (-distance[v] / 16).exp()
        results.append(described)
    _add_visibility(results, images, sweeps, settings)
    return results


def _squash_cost(total: Int16[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Aggregated costs as [0, 1], 1 is bad."""
    return 1 - (-total.clamp(min=0).float() / COST_SQUASH).exp()


def _describe(
    view: int,
    first: Selection,
    second: Selection,
    trusted: Bool[Tensor, "height width"],
    total: Int16[Tensor, "height width plane"],
    surfaces: list[Surface],
    photos: Float[Tensor, "view 3 height width"],
    sweeps: list[Sweep],
    settings: MatchingSettings,
) -> dict[str, Tensor]:
    """Fills, candidates and costs of one view."""
    planes = total.shape[-1]
    background = background_planes(second.plane, trusted, planes, _BACKGROUND_CELL, settings)
    background = background.repeat_interleave(_BACKGROUND_CELL, 0)
    background = background.repeat_interleave(_BACKGROUND_CELL, 1)
    fill = fill_by_fit(second.plane, trusted, photos[view], background, settings)
    fill = fill.clamp(0, planes - 1)
    fits = fit_holds(
        verdicts_on(fill, surfaces, sweeps[view]),
        color_difference(fill, view, photos, sweeps),
        verdicts_on(second.plane, surfaces, sweeps[view]),
        color_difference(second.plane, view, photos, sweeps),
        settings,
    )
    choice = second.plane.where(trusted | ~fits, fill)
    candidates = torch.stack(
        [choice, first.plane, second.plane, second.runner_up, fill, background]
    )
    nearest = candidates.round().clamp(0, planes - 1).long()
    best = second.cost.float()
    return {
        "choice": choice,
        "trusted": trusted,
        "candidates": candidates,
        "candidate_cost": _squash_cost(total.gather(-1, nearest.movedim(0, -1))).movedim(-1, 0),
        "coarse_cost": _coarse_cost(total, settings.coarse_planes),
        "sharpness": 1 - (best + 1) / (torch.maximum(second.runner_up_cost.float(), best) + 1),
    }


def _coarse_cost(
    total: Int16[Tensor, "height width plane"], coarse_planes: int
) -> Float[Tensor, "coarse_plane height_8 width_8"]:
    """Minimum over 8x8 pixels and over the planes nearest to each coarse one, squashed."""
    height, width, planes = total.shape
    pooled = total.reshape(height // 8, 8, width // 8, 8, planes).amin((1, 3))
    cuts = (np.arange(coarse_planes) - 0.5) / (coarse_planes - 1) * (planes - 1)
    starts = np.clip(np.ceil(cuts), 0, planes - 1).astype(int).tolist()
    stops = [*starts[1:], planes]
    lowest = [
        pooled[..., start : max(stop, start + 1)].amin(-1)
        for start, stop in zip(starts, stops, strict=True)
    ]
    return _squash_cost(torch.stack(lowest))


def _add_visibility(
    results: list[dict[str, Tensor]],
    images: Float[Tensor, "view 3 height width"],
    sweeps: list[Sweep],
    settings: MatchingSettings,
) -> None:
    """Adds mean colours and the evidence that needs the final maps of all views."""
    maps = [result["choice"] for result in results]
    trusted = [result["trusted"] for result in results]
    for view, (result, own) in enumerate(zip(results, sweeps, strict=True)):
        surfaces = other_surfaces(view, maps, trusted, sweeps, settings)
        inside, occluded = visibility(maps[view], surfaces, own)
        result["color"] = _mean_color(view, maps, trusted[view], images, sweeps, settings)
        named = {
            "trusted": result["trusted"],
            "consistency": (-((result["error"] / 1.5) ** 2)).exp() * result["trusted"],
            "sharpness": result["sharpness"],
            "mismatch": result["candidate_cost"][CANDIDATE_NAMES.index("choice")],
            "second_pass": result["second_pass"],
            "trusted_distance": result["trusted_distance"],
            "inside": inside,
            "occluded": occluded,
        }
        result["evidence"] = torch.stack([named[n].float() for n in EVIDENCE_NAMES])


def _mean_color(
    view: int,
    maps: list[Tensor],
    trusted: Bool[Tensor, "height width"],
    images: Float[Tensor, "view 3 height width"],
    sweeps: list[Sweep],
    settings: MatchingSettings,
) -> Float[Tensor, "3 height width"]:
    """Mean of a photo and of those whose depth agrees with its own, where it is trusted."""
    own = sweeps[view]
    total, count = images[view].clone(), torch.ones_like(maps[view])
    for there in own.transfers:
        agrees = trusted
        if len(own.transfers) > 1:  # else it is this partner that is agreed with
            error = partner_error(view, there, maps, sweeps, settings)
            agrees = agrees & (error <= settings.tolerance_px)
        color = partner_color(maps[view], there.matrix, own, images[there.other])
        total += color.where(agrees, 0.0)
        count += agrees
    return total / count
