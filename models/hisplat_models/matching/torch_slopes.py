"""The slopes of slopes.py as tensor operations."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from .geometry import Transfer
from .slopes import CELL, ENOUGH, LAG, STEEPEST, across_lines
from .torch_filling import in_windows, window_reach


def surface_slopes(
    plane: Float[Tensor, "height width"],
    known: Bool[Tensor, "height width"],
    transfers: tuple[Transfer, ...],
) -> Float[Tensor, "height width 2"]:
    """Planes by which the surface changes a pixel to the right and down, across epipolar lines."""
    height, width = plane.shape
    right = _mean_around(*_differences(plane, known))
    down = _mean_around(*(cells.mT for cells in _differences(plane.mT, known.mT)))
    across = torch.from_numpy(across_lines(transfers, height, width)).to(plane.device)
    slopes = (across * torch.stack([right, down], -1)[..., None, :]).sum(-1).float()
    slopes = slopes.repeat_interleave(CELL, 0)[:height]
    return slopes.repeat_interleave(CELL, 1)[:, :width]


def _differences(plane: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """(rows, columns) sums of differences along rows, and their counts, of each cell."""
    height, width = plane.shape
    change = plane[:, LAG:] - plane[:, :-LAG]
    one_surface = known[:, LAG:] & known[:, :-LAG] & (change.abs() <= STEEPEST * LAG)
    border = (0, LAG + -width % CELL, 0, -height % CELL)
    cells = torch.stack([change.where(one_surface, 0.0).double(), one_surface.double()])
    cells = pad(cells, border).unflatten(-1, (-1, CELL)).unflatten(-3, (-1, CELL)).sum((-3, -1))
    return cells[0], cells[1]


def _mean_around(
    total: Float[Tensor, "rows columns"], count: Float[Tensor, "rows columns"]
) -> Float[Tensor, "rows columns"]:
    """Slopes from the smallest window of cells with enough comparisons; 0 where there are none."""
    sums = pad(torch.stack([total, count]).cumsum(1).cumsum(2), (1, 0, 1, 0)).movedim(0, -1)
    total, count = in_windows(sums, window_reach(sums[..., 1], 1, ENOUGH)).unbind(-1)
    return (total / count.clamp(min=1) / LAG).where(count > 0, 0.0)
