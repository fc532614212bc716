"""What makes a pixel of a stereo pair hard to match."""

import cv2
import numpy as np

from hisplat_data_tools.datasets import StereoFolder

EDGE_PX = 4
"""Visible pixels this close to a jump of the true disparity are edge pixels."""
JUMP_PX = 1.5
"""Difference of neighbours' true disparity that is a jump, beyond what a slant makes of it."""
FLAT_LEVELS = 2.0
"""Standard deviation (0-255) in 9x9 pixels below which a pixel counts as without texture."""
SLANT = 0.1
"""Change of the true disparity a pixel from which a pixel counts as slanted."""
KINDS = ("beyond", "hidden", "edge", "flat", "slanted", "other")
"""Beyond the range that is searched; hidden from the right photo; and visible ones."""


def pixel_kinds(pair: StereoFolder, lowest: float, highest: float) -> np.ndarray:
    """(H, W) index into KINDS; -1 where the truth is unknown. The range is the searched one."""
    truth = pair.disparity.numpy()
    known = np.isfinite(truth)
    filled = np.where(known, truth, -np.inf)
    jumps = _jumps(truth)
    reach = np.ones((2 * EDGE_PX + 1, 2 * EDGE_PX + 1), np.uint8)
    near_edge = cv2.dilate(jumps.astype(np.uint8), reach) > 0
    kinds = np.full(truth.shape, KINDS.index("other"))
    kinds[_steepness(truth) > SLANT] = KINDS.index("slanted")
    kinds[is_flat(pair)] = KINDS.index("flat")
    kinds[near_edge] = KINDS.index("edge")
    kinds[_hidden(filled)] = KINDS.index("hidden")
    kinds[(truth < lowest) | (truth > highest)] = KINDS.index("beyond")
    kinds[~known] = -1
    return kinds


def is_flat(pair: StereoFolder) -> np.ndarray:
    """Pixels of the left photo without texture around them."""
    gray = (pair.images[0].mean(0).numpy() * 255).astype(np.float32)
    variance = cv2.blur(gray * gray, (9, 9)) - cv2.blur(gray, (9, 9)) ** 2
    return variance < FLAT_LEVELS**2


def _jumps(truth: np.ndarray) -> np.ndarray:
    """Pixels whose neighbour lies at another depth, a slant on either side allowed for."""
    jumps = np.zeros(truth.shape, bool)
    for axis in (0, 1):
        line = truth if axis else truth.T
        step = np.abs(np.diff(line, axis=1))
        slant = np.full(step.shape, np.inf)
        slant[:, 1:-1] = np.fmax(step[:, :-2], step[:, 2:])
        step = step - np.where(np.isfinite(slant), np.minimum(slant, step / 2), 0)
        found = np.zeros(line.shape, dtype=bool)
        found[:, 1:] = step > JUMP_PX
        found[:, :-1] |= step > JUMP_PX
        jumps |= found if axis else found.T
    return jumps


def _steepness(truth: np.ndarray) -> np.ndarray:
    """Change of disparity a pixel, over three pixels; 0 where unknown."""
    down, right = np.gradient(truth, axis=0), np.gradient(truth, axis=1)
    return np.nan_to_num(np.hypot(right, down))


def _hidden(truth: np.ndarray) -> np.ndarray:
    """Pixels that the right photo does not show: beyond its frame, or behind something nearer."""
    height, width = truth.shape
    rows, columns = np.arange(height)[:, None].repeat(width, 1), np.arange(width)
    known = np.isfinite(truth)
    target = np.where(known, columns - np.where(known, truth, 0), -1)
    column = np.rint(target).astype(int)
    inside = (column >= 0) & (column < width)
    nearest: np.ndarray = np.full(truth.shape, -np.inf, np.float32)
    np.maximum.at(nearest, (rows[inside], column[inside]), truth[inside])
    # Surfaces stretched in the right photo leave gaps of a pixel.
    nearest = np.maximum(nearest, cv2.morphologyEx(nearest, cv2.MORPH_CLOSE, np.ones((1, 3))))
    behind = nearest[rows, column.clip(0, width - 1)] > truth + 1.0
    return known & (~inside | behind)
