"""The fills of filling.py as tensor operations: windows are gathered for many pixels at a time."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int32
from torch import Tensor
from torch.nn.functional import pad

from .filling import _REACH, _TABLE_END, _TABLE_STEPS
from .settings import MatchingSettings
from .torch_volume import chunks


def fill_by_fit(
    plane: Float[Tensor, "height width"],
    trusted: Bool[Tensor, "height width"],
    photo: Float[Tensor, "3 height width"],
    fallback: Float[Tensor, "height width"],
    settings: MatchingSettings,
) -> Float[Tensor, "height width"]:
    """``plane`` with untrusted pixels replaced by edge-aware moving-least-squares affine fits.

    Windows grow until trusted pixels of similar colour weigh enough; where they never do, the
    ``fallback`` is taken.
    """
    result = plane.where(trusted, fallback)
    rows, columns = (~trusted).nonzero(as_tuple=True)
    for scale in settings.fill_scales_px:
        stride = max(1, round(scale / 4))
        samples = _sample_cells(plane, trusted, photo, stride)
        left_rows, left_columns = [], []
        for part in chunks(len(rows), 4 * (2 * _REACH + 1) ** 2):
            y, x = rows[part], columns[part]
            value, weight = _fit(samples, stride, scale, photo, y, x, settings)
            enough = weight >= settings.fill_min_weight
            result[y[enough], x[enough]] = value[enough]
            left_rows.append(y[~enough])
            left_columns.append(x[~enough])
        if not left_rows:
            break
        rows, columns = torch.cat(left_rows), torch.cat(left_columns)
    return result


def _sample_cells(
    plane: Float[Tensor, "height width"],
    trusted: Bool[Tensor, "height width"],
    photo: Float[Tensor, "3 height width"],
    stride: int,
) -> Float[Tensor, "6 rows columns"]:
    """(x, y, plane, r, g, b) of the trusted pixel nearest to the centre of each cell.

    x is -1 in cells without one, and in a border of _REACH cells.
    """
    height, width = plane.shape
    down, right = -height % stride, -width % stride
    x = torch.arange(width, device=plane.device).float().expand(height, width)
    y = torch.arange(height, device=plane.device).float()[:, None].expand(height, width)
    pixels = pad(torch.cat([torch.stack([x, y, plane]), photo]), (0, right, 0, down))
    offset = torch.arange(stride, device=plane.device) - 0.5 * (stride - 1)
    distance = (offset[:, None] ** 2 + offset**2).reshape(-1)
    known = _cells(pad(trusted, (0, right, 0, down)), stride)
    nearest, index = distance.where(known, torch.inf).min(-1, keepdim=True)
    cells = _cells(pixels, stride)
    samples = cells.gather(-1, index.expand(6, -1, -1, 1))[..., 0]
    samples[0] = samples[0].where(nearest[..., 0].isfinite(), -1.0)
    return pad(samples, (_REACH,) * 4, value=-1.0)


def _cells(values: Tensor, stride: int) -> Tensor:
    """(..., rows, columns, stride * stride) from (..., height, width)."""
    rows, columns = values.shape[-2] // stride, values.shape[-1] // stride
    return (
        values.unflatten(-1, (columns, stride)).unflatten(-3, (rows, stride))
        .transpose(-3, -2).flatten(-2)
    )  # fmt: skip


def _fit(
    samples: Float[Tensor, "6 rows columns"],
    stride: int,
    scale: float,
    photo: Float[Tensor, "3 height width"],
    y: Tensor,
    x: Tensor,
    settings: MatchingSettings,
) -> tuple[Float[Tensor, "pixel"], Float[Tensor, "pixel"]]:
    """Fitted planes at some pixels, and the sums of weights they rest on."""
    window = torch.arange(2 * _REACH + 1, device=x.device)
    index = (y // stride)[:, None, None] + window[:, None]
    index = index * samples.shape[2] + (x // stride)[:, None, None] + window
    near = samples.flatten(1)[:, index.flatten(1)]  # (6, pixel, window)
    own = photo[:, y, x][..., None]
    dx, dy, z = near[0] - x[:, None], near[1] - y[:, None], near[2]
    dr, dg, db = near[3:] - own
    color_rate = float(np.float32(_TABLE_STEPS / (2 * settings.fill_color_sigma**2)))
    exponent = (dr * dr + dg * dg + db * db) * color_rate
    exponent = exponent + (dx * dx + dy * dy) * (_TABLE_STEPS / (2 * scale * scale))
    table = np.exp(-np.arange(_TABLE_STEPS * _TABLE_END + 1) / _TABLE_STEPS).astype(np.float32)
    table[-1] = 0
    entry = exponent.clamp(max=_TABLE_STEPS * _TABLE_END).int()
    weight = torch.from_numpy(table).to(x.device)[entry] * (near[0] >= 0)

    def mean(values: Tensor) -> Tensor:
        return (weight * values).sum(-1, dtype=torch.float64) / total

    total = weight.sum(-1, dtype=torch.float64)
    total = total.clamp(min=1e-6)  # pixels without any sample are not used
    ridge = 0.05 * scale * scale
    mx, my, mz = mean(dx), mean(dy), mean(z)
    xx, yy, xy = mean(dx * dx) - mx * mx, mean(dy * dy) - my * my, mean(dx * dy) - mx * my
    xx, yy = xx + ridge, yy + ridge
    xz, yz = mean(dx * z) - mx * mz, mean(dy * z) - my * mz
    determinant = xx * yy - xy * xy
    gx, gy = (xz * yy - yz * xy) / determinant, (yz * xx - xz * xy) / determinant
    return (mz - settings.fill_slope * (gx * mx + gy * my)).float(), total.float()


def background_planes(
    plane: Float[Tensor, "height width"],
    trusted: Bool[Tensor, "height width"],
    planes: int,
    cell: int,
    settings: MatchingSettings,
) -> Float[Tensor, "rows columns"]:
    """Low quantile of trusted planes around each cell x cell block."""
    counts = _cell_histograms(plane, trusted, planes, cell)
    rows, columns, _ = counts.shape
    sums = counts.cumsum(0, dtype=torch.int32).cumsum(1, dtype=torch.int32)
    sums = pad(sums, (0, 0, 1, 0, 1, 0))
    radius = max(1, round(settings.background_radius_px / cell))
    reach = window_reach(sums.sum(-1), radius, settings.background_radius_px**2 / 4)
    counts = in_windows(sums, reach)
    below = counts.cumsum(-1) - counts
    wanted = settings.background_quantile * counts.sum(-1, keepdim=True).double()
    reached = (counts > 0) & (below + counts >= wanted)
    index = torch.arange(planes, device=plane.device).expand(rows, columns, planes)
    first = index.where(reached, planes).amin(-1, keepdim=True)
    at = first.clamp(max=planes - 1)
    inside = (wanted - below.gather(-1, at)) / counts.gather(-1, at).clamp(min=1)
    return (at - 0.5 + inside).clamp(min=0).where(first < planes, 0.0)[..., 0].float()


def _cell_histograms(
    plane: Tensor, trusted: Tensor, planes: int, cell: int
) -> Int32[Tensor, "rows columns plane"]:
    height, width = plane.shape
    nearest = (plane + 0.5).long().clamp(0, planes - 1)
    y = torch.arange(height, device=plane.device)[:, None] // cell
    x = torch.arange(width, device=plane.device) // cell
    index = ((y * (width // cell) + x) * planes + nearest)[trusted]
    counts = index.bincount(minlength=height // cell * (width // cell) * planes)
    return counts.int().reshape(height // cell, width // cell, planes)


def window_reach(totals: Tensor, radius: int, enough: float) -> Tensor:
    """Half sizes (rows, columns) of windows, doubled until they hold enough or are the image.

    Args:
        totals: (rows + 1, columns + 1) summed-area table of what is counted.
        radius: Half the least size.
        enough: Count that suffices.
    """
    rows, columns = totals.shape[0] - 1, totals.shape[1] - 1
    reach = torch.full((rows, columns), radius, device=totals.device)
    while radius < max(rows, columns):
        few = (reach == radius) & (in_windows(totals[..., None], reach)[..., 0] < enough)
        radius *= 2
        reach = reach.masked_fill(few, radius)
    return reach


def in_windows(sums: Tensor, reach: Tensor) -> Tensor:
    """Sums (rows, columns, ...) in windows of a summed-area table."""
    rows, columns = reach.shape
    i = torch.arange(rows, device=reach.device)[:, None]
    j = torch.arange(columns, device=reach.device)
    top, bottom = (i - reach).clamp(min=0), (i + reach + 1).clamp(max=rows)
    left, right = (j - reach).clamp(min=0), (j + reach + 1).clamp(max=columns)
    return sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]


def distance_to_trusted(
    trusted: Bool[Tensor, "view height width"],
) -> Float[Tensor, "view height width"]:
    """Chessboard-diagonal (chamfer) distance in pixels to the nearest trusted pixel.

    The pass along a row, each pixel one more than the one before it, is a running minimum.
    """
    views, height, width = trusted.shape
    diagonal = 1.4142
    far = float(height + width)
    distance = torch.zeros(trusted.shape, device=trusted.device).masked_fill(~trusted, far)
    x = torch.arange(width, device=trusted.device).float()
    for _ in range(2):
        above = torch.full((views, width), torch.inf, device=trusted.device)
        for y in range(height):
            sides = pad(above, (1, 1), value=torch.inf)
            slanted = torch.minimum(sides[:, :-2], sides[:, 2:]) + diagonal
            here = torch.minimum(torch.minimum(above + 1, slanted), distance[:, y])
            above = (here - x).cummin(-1).values + x
            distance[:, y] = above
        distance = distance.flip(1, 2)
    return distance
