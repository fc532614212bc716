"""Choosing planes, checking the views against each other, and costs that know of occlusion.

Maps hold fractional plane indices (0 is the farthest plane) of the view they belong to.
"""

from dataclasses import dataclass

import numpy as np

from ..compilation import kernel
from .geometry import Sweep, Transfer
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


@kernel
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


@kernel
def _parabola(curve, d):
    """Sub-plane position of a minimum."""
    if d == 0 or d == curve.size - 1:
        return np.float32(d)
    left = np.int32(curve[d - 1]) - np.int32(curve[d])
    right = np.int32(curve[d + 1]) - np.int32(curve[d])
    if left + right <= 0:
        return np.float32(d)
    return np.float32(d + 0.5 * (left - right) / (left + right))


@kernel
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
) -> np.ndarray:
    """Left-right error in pixels against the view that agrees best.

    A pixel goes to the other view by its own depth and comes back by the depth found there; the
    error is the distance from where it started; the clamp value where no view sees it.
    """
    error = np.full(maps[view].shape, settings.max_consistency_px, np.float32)
    for there in sweeps[view].transfers:
        np.minimum(error, partner_error(view, there, maps, sweeps, settings), out=error)
    return error


def partner_error(
    view: int,
    there: Transfer,
    maps: list[np.ndarray],
    sweeps: list[Sweep],
    settings: MatchingSettings,
) -> np.ndarray:
    """Left-right error in pixels against one other view, times the transfer's strictness."""
    error = np.full(maps[view].shape, settings.max_consistency_px, np.float32)
    other = sweeps[there.other]
    back = next(t for t in other.transfers if t.other == view)
    _check(
        maps[view], maps[there.other], there.matrix, back.matrix,
        rho_line(sweeps[view]), rho_line(other), np.float32(there.strictness), error,
    )  # fmt: skip
    return error


def rho_line(sweep: Sweep) -> np.ndarray:
    """(first, step) of a sweep's planes."""
    return np.array([sweep.rho_first, sweep.rho_step], np.float32)


@kernel
def _check(own, other, there, back, own_rho, other_rho, strictness, error):
    height, width = own.shape
    for y in range(height):
        for x in range(width):
            rho = own_rho[0] + own_rho[1] * own[y, x]
            u, v, _ = transfer(there, np.float32(x), np.float32(y), rho)
            if not (u >= 0 and u < width and v >= 0 and v < height):
                continue
            rho = other_rho[0] + other_rho[1] * other[int(v), int(u)]
            bu, bv, _ = transfer(back, u - np.float32(0.5), v - np.float32(0.5), rho)
            du, dv = bu - np.float32(x + 0.5), bv - np.float32(y + 0.5)
            distance = np.sqrt(du * du + dv * dv) * strictness
            if distance < error[y, x]:
                error[y, x] = distance


@dataclass(frozen=True)
class Surfaces:
    """What the other views of a view have found; the leading axis of each field is over them."""

    matrices: np.ndarray  # (N, 3, 4) transfers to them
    lines: np.ndarray  # (N, 4): first rho, rho step, transfer's gain, margin in planes
    planes: np.ndarray  # (N, H, W)
    trusted: np.ndarray  # (N, H, W)


def other_surfaces(
    view: int,
    maps: list[np.ndarray],
    trusted: list[np.ndarray],
    sweeps: list[Sweep],
    settings: MatchingSettings,
) -> Surfaces:
    """The maps of all views that ``view`` is matched with."""
    transfers = sweeps[view].transfers
    others = [sweeps[t.other] for t in transfers]
    return Surfaces(
        matrices=np.stack([t.matrix for t in transfers]),
        lines=np.array(
            [
                [o.rho_first, o.rho_step, t.gain, settings.occlusion_margin_px / o.step_px]
                for t, o in zip(transfers, others, strict=True)
            ],
            np.float32,
        ),
        planes=np.stack([maps[t.other] for t in transfers]),
        trusted=np.stack([trusted[t.other] for t in transfers]),
    )


