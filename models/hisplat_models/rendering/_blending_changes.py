"""Gradients of front-to-back blending to what changes of Gaussians that stay in their places.

The arithmetic of `_blending.blend_gradients`, without depths, alphas and backgrounds, which nobody
asks about, and with one sum over pixels in place of the six moments: with Q the inverse of the
image covariance and d the offset of a pixel, a size s multiplies the covariance without dilation
by s^2, so that the logarithm of alpha, -d^T Q d / 2, changes with log s by
d^T (Q - dilation Q^2) d.
"""

import math

import numpy as np

from ..compilation import reordering_kernel
from ._binning import TILE_HEIGHT, TILE_WIDTH
from ._blending import BLOCK, LANES, PLANE, SUM_PLANE, exp2, fill_row_spans
from ._placing import CHANGE_BLUE, CHANGE_GREEN, CHANGE_OPACITY, CHANGE_RED, CHANGE_SIZE
from ._projection import (
    BLUE,
    FORM_A,
    FORM_B,
    FORM_C,
    GREEN,
    LOG2_E,
    LOG_OPACITY,
    MEAN_X,
    MEAN_Y,
    RED,
)


@reordering_kernel
def blend_changes(
    first_tile, last_tile, records, starts, gaussian_of, slot_of, tiles_x, settings, d_color,
    state, slots,
):  # fmt: skip
    """Fills the slots of all pairs in tiles first to last, from the colours' gradients."""
    dilation_, alpha_max_, alpha_min_, _, _, _ = settings
    height, width = d_color.shape[1:]
    kind = records.dtype.type
    dilation, alpha_max, to_inverse = kind(dilation_), kind(alpha_max_), kind(1 / LOG2_E)
    log_min_ = math.log2(alpha_min_)
    log_min, log_floor = kind(log_min_), kind(max(log_min_ - 1, -120.0))
    zero, half, one, two = kind(0), kind(0.5), kind(1), kind(2)
    spans = np.empty((BLOCK, 2), np.int32)
    buffer = np.empty(6 * PLANE + 5 * SUM_PLANE, records.dtype)
    t, stopped, behind, d_red, d_green, d_blue = (
        np.uint64(0),
        np.uint64(PLANE),
        np.uint64(2 * PLANE),
        np.uint64(3 * PLANE),
        np.uint64(4 * PLANE),
        np.uint64(5 * PLANE),
    )
    s_opacity, s_size, s_red, s_green, s_blue = (
        np.uint64(6 * PLANE),
        np.uint64(6 * PLANE + SUM_PLANE),
        np.uint64(6 * PLANE + 2 * SUM_PLANE),
        np.uint64(6 * PLANE + 3 * SUM_PLANE),
        np.uint64(6 * PLANE + 4 * SUM_PLANE),
    )
    for tile in range(first_tile, last_tile):
        left, top = (tile % tiles_x) * TILE_WIDTH, (tile // tiles_x) * TILE_HEIGHT
        rows, columns = min(TILE_HEIGHT, height - top), min(TILE_WIDTH, width - left)
        x_low, x_high = kind(left) + half, kind(left + columns) - half
        buffer[: 2 * PLANE] = state[tile]
        buffer[2 * PLANE :] = 0
        last_position = zero
        for row in range(rows):
            for column in range(columns):
                i = np.uint64(row * TILE_WIDTH + column)
                last_position = max(last_position, buffer[stopped + i])
                buffer[t + i] = abs(buffer[t + i])
                buffer[d_red + i] = d_color[0, top + row, left + column]
                buffer[d_green + i] = d_color[1, top + row, left + column]
                buffer[d_blue + i] = d_color[2, top + row, left + column]
        first = np.int64(starts[tile])
        count = np.int64(starts[tile + 1]) - first
        for block in range((count - 1) // BLOCK, -1, -1):
            begin, end = block * BLOCK, min((block + 1) * BLOCK, count)
            fill_row_spans(
                records, gaussian_of, first + begin, first + end, x_low, x_high, top, top + rows,
                spans,
            )  # fmt: skip
            for rank in range(end - 1, begin - 1, -1):
                n, slot, position = gaussian_of[first + rank], slot_of[first + rank], kind(rank)
                y_first, y_last = spans[rank - begin, 0], spans[rank - begin, 1]
                if position >= last_position or y_first >= y_last:
                    slots[slot, :] = 0
                    continue
                x_offset = x_low - records[n, MEAN_X]
                form_a, form_b, form_c = records[n, FORM_A], records[n, FORM_B], records[n, FORM_C]
                log_opacity = records[n, LOG_OPACITY]
                r, g, b = records[n, RED], records[n, GREEN], records[n, BLUE]
                # Q, then Q - dilation Q^2.
                q_xx, q_yy = -two * form_a * to_inverse, -two * form_c * to_inverse
                q_xy = -form_b * to_inverse
                g_xx = q_xx - dilation * (q_xx * q_xx + q_xy * q_xy)
                g_xy = two * (q_xy - dilation * q_xy * (q_xx + q_yy))
                g_yy = q_yy - dilation * (q_xy * q_xy + q_yy * q_yy)
                base = np.uint64(y_first - top) * LANES
                for plane in range(5):
                    start = np.uint64(6 * PLANE + plane * SUM_PLANE) + base
                    for lane in range(LANES):
                        buffer[start + lane] = 0
                for row in range(y_first, y_last):
                    dy = kind(row) + half - records[n, MEAN_Y]
                    across, along = form_b * dy, form_c * dy * dy + log_opacity
                    g_across, g_along = g_xy * dy, g_yy * dy * dy
                    base = np.uint64(row - top) * LANES
                    for lane in range(LANES):
                        i = base + lane
                        dx = kind(np.int32(lane)) + x_offset
                        log_alpha = (form_a * dx + across) * dx + along
                        raw = exp2(max(log_alpha, log_floor))
                        value = min(alpha_max, raw)
                        value = value if log_alpha >= log_min else zero
                        value = value if position < buffer[stopped + i] else zero
                        keep = one / (one - value)
                        before = buffer[t + i] * keep
                        weight = before * value
                        red, green, blue = (
                            buffer[d_red + i], buffer[d_green + i], buffer[d_blue + i]
                        )  # fmt: skip
                        gain = red * r + green * g + blue * b
                        d_value = before * gain - buffer[behind + i] * keep
                        d_log = d_value * value if raw <= alpha_max else zero
                        d_size = d_log * ((g_xx * dx + g_across) * dx + g_along)
                        buffer[t + i] = before
                        buffer[behind + i] += weight * gain
                        buffer[s_opacity + i + LANES] = buffer[s_opacity + i] + d_log
                        buffer[s_size + i + LANES] = buffer[s_size + i] + d_size
                        buffer[s_red + i + LANES] = buffer[s_red + i] + weight * red
                        buffer[s_green + i + LANES] = buffer[s_green + i] + weight * green
                        buffer[s_blue + i + LANES] = buffer[s_blue + i] + weight * blue
                base = np.uint64(y_last - top) * LANES
                c_opacity, c_size, c_red, c_green, c_blue = zero, zero, zero, zero, zero
                for lane in range(LANES):
                    c_opacity += buffer[s_opacity + base + lane]
                    c_size += buffer[s_size + base + lane]
                    c_red += buffer[s_red + base + lane]
                    c_green += buffer[s_green + base + lane]
                    c_blue += buffer[s_blue + base + lane]
                slots[slot, CHANGE_OPACITY] = c_opacity
                slots[slot, CHANGE_SIZE] = c_size
                slots[slot, CHANGE_RED] = c_red
                slots[slot, CHANGE_GREEN] = c_green
                slots[slot, CHANGE_BLUE] = c_blue
