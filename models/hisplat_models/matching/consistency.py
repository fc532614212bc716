"""Choosing planes, checking the views against each other, and costs that know of occlusion.

Maps hold fractional plane indices (0 is the farthest plane) of the view they belong to.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from .geometry import Sweep
from .settings import MatchingSettings
from .sweep_cost import COST_SCALE


@dataclass(frozen=True)
class Selection:
    """The best and second-best local minimum of every aggregated curve; fields are (H, W)."""

    plane: np.ndarray  # float32, refined by a parabola
    cost: np.ndarray  # int16
    runner_up: np.ndarray  # float32 plane; the best one again where there is no other minimum
    runner_up_cost: np.ndarray  # int16


def select(total: np.ndarray) -> Selection:
    """Winner and runner-up of aggregated costs (H, W, planes)."""
    shape = total.shape[:2]
    result = Selection(
        np.empty(shape, np.float32), np.empty(shape, np.int16),
        np.empty(shape, np.float32), np.empty(shape, np.int16),
    )  # fmt: skip
    _select(total, result.plane, result.cost, result.runner_up, result.runner_up_cost)
    return result


@njit(nogil=True, cache=True)
def _select(total, plane, cost, runner_up, runner_up_cost):
    height, width, planes = total.shape
    for y in range(height):
        for x in range(width):
            curve = total[y, x]
            lowest = np.int16(32767)
            for d in range(planes):
                lowest = curve[d] if curve[d] < lowest else lowest
            best = 0
            while curve[best] != lowest:
                best += 1
            second, second_cost = best, np.int16(32767)
            for d in range(1, planes - 1):
                c = curve[d]
                if (
                    c < second_cost
                    and c <= curve[d - 1]
                    and c <= curve[d + 1]
                    and abs(d - best) > 2
                ):
                    second, second_cost = d, c
            plane[y, x] = _parabola(curve, best)
            cost[y, x] = lowest
            runner_up[y, x] = _parabola(curve, second)
            runner_up_cost[y, x] = second_cost


@njit(nogil=True, cache=True)
def _parabola(curve, d):
    """Sub-plane position of a minimum."""
    if d == 0 or d == curve.size - 1:
        return np.float32(d)
    left = np.int32(curve[d - 1]) - np.int32(curve[d])
    right = np.int32(curve[d + 1]) - np.int32(curve[d])
    if left + right <= 0:
        return np.float32(d)
    return np.float32(d + 0.5 * (left - right) / (left + right))


@njit(nogil=True, cache=True)
def transfer(matrix, x, y, rho):
    """(u, v, s) of pixel column x, row y; u = v = -1 where the point is behind the other view."""
    px, py = x + np.float32(0.5), y + np.float32(0.5)
    s = matrix[2, 0] * px + matrix[2, 1] * py + matrix[2, 2] + matrix[2, 3] * rho
    if s < 1e-3:
        return np.float32(-1), np.float32(-1), np.float32(1)
    u = matrix[0, 0] * px + matrix[0, 1] * py + matrix[0, 2] + matrix[0, 3] * rho
    v = matrix[1, 0] * px + matrix[1, 1] * py + matrix[1, 2] + matrix[1, 3] * rho
    return u / s, v / s, s


def consistency_error(
    view: int, maps: list[np.ndarray], sweeps: list[Sweep], settings: MatchingSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Left-right error in pixels against the best agreeing view, and that view's number.

    A pixel goes to the other view by its own depth and comes back by the depth found there; the
    error is the distance from where it started. Where no view sees it: the clamp value and -1.
    """
    error = np.full(maps[view].shape, settings.max_consistency_px, np.float32)
    partner = np.full(maps[view].shape, -1, np.int8)
    own = sweeps[view]
    for there in own.transfers:
        other = sweeps[there.other]
        back = next(t for t in other.transfers if t.other == view)
        _check(
            maps[view], maps[there.other], there.other, there.matrix, back.matrix,
            _rho_line(own), _rho_line(other), error, partner,
        )  # fmt: skip
    return error, partner


def _rho_line(sweep: Sweep) -> np.ndarray:
    """(first, step) of a sweep's planes."""
    return np.array([sweep.rho_first, sweep.rho_step], np.float32)


@njit(nogil=True, cache=True)
def _check(own, other, number, there, back, own_rho, other_rho, error, partner):
    height, width = own.shape
    for y in range(height):
        for x in range(width):
            rho = own_rho[0] + own_rho[1] * own[y, x]
            u, v, s = transfer(there, np.float32(x), np.float32(y), rho)
            if not (u >= 0 and u < width and v >= 0 and v < height):
                continue
            rho = other_rho[0] + other_rho[1] * other[int(v), int(u)]
            bu, bv, _ = transfer(back, u - np.float32(0.5), v - np.float32(0.5), rho)
            du, dv = bu - np.float32(x + 0.5), bv - np.float32(y + 0.5)
            distance = np.sqrt(du * du + dv * dv)
            if distance < error[y, x]:
                error[y, x] = distance
                partner[y, x] = number


