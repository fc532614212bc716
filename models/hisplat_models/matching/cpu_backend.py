"""Matching on CPUs: compiled kernels, one thread per view."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from ..compilation import kernel
from .aggregation import aggregate
from .consistency import (
    Selection,
    Surfaces,
    add_partner_color,
    color_difference,
    consistency_error,
    make_occlusion_aware,
    other_surfaces,
    partner_error,
    rho_line,
    select,
    verdicts_on,
    visibility,
)
from .filling import background_planes, distance_to_trusted, fill_by_fit, fit_holds
from .geometry import Sweep
from .prior import CANDIDATE_NAMES, EVIDENCE_NAMES
from .settings import MatchingSettings
from .slopes import surface_slopes
from .sweep_cost import COST_SCALE, pack_colors, sweep_cost

Result = TypeVar("Result")
COST_SQUASH = 8 * 12 * COST_SCALE  # aggregated cost that is squashed to 1 - 1/e


def squash_cost(total: np.ndarray) -> np.ndarray:
    """Aggregated costs as [0, 1], 1 is bad."""
    return 1 - np.exp(-np.maximum(total, 0).astype(np.float32) / COST_SQUASH)


def match_scene(
    images: np.ndarray, sweeps: list[Sweep], settings: MatchingSettings, threads: int
) -> list[dict[str, np.ndarray]]:
    """Maps of each view of one scene (see MatchingPrior; planes instead of inverse depths).

    Args:
        images: (V, 3, H, W) in [0, 1].
        sweeps: One per view.
        settings: Constants.
        threads: Views handled at a time.
    """
    photos = [np.ascontiguousarray(image.transpose(1, 2, 0)) for image in images]
    results = matched(images, sweeps, settings, threads)
    add_visibility(results, photos, sweeps, settings)
    return results


def matched(
    images: np.ndarray, sweeps: list[Sweep], settings: MatchingSettings, threads: int
) -> list[dict[str, np.ndarray]]:
    """The maps that need no second look at the other views' results.

    Takes at most three bytes per pixel, plane and view, four more in every thread that averages
    costs of several other views, and 100 per pixel and view.

    Args:
        images: (V, 3, H, W) in [0, 1].
        sweeps: One per view.
        settings: Constants.
        threads: Views handled at a time.
    """
    views = range(len(sweeps))
    packed = [pack_colors(image) for image in images]
    gray = [np.rint(image.mean(0) * 255).astype(np.uint8) for image in images]
    photos = [np.ascontiguousarray(image.transpose(1, 2, 0)) for image in images]

    costs: dict[int, np.ndarray] = {}
    totals: dict[int, np.ndarray] = {}

    def first_pass(view: int) -> Selection:
        others = [packed[t.other] for t in sweeps[view].transfers]
        cost = sweep_cost(packed[view], others, sweeps[view], settings)
        total = np.empty(cost.shape, np.int16)
        nowhere = np.zeros(cost.shape[:2], np.bool_)
        level = np.zeros((*cost.shape[:2], 2), np.float32)
        aggregate(cost, gray[view], level, settings, second=False, total=total, kept=nowhere)
        costs[view], totals[view] = cost, total
        return select(total)

    first = _each(first_pass, views, threads)
    first_maps = [s.plane for s in first]
    errors = _each(lambda v: consistency_error(v, first_maps, sweeps, settings), views, threads)
    trusted = [error <= settings.tolerance_px for error in errors]
    anchored = [error <= settings.anchor_tolerance_px for error in errors]

    def second_pass(view: int) -> Selection:
        surfaces = other_surfaces(view, first_maps, trusted, sweeps, settings)
        cost, total = costs.pop(view), totals[view]
        make_occlusion_aware(
            cost, first_maps[view], anchored[view], surfaces, sweeps[view], settings
        )
        # Anchored pixels keep the curves that chose for them: their new cost only repeats it.
        slopes = surface_slopes(first_maps[view], anchored[view], sweeps[view].transfers)
        aggregate(cost, gray[view], slopes, settings, second=True, total=total, kept=anchored[view])
        return select(total)

    second = _each(second_pass, views, threads)
    maps = [s.plane for s in second]

    errors = _each(lambda v: consistency_error(v, maps, sweeps, settings), views, threads)
    agrees = [error <= settings.tolerance_px for error in errors]

    def finish(view: int) -> dict[str, np.ndarray]:
        surfaces = other_surfaces(view, maps, agrees, sweeps, settings)
        return _describe(
            view, first[view], second[view], anchored[view], agrees[view], errors[view],
            totals.pop(view), surfaces, photos, sweeps, settings,
        )  # fmt: skip

    return _each(finish, views, threads)


def _each(work: Callable[[int], Result], views: range, threads: int) -> list[Result]:
    """Results of ``work`` for every view; no thread outlives the call, so forking stays safe."""
    if threads < 2:
        return [work(v) for v in views]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, views))


def _describe(
    view: int,
    first: Selection,
    second: Selection,
    anchored: np.ndarray,
    trusted: np.ndarray,
    error: np.ndarray,
    total: np.ndarray,
    surfaces: Surfaces,
    photos: list[np.ndarray],
    sweeps: list[Sweep],
    settings: MatchingSettings,
) -> dict[str, np.ndarray]:
    """Fills and candidates of one view."""
    planes = sweeps[view].planes
    background = background_planes(second.plane, trusted, planes, 4, settings)
    background = background.repeat(4, 0).repeat(4, 1)
    fill = fill_by_fit(second.plane, trusted, photos[view], background, settings)
    fill = np.clip(fill, 0, planes - 1)
    fits = fit_holds(
        verdicts_on(fill, surfaces, sweeps[view]),
        color_difference(fill, view, photos, sweeps),
        verdicts_on(second.plane, surfaces, sweeps[view]),
        color_difference(second.plane, view, photos, sweeps),
        settings,
    )
    choice = np.where(trusted | ~fits, second.plane, fill).astype(np.float32)
    candidates = np.stack(
        [choice, first.plane, second.plane, second.runner_up, fill, background]
    ).astype(np.float32)
    return {
        "choice": choice,
        "trusted": trusted,
        "error": np.where(trusted, error, settings.max_consistency_px).astype(np.float32),
        "candidates": candidates,
        "candidate_cost": _cost_at(total, candidates),
        "coarse_cost": _coarse_cost(total, settings.coarse_planes),
        "sharpness": _sharpness(second),
        "second_pass": ~anchored & trusted,
        "trusted_distance": 1 - np.exp(-distance_to_trusted(trusted) / 16),
    }


def _sharpness(selection: Selection) -> np.ndarray:
    best = selection.cost.astype(np.float32)
    second = np.maximum(selection.runner_up_cost.astype(np.float32), best)
    return 1 - (best + 1) / (second + 1)


def _cost_at(total: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Squashed aggregated cost at the nearest planes, (K, H, W)."""
    nearest = np.clip(np.rint(candidates), 0, total.shape[2] - 1).astype(np.int64)
    costs = np.take_along_axis(total, nearest.transpose(1, 2, 0), axis=2)
    return squash_cost(np.ascontiguousarray(costs.transpose(2, 0, 1)))


