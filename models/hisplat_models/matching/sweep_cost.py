"""Matching cost of every pixel on every plane: census and colour of the warped other view.

Costs are fixed-point bytes (COST_SCALE units to one) laid out (row, column, plane): planes last
and contiguous, which is what lets the aggregation run on whole vectors of planes.
"""

import numpy as np

from ..compilation import kernel
from .geometry import Sweep
from .settings import MatchingSettings

COST_SCALE = 5  # the highest cost of either pass, 51 with both biases, still fits into a byte
CHANNEL_LEVELS = 510  # two per 8-bit level, so that 12 bits of weights fit beside them
CENSUS_ROWS, CENSUS_COLUMNS = 7, 9
NOWHERE = 255  # colour cost that marks samples outside the other frame


def pack_colors(image: np.ndarray) -> np.ndarray:
    """(3, H, W) in [0, 1] to (H, W) int64 holding three channels of 9 bits, 21 bits apart.

    One multiplication then weighs all channels at once.
    """
    r, g, b = np.rint(np.clip(image, 0, 1) * CHANNEL_LEVELS).astype(np.int64)
    return (r << 42) | (g << 21) | b


def sweep_cost(
    reference: np.ndarray, others: list[np.ndarray], sweep: Sweep, settings: MatchingSettings
) -> np.ndarray:
    """Fixed-point cost (H, W, planes), the mean over the other views that see the hypothesis.

    Args:
        reference: Packed colours of the view whose pixels are swept.
        others: Packed colours of the views in ``sweep.transfers``, in that order.
        sweep: Planes and transfers.
        settings: Weights and limits.
    """
    height, width = reference.shape
    rho = (sweep.rho_first + sweep.rho_step * np.arange(sweep.planes)).astype(np.float32)
    bits = np.minimum(np.arange(CENSUS_ROWS * CENSUS_COLUMNS), settings.census_limit)
    census_cost = np.rint(bits * settings.census_weight * COST_SCALE).astype(np.uint8)
    margin = np.int16(round(settings.census_margin * CHANNEL_LEVELS * 16 / 255))
    outside = round(settings.outside_cost * COST_SCALE)
    color_weight = np.float32(settings.color_weight * COST_SCALE * 255 / (CHANNEL_LEVELS * 16) / 3)
    color_limit = np.float32(settings.color_limit * COST_SCALE)
    shape = (height, width, sweep.planes)
    mark = outside if len(others) == 1 else NOWHERE
    cost = np.empty(shape, np.uint8)
    total, seen = (np.zeros(shape if len(others) > 1 else 0, t) for t in (np.uint16, np.uint8))
    for transfer, other in zip(sweep.transfers, others, strict=True):
        _fill_cost(
            reference, other, transfer.matrix, rho, census_cost, margin, color_weight, color_limit,
            mark, cost,
        )  # fmt: skip
        if len(others) > 1:
            _add_where_seen(cost, total, seen)
    if len(others) > 1:
        _mean_where_seen(total, seen, outside, cost)
    bias = settings.background_bias * COST_SCALE / sweep.planes * np.arange(sweep.planes)
    _add_bias(cost, np.rint(bias).astype(np.uint8))
    return cost


@kernel
def _add_bias(cost, bias):
    for y in range(cost.shape[0]):
        for x in range(cost.shape[1]):
            curve = cost[y, x]
            for d in range(bias.size):
                curve[d] += bias[d]


@kernel
def _fill_cost(
    reference, other, matrix, rho, census_cost, margin, color_weight, color_limit, mark, volume
):
    height, width = reference.shape
    planes = rho.size
    reach_y, reach_x = CENSUS_ROWS // 2, CENSUS_COLUMNS // 2
    # Only the rows that the census window spans are kept: they fit into the second-level cache.
    warped = np.empty((CENSUS_ROWS, planes, width + 2 * reach_x), np.int16)
    color = np.empty((CENSUS_ROWS, planes, width), np.uint8)
    gray = np.empty((height, width + 2 * reach_x), np.int16)
    for y in range(height):
        _gray_row(reference[y], gray[y])
    signs = np.empty((CENSUS_ROWS * CENSUS_COLUMNS, width), np.int16)
    count = np.empty(width, np.int16)
    centre = np.empty(width, np.int16)
    row_cost = np.empty((planes, width), np.uint8)
    index = np.empty(width, np.int32)
    weight_x = np.empty(width, np.int32)
    weight_y = np.empty(width, np.int32)
    shown = np.empty((CENSUS_ROWS, planes, 2), np.int32)
    for last in range(height + reach_y):
        if last < height:
            slot = last % CENSUS_ROWS
            for d in range(planes):
                _locate_row(matrix, last, rho[d], height, width, index, weight_x, weight_y)
                _shown_range(index, shown[slot, d])
                _warp_row(
                    reference[last], other, index, weight_x, weight_y, color_weight, color_limit,
                    warped[slot, d], color[slot, d],
                )  # fmt: skip
        y = last - reach_y
        if y < 0:
            continue
        _reference_signs(gray, y, margin, signs)
        for d in range(planes):
            count[:] = 0
            for x in range(width):
                centre[x] = warped[y % CENSUS_ROWS, d, reach_x + x] + margin
            for dy in range(CENSUS_ROWS):
                row = warped[min(max(y + dy - reach_y, 0), height - 1) % CENSUS_ROWS, d]
                _count_differing(row, centre, signs, dy * CENSUS_COLUMNS, count)
            _recount_at_border(y, d, height, warped, shown, centre, signs, count)
            _total_cost(count, census_cost, color[y % CENSUS_ROWS, d], mark, row_cost[d])
        _planes_last(row_cost, volume[y])


