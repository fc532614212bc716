"""Depth for pixels without a match, from trusted pixels around them."""

from typing import TypeVar, cast

import numpy as np
from torch import Tensor

from ..compilation import kernel
from .consistency import CONTRADICTED, SEEN
from .settings import MatchingSettings

Map = TypeVar("Map", np.ndarray, Tensor)

_REACH = 8  # samples on each side of a window: two sigmas at a stride of a quarter sigma
_TABLE_STEPS = 16  # entries of the colour weight table per unit of its exponent
_TABLE_END = 6  # exponent beyond which the weight counts as zero


def fill_by_fit(
    plane: np.ndarray,
    trusted: np.ndarray,
    image: np.ndarray,
    fallback: np.ndarray,
    settings: MatchingSettings,
) -> np.ndarray:
    """``plane`` with untrusted pixels replaced by edge-aware moving-least-squares affine fits.

    Windows grow until trusted pixels of similar colour weigh enough; where they never do, the
    ``fallback`` is taken.

    Args:
        plane: (H, W) fractional planes.
        trusted: (H, W) where they hold.
        image: (H, W, 3) in [0, 1].
        fallback: (H, W) fractional planes.
        settings: Scales and weights.
    """
    result = np.where(trusted, plane, fallback).astype(np.float32)
    open_pixels = ~trusted
    table = np.exp(-np.arange(_TABLE_STEPS * _TABLE_END) / _TABLE_STEPS).astype(np.float32)
    for scale in settings.fill_scales_px:
        stride = max(1, round(scale / 4))
        samples = _sample_cells(plane, trusted, image, stride)
        _fit(
            samples, stride, np.float32(scale), image, table,
            np.float32(_TABLE_STEPS / (2 * settings.fill_color_sigma**2)),
            np.float32(settings.fill_slope), np.float32(settings.fill_min_weight),
            open_pixels, result,
        )  # fmt: skip
    return result


def fit_holds(
    fit_verdict: Map,
    fit_difference: Map,
    choice_verdict: Map,
    choice_difference: Map,
    settings: MatchingSettings,
) -> Map:
    """Where a fit is preferred to the second pass's choice at a pixel without a match.

    The choice knows of occlusion and edges, which fits smooth over. It gives way where the other
    view sees through it, or where that view shows the fit and its colours speak no worse for it.

    Args:
        fit_verdict: What the other views say of the fit.
        fit_difference: How far their colours at the fit are from the pixel's, 0-1.
        choice_verdict: What they say of the choice.
        choice_difference: Their colours at the choice.
        settings: Margins.
    """
    shown = choice_verdict >= SEEN
    allowed = shown * (choice_difference + settings.fill_mismatch)
    allowed = allowed + ~shown * settings.fill_unseen_mismatch
    alike = (fit_verdict == SEEN) & (fit_difference < allowed)
    return cast("Map", alike | (choice_verdict == CONTRADICTED))


@kernel
def _sample_cells(plane, trusted, image, stride):
    """One trusted pixel of each stride x stride cell: (rows, columns, [x, y, plane, r, g, b]).

    x is -1 in cells without one. The pixel nearest to the cell's centre is taken: a real pixel
    has a real colour, an average over an edge has not.
    """
    height, width = plane.shape
    rows, columns = (height + stride - 1) // stride, (width + stride - 1) // stride
    samples = np.empty((rows, columns, 6), np.float32)
    for i in range(rows):
        for j in range(columns):
            samples[i, j, 0] = -1
            nearest = 1e9
            cy, cx = i * stride + 0.5 * (stride - 1), j * stride + 0.5 * (stride - 1)
            for y in range(i * stride, min((i + 1) * stride, height)):
                for x in range(j * stride, min((j + 1) * stride, width)):
                    distance = (x - cx) ** 2 + (y - cy) ** 2
                    if trusted[y, x] and distance < nearest:
                        nearest = distance
                        samples[i, j, 0], samples[i, j, 1] = x, y
                        samples[i, j, 2] = plane[y, x]
                        samples[i, j, 3:] = image[y, x]
    return samples