def occlusion_aware_cost(
    view: int,
    cost: np.ndarray,
    trusted: list[np.ndarray],
    maps: list[np.ndarray],
    sweeps: list[Sweep],
    settings: MatchingSettings,
) -> np.ndarray:
    """The cost of the second pass: changed where ``view`` is not trusted yet.

    What another view's trusted surface contradicts is expensive, what it hides (or what falls
    outside its frame) says nothing; the rest keeps half its say. All else equal, the background
    wins, because what only one view sees usually lies behind an edge.
    """
    own = sweeps[view]
    result = cost.copy()
    height, width, planes = cost.shape
    state = np.zeros((height, width, planes), np.uint8) if len(own.transfers) > 1 else None
    bias = np.rint(settings.background_bias * COST_SCALE * np.arange(planes) / planes).astype(
        np.int64
    )
    constants = np.rint(
        np.array([settings.neutral_cost, settings.contradiction_cost]) * COST_SCALE
    ).astype(np.int64)
    if state is None:
        state = np.zeros((1, 1, planes), np.uint8)
    for number, there in enumerate(own.transfers):
        other = sweeps[there.other]
        line = np.array(
            [other.rho_first, other.rho_step, there.gain,
             settings.occlusion_margin_px / other.step_px], np.float32,
        )  # fmt: skip
        _occlusion_states(
            trusted[view], maps[there.other], trusted[there.other], there.matrix, _rho_line(own),
            line, number == len(own.transfers) - 1, cost, bias, constants, state, result,
        )  # fmt: skip
    return result


@njit(nogil=True, cache=True)
def _occlusion_states(
    trusted, other, other_trusted, matrix, own_rho, line, last, cost, bias, constants, state, result
):
    """States grow over the views: 0 neutral, 1 seen, 2 contradicted; the last view applies them."""
    height, width, planes = cost.shape
    shared = state.shape[0] == height
    for y in range(height):
        for x in range(width):
            if trusted[y, x]:
                continue
            row = state[y, x] if shared else state[0, 0]
            if not shared:
                row[:] = 0
            for d in range(planes):
                rho = own_rho[0] + own_rho[1] * np.float32(d)
                u, v, s = transfer(matrix, np.float32(x), np.float32(y), rho)
                if u >= 0 and u < width and v >= 0 and v < height:
                    qx, qy = int(u), int(v)
                    found = np.uint8(1)
                    if other_trusted[qy, qx]:
                        ahead = (rho * line[2] / s - line[0]) / line[1] - other[qy, qx]
                        if ahead > line[3]:
                            found = np.uint8(2)
                        elif ahead < -line[3]:
                            found = np.uint8(0)
                    row[d] = max(row[d], found)
            if last:
                for d in range(planes):
                    c = np.int64(cost[y, x, d])
                    if row[d] == 2:
                        c = max(c, constants[0]) + constants[1]
                    elif row[d] == 1:
                        c = (c + constants[0]) // 2
                    else:
                        c = constants[0]
                    result[y, x, d] = np.uint8(c + bias[d])


@njit(nogil=True, cache=True)
def visibility(own, other, other_trusted, matrix, own_rho, line, inside, occluded):
    """Marks pixels whose choice falls into the other frame, and those its surface hides."""
    height, width = own.shape
    for y in range(height):
        for x in range(width):
            rho = own_rho[0] + own_rho[1] * own[y, x]
            u, v, s = transfer(matrix, np.float32(x), np.float32(y), rho)
            if u >= 0 and u < width and v >= 0 and v < height:
                inside[y, x] = True
                qx, qy = int(u), int(v)
                ahead = (rho * line[2] / s - line[0]) / line[1] - other[qy, qx]
                if other_trusted[qy, qx] and ahead < -line[3]:
                    occluded[y, x] = True


@njit(nogil=True, cache=True)
def add_partner_color(own, matrix, own_rho, agrees, other_image, total, count):
    """Adds the other photo's colours (H, W, 3), sampled bilinearly, where it agrees."""
    height, width = own.shape
    for y in range(height):
        for x in range(width):
            if not agrees[y, x]:
                continue
            rho = own_rho[0] + own_rho[1] * own[y, x]
            u, v, s = transfer(matrix, np.float32(x), np.float32(y), rho)
            u = min(max(u - np.float32(0.5), np.float32(0)), np.float32(width - 1))
            v = min(max(v - np.float32(0.5), np.float32(0)), np.float32(height - 1))
            x0, y0 = min(int(u), width - 2), min(int(v), height - 2)
            fx, fy = u - np.float32(x0), v - np.float32(y0)
            one = np.float32(1)
            for c in range(3):
                top = other_image[y0, x0, c] * (one - fx) + other_image[y0, x0 + 1, c] * fx
                bottom = (
                    other_image[y0 + 1, x0, c] * (one - fx) + other_image[y0 + 1, x0 + 1, c] * fx
                )
                total[y, x, c] += top * (one - fy) + bottom * fy
            count[y, x] += one