def _coarse_cost(total: np.ndarray, coarse_planes: int) -> np.ndarray:
    """Minimum over 8x8 pixels and over the planes nearest to each coarse one, squashed."""
    planes = total.shape[2]
    pooled = _pool(total)
    cuts = (np.arange(coarse_planes) - 0.5) / (coarse_planes - 1) * (planes - 1)
    starts = np.clip(np.ceil(cuts), 0, planes - 1).astype(np.int64)
    return squash_cost(np.minimum.reduceat(pooled, starts, axis=2)).transpose(2, 0, 1)


@kernel
def _pool(total):
    height, width, planes = total.shape
    pooled = np.full((height // 8, width // 8, planes), 32767, np.int16)
    for y in range(height):
        for x in range(width):
            low = pooled[y // 8, x // 8]
            curve = total[y, x]
            for d in range(planes):
                low[d] = curve[d] if curve[d] < low[d] else low[d]
    return pooled


def add_visibility(
    results: list[dict[str, np.ndarray]],
    photos: list[np.ndarray],
    sweeps: list[Sweep],
    settings: MatchingSettings,
) -> None:
    """Adds mean colours and the evidence that needs the final maps of all views."""
    maps = [result["choice"] for result in results]
    trusted = [result["trusted"] for result in results]
    for view, (result, own) in enumerate(zip(results, sweeps, strict=True)):
        surfaces = other_surfaces(view, maps, trusted, sweeps, settings)
        inside, occluded = visibility(maps[view], surfaces, own)
        total, count = photos[view].copy(), np.ones(maps[view].shape, np.float32)
        for there in own.transfers:
            agrees = trusted[view]
            if len(own.transfers) > 1:  # else it is this partner that is agreed with
                error = partner_error(view, there, maps, sweeps, settings)
                agrees = agrees & (error <= settings.tolerance_px)
            add_partner_color(
                maps[view], there.matrix, rho_line(own), agrees, photos[there.other],
                total, count,
            )  # fmt: skip
        result["color"] = (total / count[..., None]).transpose(2, 0, 1)
        named = {
            "trusted": result["trusted"],
            "consistency": np.exp(-((result["error"] / 1.5) ** 2)) * result["trusted"],
            "sharpness": result["sharpness"],
            "mismatch": result["candidate_cost"][CANDIDATE_NAMES.index("choice")],
            "second_pass": result["second_pass"],
            "trusted_distance": result["trusted_distance"],
            "inside": inside,
            "occluded": occluded,
        }
        result["evidence"] = np.stack([named[n] for n in EVIDENCE_NAMES]).astype(np.float32)