@kernel
def _fit(samples, stride, scale, image, table, color_rate, slope, min_weight, open_pixels, result):
    height, width = open_pixels.shape
    rows, columns = samples.shape[:2]
    space_rate = np.float32(_TABLE_STEPS) / (2 * scale * scale)
    ridge = np.float32(0.05) * scale * scale
    zero = np.float32(0)
    for y in range(height):
        for x in range(width):
            if not open_pixels[y, x]:
                continue
            r, g, b = image[y, x, 0], image[y, x, 1], image[y, x, 2]
            ci, cj = y // stride, x // stride
            w0 = wx = wy = wz = wxx = wxy = wyy = wxz = wyz = zero
            for i in range(max(ci - _REACH, 0), min(ci + _REACH + 1, rows)):
                for j in range(max(cj - _REACH, 0), min(cj + _REACH + 1, columns)):
                    sample = samples[i, j]
                    if sample[0] < 0:
                        continue
                    dr, dg, db = sample[3] - r, sample[4] - g, sample[5] - b
                    dx, dy, z = sample[0] - x, sample[1] - y, sample[2]
                    exponent = (dr * dr + dg * dg + db * db) * color_rate
                    exponent += np.float32(dx * dx + dy * dy) * space_rate
                    if exponent >= table.size:
                        continue
                    w = table[int(exponent)]
                    w0 += w
                    wx += w * dx
                    wy += w * dy
                    wz += w * z
                    wxx += w * dx * dx
                    wxy += w * dx * dy
                    wyy += w * dy * dy
                    wxz += w * dx * z
                    wyz += w * dy * z
            if w0 < min_weight:
                continue
            mx, my, mz = wx / w0, wy / w0, wz / w0
            xx, yy = wxx / w0 - mx * mx + ridge, wyy / w0 - my * my + ridge
            xy = wxy / w0 - mx * my
            xz, yz = wxz / w0 - mx * mz, wyz / w0 - my * mz
            det = xx * yy - xy * xy
            gx, gy = (xz * yy - yz * xy) / det, (yz * xx - xz * xy) / det
            result[y, x] = mz - slope * (gx * mx + gy * my)
            open_pixels[y, x] = False


def background_planes(
    plane: np.ndarray, trusted: np.ndarray, planes: int, cell: int, settings: MatchingSettings
) -> np.ndarray:
    """Low quantile of trusted planes around each cell x cell block, (H / cell, W / cell)."""
    radius = max(1, round(settings.background_radius_px / cell))
    counts = _cell_histograms(plane, trusted, planes, cell)
    sums = np.zeros((counts.shape[0] + 1, counts.shape[1] + 1, planes), np.int32)
    sums[1:, 1:] = counts.cumsum(0, dtype=np.int32).cumsum(1, dtype=np.int32)
    enough = settings.background_radius_px**2 / 4
    return _quantiles(sums, radius, enough, settings.background_quantile)


@kernel
def _cell_histograms(plane, trusted, planes, cell):
    height, width = plane.shape
    counts = np.zeros((height // cell, width // cell, planes), np.int32)
    for y in range(height):
        for x in range(width):
            if trusted[y, x]:
                d = min(max(int(plane[y, x] + np.float32(0.5)), 0), planes - 1)
                counts[y // cell, x // cell, d] += 1
    return counts


@kernel
def _quantiles(sums, radius, enough, quantile):
    """Quantile in windows of summed-area histograms; windows double until they hold enough."""
    rows, columns, planes = sums.shape[0] - 1, sums.shape[1] - 1, sums.shape[2]
    result = np.zeros((rows, columns), np.float32)
    for i in range(rows):
        for j in range(columns):
            reach = radius
            while True:
                i0, i1 = max(i - reach, 0), min(i + reach + 1, rows)
                j0, j1 = max(j - reach, 0), min(j + reach + 1, columns)
                a, b, c, e = sums[i1, j1], sums[i0, j1], sums[i1, j0], sums[i0, j0]
                total = 0
                for d in range(planes):
                    total += a[d] - b[d] - c[d] + e[d]
                whole = i0 == 0 and j0 == 0 and i1 == rows and j1 == columns
                if total >= enough or whole:
                    break
                reach *= 2
            wanted = quantile * total
            below = 0.0
            for d in range(planes):
                here = a[d] - b[d] - c[d] + e[d]
                if here > 0 and below + here >= wanted:
                    # Half a plane beyond the farthest may lie behind the camera.
                    result[i, j] = max(d - 0.5 + (wanted - below) / here, 0.0)
                    break
                below += here
    return result


@kernel
def distance_to_trusted(trusted):
    """Chessboard-diagonal (chamfer) distance in pixels to the nearest trusted pixel, (H, W)."""
    height, width = trusted.shape
    far = np.float32(height + width)
    diagonal, straight = np.float32(1.4142), np.float32(1)
    distance = np.where(trusted, np.float32(0), far)
    for sweep in range(2):
        step = 1 if sweep == 0 else -1
        for n in range(height):
            y = n if sweep == 0 else height - 1 - n
            for m in range(width):
                x = m if sweep == 0 else width - 1 - m
                best = distance[y, x]
                if 0 <= x - step < width:
                    best = min(best, distance[y, x - step] + straight)
                if 0 <= y - step < height:
                    best = min(best, distance[y - step, x] + straight)
                    if x > 0:
                        best = min(best, distance[y - step, x - 1] + diagonal)
                    if x < width - 1:
                        best = min(best, distance[y - step, x + 1] + diagonal)
                distance[y, x] = best
    return distance
