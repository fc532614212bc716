"""Which pairs of a capture's photos to reconstruct from, judged by the cameras alone.

Points spread over the frustum of every view stand for what the view may see. A pair tells the depth
of those that both its photos have in frame, the better the nearer its baseline and overlap are to
what the network is good at. Pairs are chosen greedily by what they add.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hisplat_models.cameras import Cameras

from .defaults import MOST_PAIRS

Pair = tuple[int, int]


@dataclass(frozen=True)
class PairSettings:
    """What makes a good pair, and when there are enough."""

    most: int = MOST_PAIRS
    """Budget: no more pairs than this."""
    good_baseline: tuple[float, float] = (0.12, 0.35)
    """Distances of two cameras, over the depth they look at, that are as good as any."""
    possible_baseline: tuple[float, float] = (0.02, 0.8)
    """Beyond these a pair is worth nothing; between these and the good ones it is worth less."""
    least_overlap: float = 0.4
    """Share of either photo's frustum that the other must have in frame."""
    coarsest: float = 1.6
    """A point counts as covered only if one of the photos is at most this much farther from it than
    the view it belongs to,"""
    widest_deg: float = 6.0
    """and looks at it from a direction that differs no more than this: farther around, things hide
    each other differently, and finally show their other side."""
    uncovered: float = 0.35
    """A view is covered once no larger share of its frustum is left over."""
    least_gain: float = 0.1
    """A pair but the first must add at least this, as a share of one view's frustum."""
    partners: int = 12
    """Best partners of each view that are considered."""
    grid: tuple[int, int, int] = (5, 6, 4)
    """Points in a frustum: rows, columns, depths."""
    most_points: int = 24_000
    """Points in all; large captures have coarser grids."""


DEFAULT = PairSettings()