@kernel
def _locate_row(matrix, y, rho, height, width, index, weight_x, weight_y):
    """Where a row lands on a plane: offset of the top-left tap (-1: outside), 1/64 px weights."""
    half = np.float32(0.5)
    step = np.float32(64)
    cy = np.float32(y) + half
    m = matrix
    base_u = m[0, 0] * half + m[0, 1] * cy + m[0, 2] + m[0, 3] * rho
    base_v = m[1, 0] * half + m[1, 1] * cy + m[1, 2] + m[1, 3] * rho
    base_s = m[2, 0] * half + m[2, 1] * cy + m[2, 2] + m[2, 3] * rho
    du, dv, ds = m[0, 0], m[1, 0], m[2, 0]
    zero, one = np.float32(0), np.float32(1)
    wide, tall = np.float32(width), np.float32(height)
    last_u, last_v = np.float32((width - 1) * 64), np.float32((height - 1) * 64)
    tiny = np.float32(1e-3)
    for x in range(width):
        fx = np.float32(x)
        s = base_s + ds * fx
        safe = s if s > tiny else tiny
        inverse = one / safe
        u = (base_u + du * fx) * inverse
        v = (base_v + dv * fx) * inverse
        inside = (s > tiny) & (u >= zero) & (u <= wide) & (v >= zero) & (v <= tall)
        u = (u - half) * step
        v = (v - half) * step
        u = u if u > zero else zero
        v = v if v > zero else zero
        u = u if u < last_u else last_u
        v = v if v < last_v else last_v
        iu, iv = np.int32(u + half), np.int32(v + half)
        left, top = iu >> 6, iv >> 6
        left = left if left < width - 2 else width - 2
        top = top if top < height - 2 else height - 2
        weight_x[x] = iu - (left << 6)
        weight_y[x] = iv - (top << 6)
        offset = top * width + left
        index[x] = offset if inside else -1 - offset


@kernel
def _shown_range(index, out):
    """First and last pixel of a row that falls into the other frame; (width, -1) for none."""
    first, last = 0, index.size - 1
    while first < index.size and index[first] < 0:
        first += 1
    while last >= 0 and index[last] < 0:
        last -= 1
    out[0], out[1] = first, last