def make_occlusion_aware(
    cost: np.ndarray,
    plane: np.ndarray,
    anchored: np.ndarray,
    surfaces: Surfaces,
    sweep: Sweep,
    settings: MatchingSettings,
) -> None:
    """Turns the cost of the first pass, in place, into that of the second.

    Anchored pixels keep to their choice: the distance from it is their cost. Of the rest,
    what another view's trusted surface contradicts is expensive, what it hides (or what falls
    outside its frame) says nothing, and anything else keeps half its say. All else equal the
    background wins, because what only one view sees usually lies behind an edge. Beyond the other
    view's frame there need be no edge: nothing there costs more than the nearest plane inside.
    """
    planes = cost.shape[2]
    bias = settings.second_background_bias * COST_SCALE * np.arange(planes) / planes
    distance = np.abs(np.arange(2 * planes) - planes)  # a pixel's curve is a part of this one
    anchor = np.minimum(distance * settings.anchor_cost, settings.anchor_limit)
    _second_cost(
        cost, plane, anchored, surfaces.matrices, surfaces.lines, surfaces.planes,
        surfaces.trusted, rho_line(sweep), np.rint(bias).astype(np.uint8),
        np.rint(anchor * COST_SCALE).astype(np.uint8),
        round(settings.neutral_cost * COST_SCALE), round(settings.contradiction_cost * COST_SCALE),
    )  # fmt: skip


# Of several views the highest verdict holds.
OUTSIDE, HIDDEN, SEEN, CONTRADICTED = 0, 1, 2, 3


@kernel
def _second_cost(
    cost, plane, anchored, matrices, lines, other_planes, other_trusted, own_rho, bias, anchor,
    neutral, contradiction,
):  # fmt: skip
    height, width, planes = cost.shape
    verdicts = np.empty(planes, np.uint8)
    for y in range(height):
        for x in range(width):
            curve = cost[y, x]
            if anchored[y, x]:
                choice = int(plane[y, x] + np.float32(0.5))
                curve[:] = anchor[planes - choice : 2 * planes - choice]
                continue
            verdicts[:] = OUTSIDE
            for k in range(matrices.shape[0]):
                _judge(
                    matrices, lines, other_planes, other_trusted, k, x, y, own_rho[0], own_rho[1],
                    verdicts,
                )  # fmt: skip
            highest = np.uint8(0)
            for d in range(planes):
                if verdicts[d] != OUTSIDE:
                    highest = max(highest, bias[d])
            for d in range(planes):
                c = np.int64(curve[d])
                if verdicts[d] == CONTRADICTED:
                    c = max(c, neutral) + contradiction
                elif verdicts[d] == SEEN:
                    c = (c + neutral) // 2
                else:
                    c = neutral
                most = bias[d] if verdicts[d] != OUTSIDE else min(bias[d], highest)
                curve[d] = np.uint8(min(c + most, 255))


@kernel
def _judge(matrices, lines, other_planes, other_trusted, k, x, y, rho_first, rho_step, verdicts):
    """Raises each verdict to what view k says of the pixel's hypotheses.

    A whole curve at a time, and whole arrays with an index: every array handed to a function, and
    every row taken of one, costs atomic reference counts.
    """
    height, width = other_planes.shape[1:]
    px, py = np.float32(x) + np.float32(0.5), np.float32(y) + np.float32(0.5)
    u0 = matrices[k, 0, 0] * px + matrices[k, 0, 1] * py + matrices[k, 0, 2]
    v0 = matrices[k, 1, 0] * px + matrices[k, 1, 1] * py + matrices[k, 1, 2]
    s0 = matrices[k, 2, 0] * px + matrices[k, 2, 1] * py + matrices[k, 2, 2]
    du, dv, ds = matrices[k, 0, 3], matrices[k, 1, 3], matrices[k, 2, 3]
    first, step, gain = lines[k, 0], lines[k, 1], lines[k, 2]
    margin = lines[k, 3] * step
    for d in range(verdicts.size):
        rho = rho_first + rho_step * np.float32(d)
        s = s0 + ds * rho
        if s < np.float32(1e-3):
            continue
        inverse = np.float32(1) / s
        u, v = (u0 + du * rho) * inverse, (v0 + dv * rho) * inverse
        if not (u >= 0 and u < width and v >= 0 and v < height):
            continue
        qx, qy = np.uint32(u), np.uint32(v)
        verdict = np.uint8(SEEN)
        if other_trusted[k, qy, qx]:
            ahead = rho * gain * inverse - (first + step * other_planes[k, qy, qx])
            if ahead > margin:
                verdict = np.uint8(CONTRADICTED)
            elif ahead < -margin:
                verdict = np.uint8(HIDDEN)
        if verdict > verdicts[d]:
            verdicts[d] = verdict