def choose_pairs(cameras: Cameras, settings: PairSettings = DEFAULT) -> tuple[Pair, ...]:
    """Pairs of views, the most useful first, each with the lower index first.

    Ends when every view is covered, when nothing useful is left, or when the budget is spent.

    Args:
        cameras: All views, shape (view,), with their ranges of depth.
        settings: See there.

    Raises:
        ValueError: if no two views overlap at a usable distance from each other.
    """
    points, own_depth = frustum_points(cameras, settings)
    in_frame, depth = _seen(cameras, points)
    count = len(cameras.near)
    view_of = torch.arange(count).repeat_interleave(len(points) // count)
    candidates, worth = _candidates(cameras, in_frame, view_of, settings)
    if not candidates:
        raise ValueError(
            "No two photos of this capture overlap at a usable distance from each other: expected "
            "neighbours whose cameras are apart by "
            f"{settings.possible_baseline[0]:.0%} to {settings.possible_baseline[1]:.0%} of the "
            "depth that they look at."
        )
    alike = _seen_alike(cameras, points, view_of, settings.widest_deg)
    shown = in_frame & alike & (depth <= settings.coarsest * own_depth)
    covers = torch.stack([in_frame[i] & in_frame[j] & (shown[i] | shown[j]) for i, j in candidates])
    return tuple(candidates[index] for index in _greedy(covers, worth, view_of, settings))


def _greedy(
    covers: Bool[Tensor, "pair point"],
    worth: Float[Tensor, "pair"],
    view_of: Tensor,
    settings: PairSettings,
) -> list[int]:
    """Indices of pairs in the order in which they add most to what is left."""
    per_view = torch.bincount(view_of).float()
    left = torch.ones(covers.shape[1])
    weights = covers.float() * worth[:, None]
    chosen: list[int] = []
    while len(chosen) < settings.most:
        remaining = torch.zeros(len(per_view)).index_add_(0, view_of, left) / per_view
        open_views = remaining > settings.uncovered
        if not open_views.any():
            break
        gain = weights @ (left * open_views[view_of])
        best = int(gain.argmax())
        if chosen and gain[best] < settings.least_gain * per_view[0]:
            break
        chosen.append(best)
        left = left * (1 - weights[best])
    return chosen


def _candidates(
    cameras: Cameras, in_frame: Bool[Tensor, "view point"], view_of: Tensor, settings: PairSettings
) -> tuple[list[Pair], Float[Tensor, "pair"]]:
    """Pairs worth considering, and how much each is worth, in (0, 1]."""
    count = len(cameras.near)
    shares = torch.stack(
        [in_frame[:, view_of == view].float().mean(dim=1) for view in range(count)]
    )
    overlap = torch.minimum(shares, shares.mT)
    value = overlap * baseline_worth(cameras, settings)
    value = torch.where(overlap >= settings.least_overlap, value, 0.0).fill_diagonal_(0)
    best = value.topk(min(settings.partners, count), dim=1).indices
    pairs: Sequence[Pair] = sorted(
        {
            (min(i, int(j)), max(i, int(j)))
            for i in range(count)
            for j in best[i]
            if value[i, int(j)] > 0
        }
    )
    return list(pairs), torch.stack([value[i, j] for i, j in pairs]) if pairs else value[:0, 0]


def baseline_worth(
    cameras: Cameras, settings: PairSettings = DEFAULT
) -> Float[Tensor, "view view"]:
    """How good the distance of each two cameras is for telling depth, in [0, 1].

    1 in the good range, falling linearly in the logarithm to 0 at the possible range's ends.
    """
    middle = 2 / (1 / cameras.near + 1 / cameras.far)
    ratio = torch.cdist(cameras.positions, cameras.positions)
    ratio = (ratio / torch.minimum(middle[:, None], middle[None])).clamp_min(1e-9).log()
    least, most = (math.log(value) for value in settings.possible_baseline)
    low, high = (math.log(value) for value in settings.good_baseline)
    rising, falling = (ratio - least) / (low - least), (most - ratio) / (most - high)
    return torch.minimum(rising, falling).clamp(0, 1)


def frustum_points(
    cameras: Cameras, settings: PairSettings = DEFAULT
) -> tuple[Float[Tensor, "point 3"], Float[Tensor, "point"]]:
    """World points spread over all frusta, view by view, and their z-depth in their own view.

    Depths are evenly spaced in disparity; every view has the same number of points.
    """
    count = len(cameras.near)
    rows, columns, depths = settings.grid
    coarser = math.sqrt(max(1.0, count * rows * columns * depths / settings.most_points))
    rows, columns = max(2, round(rows / coarser)), max(2, round(columns / coarser))
    share = (torch.arange(depths) + 0.5) / depths
    disparity = share * (1 / cameras.near)[:, None] + (1 - share) * (1 / cameras.far)[:, None]
    depth = (1 / disparity)[:, :, None, None].expand(-1, -1, rows, columns)
    rays = cameras.rays(rows, columns)[:, None]
    points = cameras.positions[:, None, None, None] + depth[..., None] * rays
    return points.reshape(-1, 3), depth.reshape(-1)


def _seen(
    cameras: Cameras, points: Float[Tensor, "point 3"]
) -> tuple[Bool[Tensor, "view point"], Float[Tensor, "view point"]]:
    """Which points each view has in frame, and their z-depths there."""
    in_frame, depths = [], []
    for view in range(len(cameras.near)):
        x, y, depth = cameras[view].project(points).unbind(dim=-1)
        in_frame.append((depth > 0) & (x >= 0) & (x <= 1) & (y >= 0) & (y <= 1))
        depths.append(depth)
    return torch.stack(in_frame), torch.stack(depths)


def _seen_alike(
    cameras: Cameras, points: Float[Tensor, "point 3"], view_of: Tensor, widest_deg: float
) -> Bool[Tensor, "view point"]:
    """Which points each view looks at from nearly the direction of the view they belong to."""
    own = torch.nn.functional.normalize(points - cameras.positions[view_of], dim=-1)
    least = math.cos(math.radians(widest_deg))
    alike = []
    for position in cameras.positions:
        direction = torch.nn.functional.normalize(points - position, dim=-1)
        alike.append((direction * own).sum(dim=-1) >= least)
    return torch.stack(alike)
