"""How surfaces slope, from matches that hold: what paths of the second pass follow.

Paths prefer surfaces of constant depth. Where nothing matches, each carries on the plane it comes
with, and on a slanted ground every path brings another one: none of them wins, and any plane may.
Shifting a path by the slope of the surface makes that slope free instead (Scharstein, Taniai and
Sinha, "Semi-global stereo matching with surface orientation priors", 3DV 2017).
"""

import numpy as np

from ..compilation import kernel
from .geometry import Transfer

CELL = 8
"""Side in pixels of the cells in which slopes are gathered."""
LAG = 4
"""Distance in pixels of the matches that are compared."""
STEEPEST = 0.75
"""Planes a pixel beyond which two matches are taken for two surfaces."""
ENOUGH = 100.0
"""Comparisons on which a cell's slope rests; with fewer it looks further around."""


def surface_slopes(
    plane: np.ndarray, known: np.ndarray, transfers: tuple[Transfer, ...]
) -> np.ndarray:
    """(H, W, 2) float32: planes by which the surface changes a pixel to the right and a pixel down.

    Only across the epipolar lines: along these lie the strips that another view does not show, and
    a slope carried on through them goes astray.

    Args:
        plane: (H, W) fractional planes.
        known: (H, W) where they hold.
        transfers: To the other views.
    """
    height, width = plane.shape
    sums = _differences(plane, known)
    slopes = np.zeros((sums.shape[0] - 1, sums.shape[1] - 1, 2))
    _mean_around(sums.cumsum(0).cumsum(1), slopes)
    slopes = (across_lines(transfers, height, width) * slopes[..., None, :]).sum(-1)
    return slopes.astype(np.float32).repeat(CELL, 0)[:height].repeat(CELL, 1)[:, :width]


def across_lines(transfers: tuple[Transfer, ...], height: int, width: int) -> np.ndarray:
    """(rows, columns, 2, 2): projections of each cell that leave what is across epipolar lines.

    Of several other views their mean.
    """
    rows, columns = -(-height // CELL), -(-width // CELL)
    x, y = np.meshgrid((np.arange(columns) + 0.5) * CELL, (np.arange(rows) + 0.5) * CELL)
    along = np.zeros((rows, columns, 2, 2))
    for transfer in transfers:
        matrix = transfer.matrix.astype(np.float64)
        epipole = np.linalg.solve(matrix[:, :3], matrix[:, 3])
        line = epipole[:2] - epipole[2] * np.stack([x, y], axis=-1)
        line /= np.maximum(np.linalg.norm(line, axis=-1, keepdims=True), 1e-12)
        along += line[..., :, None] * line[..., None, :] / len(transfers)
    return np.eye(2) - along


@kernel
def _differences(plane, known):
    """(rows + 1, columns + 1, 4): of each cell, sums and counts of differences right and down.

    The first row and column are zeros, for summing up.
    """
    height, width = plane.shape
    sums = np.zeros((-(-height // CELL) + 1, -(-width // CELL) + 1, 4), np.float64)
    for y in range(height):
        for x in range(width):
            if not known[y, x]:
                continue
            cell = sums[y // CELL + 1, x // CELL + 1]
            if x + LAG < width and known[y, x + LAG]:
                change = plane[y, x + LAG] - plane[y, x]
                if abs(change) <= STEEPEST * LAG:
                    cell[0] += change
                    cell[2] += 1
            if y + LAG < height and known[y + LAG, x]:
                change = plane[y + LAG, x] - plane[y, x]
                if abs(change) <= STEEPEST * LAG:
                    cell[1] += change
                    cell[3] += 1
    return sums


@kernel
def _mean_around(sums, means):
    """Slopes from the smallest window of cells with enough comparisons; 0 where there are none."""
    rows, columns = means.shape[:2]
    for i in range(rows):
        for j in range(columns):
            for axis in range(2):
                reach = 1
                while True:
                    i0, i1 = max(i - reach, 0), min(i + reach + 1, rows)
                    j0, j1 = max(j - reach, 0), min(j + reach + 1, columns)
                    count = _window(sums, i0, i1, j0, j1, 2 + axis)
                    whole = i0 == 0 and j0 == 0 and i1 == rows and j1 == columns
                    if count >= ENOUGH or whole:
                        break
                    reach *= 2
                if count > 0:
                    means[i, j, axis] = _window(sums, i0, i1, j0, j1, axis) / count / LAG


@kernel
def _window(sums, i0, i1, j0, j1, channel):
    """A channel of a summed-area table over rows i0 to i1 and columns j0 to j1."""
    return (
        sums[i1, j1, channel]
        - sums[i0, j1, channel]
        - sums[i1, j0, channel]
        + sums[i0, j0, channel]
    )
