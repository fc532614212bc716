"""Semi-global aggregation (Hirschmueller 2008) along eight paths, in two sweeps over the image.

All sums are 16-bit integers with planes contiguous, so that one vector instruction serves 16 or
32 planes: numba widens small integers, hence the three intrinsics that do not.
"""

from typing import no_type_check

import numpy as np
from numba import types
from numba.extending import intrinsic

from ..compilation import kernel
from .settings import MatchingSettings
from .sweep_cost import COST_SCALE

MOST_SHIFT = 2  # planes by which a path may follow a slope at once
UNREACHABLE = 20000  # path cost beyond the first and last plane; adding a penalty cannot overflow


@intrinsic
@no_type_check
def _add(typing_context, a, b):
    """A + b in 16 bits."""

    def build(context, builder, signature, args):
        return builder.add(args[0], args[1])

    return types.int16(types.int16, types.int16), build


@intrinsic
@no_type_check
def _subtract(typing_context, a, b):
    """A - b in 16 bits."""

    def build(context, builder, signature, args):
        return builder.sub(args[0], args[1])

    return types.int16(types.int16, types.int16), build


@intrinsic
@no_type_check
def _smaller(typing_context, a, b):
    """Minimum in 16 bits."""

    def build(context, builder, signature, args):
        return builder.select(builder.icmp_signed("<", args[0], args[1]), args[0], args[1])

    return types.int16(types.int16, types.int16), build


def aggregate(
    cost: np.ndarray,
    gray: np.ndarray,
    slopes: np.ndarray,
    settings: MatchingSettings,
    second: bool,
    total: np.ndarray,
    kept: np.ndarray,
) -> None:
    """Writes the sum over eight paths of a fixed-point cost; about 8 costs in size.

    Besides ``total`` it takes memory for six rows only.

    Args:
        cost: (H, W, planes) bytes.
        gray: (H, W) intensities, 0-255.
        slopes: (H, W, 2) float32, planes by which the surface is expected to change a pixel to the
            right and a pixel down: paths follow it without a penalty.
        settings: Penalties.
        second: Whether with those of the second pass.
        total: (H, W, planes) int16 to write to.
        kept: (H, W) pixels whose curves in ``total`` stay as they are.
    """
    small_jump, large_jump = jump_penalties(cost.shape[2], settings, second)
    _sweep(cost, gray, slopes, small_jump, large_jump, total, kept, False)
    _sweep(cost, gray, slopes, small_jump, large_jump, total, kept, True)


def jump_penalties(
    planes: int, settings: MatchingSettings, second: bool
) -> tuple[np.int16, np.ndarray]:
    """Of a change of one plane, and of more by intensity difference (256), in fixed point."""
    grown = settings.small_jump * (96 / planes) ** settings.small_jump_growth[second]
    small = min(max(grown, settings.small_jump_least), settings.small_jump_most[second])
    large = settings.large_jump / (1 + settings.large_jump_edge * np.arange(256))
    large = np.maximum(large, 1.5 * small)
    return np.int16(round(small * COST_SCALE)), np.rint(large * COST_SCALE).astype(np.int16)


@kernel
def _sweep(cost, gray, slopes, small_jump, large_jump, total, kept, backward):
    """Four paths: along the row and from the three neighbours in the row before.

    Buffers have a border of zeros (columns) so that paths start at the image's edge, and one of
    UNREACHABLE (planes), as wide as a path may shift.
    """
    height, width, planes = cost.shape
    step = -1 if backward else 1
    way = np.float32(step)
    before = np.zeros((3, width + 2, planes + 2 * MOST_SHIFT + 2), np.int16)
    now = np.zeros((3, width + 2, planes + 2 * MOST_SHIFT + 2), np.int16)
    before_min = np.zeros((3, width + 2), np.int16)
    now_min = np.zeros((3, width + 2), np.int16)
    along = np.empty((2, planes + 2 * MOST_SHIFT + 2), np.int16)
    unread = np.empty(planes, np.int16)
    border = MOST_SHIFT + 1
    for buffer in (before, now):
        buffer[:, :, :border] = UNREACHABLE
        buffer[:, :, planes + border :] = UNREACHABLE
    for n in range(height):
        y = height - 1 - n if backward else n
        along[:] = 0
        along[:, :border] = UNREACHABLE
        along[:, planes + border :] = UNREACHABLE
        along_min = np.int16(0)
        for m in range(width):
            x = width - 1 - m if backward else m
            here = np.int64(gray[y, x])
            local = cost[y, x]
            right, down = slopes[y, x, 0], slopes[y, x, 1]
            sums = unread if kept[y, x] else total[y, x]
            if not backward:
                sums[:] = 0
            xb = min(max(x - step, 0), width - 1)
            penalty = large_jump[abs(here - np.int64(gray[y, xb]))]
            along_min = _extend(
                along[m & 1], along_min, local, _shift(way * right, m), small_jump, penalty,
                along[1 - (m & 1)], sums,
            )  # fmt: skip
            yb = min(max(y - step, 0), height - 1)
            for k in range(3):
                xk = min(max(x + k - 1, 0), width - 1)
                penalty = large_jump[abs(here - np.int64(gray[yb, xk]))]
                now_min[k, x + 1] = _extend(
                    before[k, x + k], before_min[k, x + k], local,
                    _shift(way * down - np.float32(k - 1) * right, n), small_jump, penalty,
                    now[k, x + 1], sums,
                )  # fmt: skip
        before, now = now, before
        before_min, now_min = now_min, before_min


@kernel
def _shift(change, n):
    """Whole planes between the n-th pixel of a path and the one before, ``change`` on average."""
    most, half = np.float32(MOST_SHIFT), np.float32(0.5)
    change = min(max(change, -most), most)
    before = np.floor(change * np.float32(n - 1) + half)
    return int(np.floor(change * np.float32(n) + half) - before)


@kernel
def _extend(before, before_min, cost, shift, small_jump, large_jump, now, sums):
    """Path costs at the next pixel; adds them to the sums and returns the smallest."""
    planes = cost.size
    ceiling = _add(before_min, large_jump)  # pyright: ignore[reportCallIssue]
    first = MOST_SHIFT + 1 - shift
    below = before[first - 1 : first - 1 + planes]
    same = before[first : first + planes]
    above = before[first + 1 : first + 1 + planes]
    out = now[MOST_SHIFT + 1 : MOST_SHIFT + 1 + planes]
    smallest = np.int16(UNREACHABLE)
    for d in range(planes):
        best = _smaller(same[d], _add(_smaller(below[d], above[d]), small_jump))
        best = _smaller(best, ceiling)
        value = _add(_subtract(best, before_min), np.int16(cost[d]))
        out[d] = value
        sums[d] = _add(sums[d], value)
        smallest = _smaller(smallest, value)
    return smallest