@kernel
def _recount_at_border(y, d, height, warped, shown, centre, signs, count):
    """Counts anew where the window reaches beyond the other frame: only what lies inside it.

    Beyond the frame its outermost pixels repeat, and their bits would pull matches near the border
    to wrong planes. The bits that count stand for all.
    """
    width = count.size
    reach_y, reach_x = CENSUS_ROWS // 2, CENSUS_COLUMNS // 2
    first, last = 0, width - 1
    for dy in range(CENSUS_ROWS):
        slot = min(max(y + dy - reach_y, 0), height - 1) % CENSUS_ROWS
        first, last = max(first, shown[slot, d, 0]), min(last, shown[slot, d, 1])
    own = y % CENSUS_ROWS
    for x in range(shown[own, d, 0], shown[own, d, 1] + 1):
        if (x >= first + reach_x or first == 0) and (x <= last - reach_x or last == width - 1):
            continue
        differing, counted = 0, 0
        for dy in range(CENSUS_ROWS):
            slot = min(max(y + dy - reach_y, 0), height - 1) % CENSUS_ROWS
            for dx in range(CENSUS_COLUMNS):
                column = min(max(x + dx - reach_x, 0), width - 1)
                if shown[slot, d, 0] <= column <= shown[slot, d, 1]:
                    brighter = np.int16(warped[slot, d, x + dx] > centre[x])
                    differing += brighter ^ signs[dy * CENSUS_COLUMNS + dx, x]
                    counted += 1
        count[x] = (differing * CENSUS_ROWS * CENSUS_COLUMNS + counted // 2) // counted


@kernel
def _warp_row(reference, other, index, weight_x, weight_y, color_weight, color_limit, gray, color):
    """Samples the other view bilinearly; gray is padded by replication, colour a scaled cost."""
    width = reference.size
    flat = other.reshape(-1)
    stride = np.uint32(other.shape[1])
    reach_x = CENSUS_COLUMNS // 2
    mask = (1 << 21) - 1
    for x in range(width):
        at = index[x]
        inside = at >= 0
        offset = np.uint32(at if inside else -1 - at)
        wx, wy = np.int64(weight_x[x]), np.int64(weight_y[x])
        top = flat[offset] * (64 - wx) + flat[offset + np.uint32(1)] * wx
        offset += stride
        bottom = flat[offset] * (64 - wx) + flat[offset + np.uint32(1)] * wx
        both = top * (64 - wy) + bottom * wy
        r, g, b = both >> 50, ((both >> 21) & mask) >> 8, (both & mask) >> 8
        gray[reach_x + x] = np.int16((r * 77 + g * 150 + b * 29) >> 8)
        own = reference[x]
        r0, g0, b0 = (own >> 42) << 4, ((own >> 21) & mask) << 4, (own & mask) << 4
        cost = np.float32(abs(r - r0) + abs(g - g0) + abs(b - b0)) * color_weight
        cost = cost if cost < color_limit else color_limit
        color[x] = np.uint8(cost + np.float32(0.5)) if inside else np.uint8(NOWHERE)
    _replicate(gray, reach_x)


@kernel
def _gray_row(packed, gray):
    reach_x = CENSUS_COLUMNS // 2
    mask = (1 << 21) - 1
    for x in range(packed.size):
        v = packed[x]
        r, g, b = (v >> 42) << 4, ((v >> 21) & mask) << 4, (v & mask) << 4
        gray[reach_x + x] = np.int16((r * 77 + g * 150 + b * 29) >> 8)
    _replicate(gray, reach_x)


@kernel
def _replicate(row, reach):
    for k in range(reach):
        row[k] = row[reach]
        row[row.size - 1 - k] = row[row.size - 1 - reach]


@kernel
def _reference_signs(gray, y, margin, signs):
    """The census of a row of the reference view: 1 where a neighbour is brighter."""
    height = gray.shape[0]
    width = signs.shape[1]
    reach_y, reach_x = CENSUS_ROWS // 2, CENSUS_COLUMNS // 2
    centre = gray[y, reach_x : reach_x + width]
    for dy in range(CENSUS_ROWS):
        row = gray[min(max(y + dy - reach_y, 0), height - 1)]
        for dx in range(CENSUS_COLUMNS):
            out = signs[dy * CENSUS_COLUMNS + dx]
            for x in range(width):
                out[x] = np.int16(row[dx + x] > centre[x] + margin)


@kernel
def _count_differing(row, centre, signs, first, count):
    """Adds the differing bits of one row of the census window.

    Its columns are written out, so that the loop over pixels becomes vector instructions with the
    count in a register.
    """
    width = count.size
    r0, r1, r2 = row[0:width], row[1 : width + 1], row[2 : width + 2]
    r3, r4, r5 = row[3 : width + 3], row[4 : width + 4], row[5 : width + 5]
    r6, r7, r8 = row[6 : width + 6], row[7 : width + 7], row[8 : width + 8]
    s0, s1, s2 = signs[first], signs[first + 1], signs[first + 2]
    s3, s4, s5 = signs[first + 3], signs[first + 4], signs[first + 5]
    s6, s7, s8 = signs[first + 6], signs[first + 7], signs[first + 8]
    for x in range(width):
        c = centre[x]
        total = np.int16(r0[x] > c) ^ s0[x]
        total += np.int16(r1[x] > c) ^ s1[x]
        total += np.int16(r2[x] > c) ^ s2[x]
        total += np.int16(r3[x] > c) ^ s3[x]
        total += np.int16(r4[x] > c) ^ s4[x]
        total += np.int16(r5[x] > c) ^ s5[x]
        total += np.int16(r6[x] > c) ^ s6[x]
        total += np.int16(r7[x] > c) ^ s7[x]
        total += np.int16(r8[x] > c) ^ s8[x]
        count[x] += total


@kernel
def _total_cost(count, census_cost, color, mark, out):
    for x in range(count.size):
        out[x] = mark if color[x] == NOWHERE else census_cost[count[x]] + color[x]


@kernel
def _planes_last(row_cost, out):
    """(planes, W) to (W, planes), in blocks so that both sides stay in cache lines."""
    planes, width = row_cost.shape
    for x0 in range(0, width, 64):
        for d in range(planes):
            row = row_cost[d]
            for x in range(x0, min(x0 + 64, width)):
                out[x, d] = row[x]


@kernel
def _add_where_seen(cost, total, seen):
    flat, flat_total, flat_seen = cost.reshape(-1), total.reshape(-1), seen.reshape(-1)
    for i in range(flat.size):
        if flat[i] != NOWHERE:
            flat_total[i] += flat[i]
            flat_seen[i] += 1


@kernel
def _mean_where_seen(total, seen, outside, cost):
    flat, flat_total, flat_seen = cost.reshape(-1), total.reshape(-1), seen.reshape(-1)
    for i in range(flat.size):
        count = np.int64(flat_seen[i])
        flat[i] = (flat_total[i] + count // 2) // count if count > 0 else outside