def verdicts_on(plane: np.ndarray, surfaces: Surfaces, sweep: Sweep) -> np.ndarray:
    """What the other views say of one hypothesis per pixel, (H, W) uint8."""
    verdicts = np.zeros(plane.shape, np.uint8)
    _verdicts_on(
        plane, surfaces.matrices, surfaces.lines, surfaces.planes, surfaces.trusted,
        rho_line(sweep), verdicts,
    )  # fmt: skip
    return verdicts


def visibility(
    plane: np.ndarray, surfaces: Surfaces, sweep: Sweep
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels whose choice falls into another frame, and those that every such view hides."""
    verdicts = verdicts_on(plane, surfaces, sweep)
    return verdicts != OUTSIDE, verdicts == HIDDEN


@kernel
def _verdicts_on(plane, matrices, lines, other_planes, other_trusted, own_rho, verdicts):
    height, width = plane.shape
    for y in range(height):
        for x in range(width):
            rho = own_rho[0] + own_rho[1] * plane[y, x]
            for k in range(matrices.shape[0]):
                _judge(
                    matrices, lines, other_planes, other_trusted, k, x, y, rho, np.float32(0),
                    verdicts[y, x : x + 1],
                )  # fmt: skip


@kernel
def sample(photo, u, v, channel):
    """One channel of a photo (H, W, 3) at (u, v), bilinearly; the nearest edge outside it."""
    height, width = photo.shape[:2]
    u = min(max(u - np.float32(0.5), np.float32(0)), np.float32(width - 1))
    v = min(max(v - np.float32(0.5), np.float32(0)), np.float32(height - 1))
    x, y = min(int(u), width - 2), min(int(v), height - 2)
    fx, fy = u - np.float32(x), v - np.float32(y)
    one = np.float32(1)
    top = photo[y, x, channel] * (one - fx) + photo[y, x + 1, channel] * fx
    bottom = photo[y + 1, x, channel] * (one - fx) + photo[y + 1, x + 1, channel] * fx
    return top * (one - fy) + bottom * fy


@kernel
def add_partner_color(own, matrix, own_rho, agrees, other_image, total, count):
    """Adds the other photo's colours (H, W, 3), sampled bilinearly, where it agrees."""
    height, width = own.shape
    for y in range(height):
        for x in range(width):
            if not agrees[y, x]:
                continue
            rho = own_rho[0] + own_rho[1] * own[y, x]
            u, v, _ = transfer(matrix, np.float32(x), np.float32(y), rho)
            for c in range(3):
                total[y, x, c] += sample(other_image, u, v, c)
            count[y, x] += np.float32(1)


def color_difference(
    plane: np.ndarray, view: int, photos: list[np.ndarray], sweeps: list[Sweep]
) -> np.ndarray:
    """Mean absolute difference (H, W), 0-1, to the photo that fits best; 1 where none shows it.

    Args:
        plane: (H, W) hypotheses.
        view: Whose they are.
        photos: (H, W, 3) in [0, 1].
        sweeps: One per view.
    """
    lowest = np.ones(plane.shape, np.float32)
    own_rho = rho_line(sweeps[view])
    for there in sweeps[view].transfers:
        _lower_to_difference(
            plane, there.matrix, own_rho, photos[view], photos[there.other], lowest
        )
    return lowest


@kernel
def _lower_to_difference(own, matrix, own_rho, photo, other_photo, lowest):
    height, width = own.shape
    third = np.float32(1 / 3)
    for y in range(height):
        for x in range(width):
            rho = own_rho[0] + own_rho[1] * own[y, x]
            u, v, _ = transfer(matrix, np.float32(x), np.float32(y), rho)
            if not (u >= 0 and u < width and v >= 0 and v < height):
                continue
            difference = np.float32(0)
            for c in range(3):
                difference += abs(sample(other_photo, u, v, c) - photo[y, x, c])
            lowest[y, x] = min(lowest[y, x], difference * third)
