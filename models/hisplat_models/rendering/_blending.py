"""Front-to-back blending inside tiles, and its gradients.

A tile keeps its pixels as planes of one small buffer that stays in the first-level cache, eight
pixels to a row. Loops over the eight are what the compiler turns into SIMD; for that their
indices are unsigned (signed ones would be tested for wrapping around) and nothing in them
branches. A finished pixel keeps its transmittance with the sign flipped.
"""

import math
from typing import no_type_check

import numpy as np
from numba import types
from numba.extending import overload

from ..compilation import inlined, reordering_kernel
from ._binning import TILE_HEIGHT, TILE_PIXELS, TILE_WIDTH
from ._projection import (
    BLUE,
    DEPTH,
    END_ROW,
    FIRST_ROW,
    FORM_A,
    FORM_B,
    FORM_C,
    GREEN,
    LOG_OPACITY,
    MEAN_X,
    MEAN_Y,
    MOMENT,
    MOMENT_X,
    MOMENT_XX,
    MOMENT_XY,
    MOMENT_Y,
    MOMENT_YY,
    RED,
    RIM,
    RIM_FALL,
    SHIFT,
    SLOPE,
    SLOT_BLUE,
    SLOT_DEPTH,
    SLOT_GREEN,
    SLOT_RED,
)

# Half a pixel turns positions into the rows whose centres lie beyond or before them; the rest
# covers rounding errors.
_TO_FIRST, _TO_LAST = np.float32(0.48), np.float32(0.52)
LANES = np.uint64(TILE_WIDTH)
PLANE = TILE_PIXELS
SUM_PLANE = TILE_PIXELS + TILE_WIDTH
# Pairs are taken in blocks; between them a tile looks which of its rows still take light.
BLOCK = 32


def exp2(x):
    """2 to the power of x in [-126, 1]."""
    return 2.0**x


@overload(exp2, inline="never")
@no_type_check
def _exp2_of_type(x):
    """Full precision for float64; for float32 a polynomial that vectorises (1e-7 relative)."""
    if x == types.float32:

        def single(x):
            whole = np.int32(x - np.float32(0.5))  # rounds to nearest, as x <= 0.5
            f = x - np.float32(whole)
            p = np.float32(0.00132765)
            p = p * f + np.float32(0.00967554)
            p = p * f + np.float32(0.05550713)
            p = p * f + np.float32(0.2402212)
            p = p * f + np.float32(0.69314697)
            p = p * f + np.float32(1.00000007)
            return p * np.int32((whole + np.int32(127)) << np.int32(23)).view(np.float32)

        return single

    def double(x):
        return math.exp(x * 0.6931471805599453)

    return double


@inlined
def fill_row_spans(records, gaussian_of, first, last, x_low, x_high, y_low, y_high, spans):
    """For pairs first to last, the rows of y_low to y_high where the ellipse meets the columns.

    The ellipse is where alpha >= alpha_min; ``x_low`` and ``x_high`` are the columns' outermost
    pixel centres. Rows are widened by a hair; each pixel is tested again when it is blended.
    A pass of its own, so that waiting for one Gaussian's memory overlaps with the next one's.
    """
    y_low, y_high = np.float32(y_low), np.float32(y_high)
    for pair in range(first, last):
        n = gaussian_of[pair]
        left, right = x_low - records[n, MEAN_X], x_high - records[n, MEAN_X]
        shift, slope = records[n, SHIFT], records[n, SLOPE]
        dx_top, dx_bottom = min(max(-shift, left), right), min(max(shift, left), right)
        above = records[n, RIM] - records[n, RIM_FALL] * dx_top * dx_top
        below = records[n, RIM] - records[n, RIM_FALL] * dx_bottom * dx_bottom
        if min(above, below) < 0:
            spans[pair - first, 0] = spans[pair - first, 1] = 0
            continue
        center = records[n, MEAN_Y]
        top = center + slope * dx_top - math.sqrt(above) + _TO_FIRST
        bottom = center + slope * dx_bottom + math.sqrt(below) + _TO_LAST
        top, bottom = max(top, records[n, FIRST_ROW]), min(bottom, records[n, END_ROW])
        spans[pair - first, 0] = np.int32(min(max(top, y_low), y_high))
        spans[pair - first, 1] = np.int32(max(min(bottom, y_high), y_low))


@inlined
def _live_rows(buffer, first, last):
    """The range first to last without finished rows at either end."""
    while first < last and _row_is_finished(buffer, first):
        first += 1
    while first < last and _row_is_finished(buffer, last - 1):
        last -= 1
    return first, last


@inlined
def _row_is_finished(buffer, row):
    for i in range(row * TILE_WIDTH, (row + 1) * TILE_WIDTH):
        if buffer[i] > 0:
            return False
    return True


@reordering_kernel
def blend(
    first_tile, last_tile, records, starts, gaussian_of, tiles_x, settings, background,
    color, depth, alpha, state,
):  # fmt: skip
    """Draws tiles first to last into the images of one view.

    ``state`` receives each tile's final transmittance (negative where a pixel finished early)
    and the list position at which it finished, for the gradients.
    """
    _, alpha_max_, alpha_min_, transmittance_min_, _, _ = settings
    height, width = depth.shape
    kind = records.dtype.type
    alpha_max, transmittance_min = kind(alpha_max_), kind(transmittance_min_)
    log_min_ = math.log2(alpha_min_)
    log_min, log_floor = kind(log_min_), kind(max(log_min_ - 1, -120.0))
    zero, half = kind(0), kind(0.5)
    spans = np.empty((BLOCK, 2), np.int32)
    buffer = np.empty(6 * PLANE, records.dtype)
    t, stopped, red, green, blue, far = (
        np.uint64(0),
        np.uint64(PLANE),
        np.uint64(2 * PLANE),
        np.uint64(3 * PLANE),
        np.uint64(4 * PLANE),
        np.uint64(5 * PLANE),
    )
    for tile in range(first_tile, last_tile):
        left, top = (tile % tiles_x) * TILE_WIDTH, (tile // tiles_x) * TILE_HEIGHT
        rows, columns = min(TILE_HEIGHT, height - top), min(TILE_WIDTH, width - left)
        x_low, x_high = kind(left) + half, kind(left + columns) - half
        buffer[:PLANE] = 1
        buffer[PLANE : 2 * PLANE] = 1e9
        buffer[2 * PLANE :] = 0
        live_first, live_last = 0, rows
        first = np.int64(starts[tile])
        count = np.int64(starts[tile + 1]) - first
        for begin in range(0, count, BLOCK):
            end = min(begin + BLOCK, count)
            live_first, live_last = _live_rows(buffer, live_first, live_last)
            if live_first >= live_last:
                break
            fill_row_spans(
                records, gaussian_of, first + begin, first + end, x_low, x_high,
                top + live_first, top + live_last, spans,
            )  # fmt: skip
            for rank in range(begin, end):
                n, position = gaussian_of[first + rank], kind(rank)
                y_first, y_last = spans[rank - begin, 0], spans[rank - begin, 1]
                x_offset = x_low - records[n, MEAN_X]
                form_a, form_b, form_c = records[n, FORM_A], records[n, FORM_B], records[n, FORM_C]
                log_opacity = records[n, LOG_OPACITY]
                r, g, b, z = records[n, RED], records[n, GREEN], records[n, BLUE], records[n, DEPTH]
                for row in range(y_first, y_last):
                    dy = kind(row) + half - records[n, MEAN_Y]
                    across, along = form_b * dy, form_c * dy * dy + log_opacity
                    base = np.uint64(row - top) * LANES
                    for lane in range(LANES):
                        i = base + lane
                        dx = kind(np.int32(lane)) + x_offset
                        log_alpha = (form_a * dx + across) * dx + along
                        value = min(alpha_max, exp2(max(log_alpha, log_floor)))
                        value = value if log_alpha >= log_min else zero
                        before = buffer[t + i]
                        after = before - before * value
                        ends = after < transmittance_min
                        weight = zero if ends else before * value
                        buffer[stopped + i] = (
                            min(buffer[stopped + i], position) if ends else buffer[stopped + i]
                        )
                        buffer[t + i] = -abs(before) if ends else after
                        buffer[red + i] += weight * r
                        buffer[green + i] += weight * g
                        buffer[blue + i] += weight * b
                        buffer[far + i] += weight * z
        for row in range(rows):
            for column in range(columns):
                i = np.uint64(row * TILE_WIDTH + column)
                rest = abs(buffer[i])
                y, x = top + row, left + column
                color[0, y, x] = buffer[red + i] + rest * background[0]
                color[1, y, x] = buffer[green + i] + rest * background[1]
                color[2, y, x] = buffer[blue + i] + rest * background[2]
                depth[y, x] = buffer[far + i]
                alpha[y, x] = kind(1) - rest
        if state.shape[0] > 0:
            state[tile, :] = buffer[: 2 * PLANE]


@reordering_kernel
def blend_gradients(
    first_tile, last_tile, records, starts, gaussian_of, slot_of, tiles_x, settings, background,
    d_color, d_depth, d_alpha, state, slots,
):  # fmt: skip
    """Fills the slots of all pairs in tiles first to last, from the images' gradients.

    Back to front, so that both the light in front (transmittance) and the colour behind are
    at hand: the latter as its product with the gradients, the ``behind`` plane.
    """
    _, alpha_max_, alpha_min_, _, _, _ = settings
    height, width = d_depth.shape
    kind = records.dtype.type
    alpha_max = kind(alpha_max_)
    log_min_ = math.log2(alpha_min_)
    log_min, log_floor = kind(log_min_), kind(max(log_min_ - 1, -120.0))
    zero, half, one = kind(0), kind(0.5), kind(1)
    spans = np.empty((BLOCK, 2), np.int32)
    buffer = np.empty(8 * PLANE + 7 * SUM_PLANE, records.dtype)
    t, stopped, behind, d_red, d_green, d_blue, d_far, d_weight = (
        np.uint64(0),
        np.uint64(PLANE),
        np.uint64(2 * PLANE),
        np.uint64(3 * PLANE),
        np.uint64(4 * PLANE),
        np.uint64(5 * PLANE),
        np.uint64(6 * PLANE),
        np.uint64(7 * PLANE),
    )
    # Sums over the rows of one Gaussian, per column. They run along the rows, each row's in its
    # own place, since only then does the compiler see that they don't overlap the planes.
    s_0, s_y, s_yy, s_red, s_green, s_blue, s_far = (
        np.uint64(8 * PLANE),
        np.uint64(8 * PLANE + SUM_PLANE),
        np.uint64(8 * PLANE + 2 * SUM_PLANE),
        np.uint64(8 * PLANE + 3 * SUM_PLANE),
        np.uint64(8 * PLANE + 4 * SUM_PLANE),
        np.uint64(8 * PLANE + 5 * SUM_PLANE),
        np.uint64(8 * PLANE + 6 * SUM_PLANE),
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
                y, x = top + row, left + column
                last_position = max(last_position, buffer[stopped + i])
                buffer[t + i] = abs(buffer[t + i])
                red, green, blue = d_color[0, y, x], d_color[1, y, x], d_color[2, y, x]
                buffer[d_red + i] = red
                buffer[d_green + i] = green
                buffer[d_blue + i] = blue
                buffer[d_far + i] = d_depth[y, x]
                # What the weights cover, the background loses.
                shown = red * background[0] + green * background[1] + blue * background[2]
                buffer[d_weight + i] = d_alpha[y, x] - shown
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
                r, g, b, z = records[n, RED], records[n, GREEN], records[n, BLUE], records[n, DEPTH]
                base = np.uint64(y_first - top) * LANES
                for plane in range(7):
                    start = np.uint64(8 * PLANE + plane * SUM_PLANE) + base
                    for lane in range(LANES):
                        buffer[start + lane] = 0
                for row in range(y_first, y_last):
                    dy = kind(row) + half - records[n, MEAN_Y]
                    across, along = form_b * dy, form_c * dy * dy + log_opacity
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
                        g_red, g_green = buffer[d_red + i], buffer[d_green + i]
                        g_blue, g_far = buffer[d_blue + i], buffer[d_far + i]
                        gain = (
                            g_red * r + g_green * g + g_blue * b + g_far * z + buffer[d_weight + i]
                        )
                        d_value = before * gain - buffer[behind + i] * keep
                        d_log = d_value * value if raw <= alpha_max else zero
                        buffer[t + i] = before
                        buffer[behind + i] += weight * gain
                        buffer[s_0 + i + LANES] = buffer[s_0 + i] + d_log
                        buffer[s_y + i + LANES] = buffer[s_y + i] + d_log * dy
                        buffer[s_yy + i + LANES] = buffer[s_yy + i] + d_log * dy * dy
                        buffer[s_red + i + LANES] = buffer[s_red + i] + weight * g_red
                        buffer[s_green + i + LANES] = buffer[s_green + i] + weight * g_green
                        buffer[s_blue + i + LANES] = buffer[s_blue + i] + weight * g_blue
                        buffer[s_far + i + LANES] = buffer[s_far + i] + weight * g_far
                base = np.uint64(y_last - top) * LANES
                m, m_x, m_y, m_xx, m_xy, m_yy = zero, zero, zero, zero, zero, zero
                c_red, c_green, c_blue, c_far = zero, zero, zero, zero
                for lane in range(LANES):
                    dx = kind(np.int32(lane)) + x_offset
                    moment, moment_y = buffer[s_0 + base + lane], buffer[s_y + base + lane]
                    m += moment
                    m_x += moment * dx
                    m_y += moment_y
                    m_xx += moment * dx * dx
                    m_xy += moment_y * dx
                    m_yy += buffer[s_yy + base + lane]
                    c_red += buffer[s_red + base + lane]
                    c_green += buffer[s_green + base + lane]
                    c_blue += buffer[s_blue + base + lane]
                    c_far += buffer[s_far + base + lane]
                slots[slot, MOMENT] = m
                slots[slot, MOMENT_X] = m_x
                slots[slot, MOMENT_Y] = m_y
                slots[slot, MOMENT_XX] = m_xx
                slots[slot, MOMENT_XY] = m_xy
                slots[slot, MOMENT_YY] = m_yy
                slots[slot, SLOT_RED] = c_red
                slots[slot, SLOT_GREEN] = c_green
                slots[slot, SLOT_BLUE] = c_blue
                slots[slot, SLOT_DEPTH] = c_far
