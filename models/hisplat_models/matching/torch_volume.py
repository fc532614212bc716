"""Cost volumes as tensor operations: the sweep of sweep_cost.py, the paths of aggregation.py.

The same fixed-point numbers are computed in the same order, so volumes of the two backends differ
only where a device rounds a float32 projection another way.
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int16, Int64, UInt8
from torch import Tensor

from .aggregation import MOST_SHIFT, UNREACHABLE, jump_penalties
from .geometry import Sweep
from .settings import MatchingSettings
from .sweep_cost import CENSUS_COLUMNS, CENSUS_ROWS, CHANNEL_LEVELS, COST_SCALE

CHUNK = 1 << 22  # elements of a temporary, which bounds what a pass over a volume needs
_CHANNEL_MASK = (1 << 13) - 1  # 16 * CHANNEL_LEVELS fits


def chunks(count: int, elements_each: int) -> Iterator[slice]:
    """Slices of ``range(count)`` with about CHUNK elements each."""
    size = max(1, CHUNK // elements_each)
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def pack_colors(image: Float[Tensor, "3 height width"]) -> Int64[Tensor, "height width"]:
    """Three channels of 9 bits, 21 bits apart: one multiplication weighs all channels at once."""
    r, g, b = (image.clamp(0, 1) * CHANNEL_LEVELS).round().long()
    return (r << 42) | (g << 21) | b


def sweep_cost(
    reference: Int64[Tensor, "height width"],
    others: list[Tensor],
    sweep: Sweep,
    settings: MatchingSettings,
) -> UInt8[Tensor, "height width plane"]:
    """Fixed-point cost, the mean over the other views that see the hypothesis.

    Args:
        reference: Packed colours of the view whose pixels are swept.
        others: Packed colours of the views in ``sweep.transfers``, in that order.
        sweep: Planes and transfers.
        settings: Weights and limits.
    """
    height, width = reference.shape
    device = reference.device
    index = np.arange(sweep.planes)
    rho = (sweep.rho_first + sweep.rho_step * index).astype(np.float32)
    rho = torch.from_numpy(rho).to(device)
    bias = np.rint(settings.background_bias * COST_SCALE / sweep.planes * index).astype(np.uint8)
    signs = list(_brighter(_gray(reference << 4)[None], settings))
    outside = round(settings.outside_cost * COST_SCALE)
    volume = torch.empty(height, width, sweep.planes, dtype=torch.uint8, device=device)
    for part in chunks(sweep.planes, height * width):
        shape = (part.stop - part.start, height, width)
        total = torch.zeros(shape, dtype=torch.int16, device=device)
        seen = torch.zeros_like(total)
        for transfer, other in zip(sweep.transfers, others, strict=True):
            cost, inside = _cost_in(reference, other, transfer.matrix, rho[part], signs, settings)
            total += cost * inside
            seen += inside
        mean = (total + seen // 2) // seen.clamp(min=1)
        volume[..., part] = mean.where(seen > 0, outside).to(torch.uint8).movedim(0, -1)
    return volume.add_(torch.from_numpy(bias).to(device))


def _cost_in(
    reference: Int64[Tensor, "height width"],
    other: Int64[Tensor, "height width"],
    matrix: np.ndarray,
    rho: Float[Tensor, "plane"],
    signs: list[Tensor],
    settings: MatchingSettings,
) -> tuple[Int16[Tensor, "plane height width"], Bool[Tensor, "plane height width"]]:
    """Cost of some planes against one other view, and where they fall into its frame."""
    warped, inside = _warp(other, matrix, rho)
    weight = np.float32(settings.color_weight * COST_SCALE * 255 / (CHANNEL_LEVELS * 16) / 3)
    limit = np.float32(settings.color_limit * COST_SCALE)
    difference = torch.zeros_like(warped)
    for there, here in zip(_channels(warped >> 8), _channels(reference << 4), strict=True):
        difference += (there - here).abs()
    color = (difference.float() * float(weight)).clamp(max=float(limit))
    count = _count_differing(_brighter(_gray(warped >> 8), settings), signs, inside)
    bits = np.minimum(np.arange(CENSUS_ROWS * CENSUS_COLUMNS), settings.census_limit)
    census = np.rint(bits * settings.census_weight * COST_SCALE).astype(np.int16)
    census = torch.from_numpy(census).to(warped.device)
    return census[count.int()] + (color + 0.5).short(), inside


def _count_differing(
    bits: Iterator[Tensor], signs: list[Tensor], inside: Bool[Tensor, "plane height width"]
) -> UInt8[Tensor, "plane height width"]:
    """Differing bits of the census, where its window leaves the other frame of what lies inside.

    There the bits that count stand for all.
    """
    count = torch.zeros(inside.shape, dtype=torch.uint8, device=inside.device)
    if inside.all():
        for bit, sign in zip(bits, signs, strict=True):
            count += bit ^ sign
        return count
    counted = torch.zeros_like(count)
    for bit, sign, shown in zip(bits, signs, _neighbours(inside), strict=True):
        count += (bit ^ sign) & shown
        counted += shown
    every = CENSUS_ROWS * CENSUS_COLUMNS
    scaled = (count.int() * every + counted // 2) // counted.clamp(min=1)
    return scaled.where(inside, 0).to(torch.uint8)


def _warp(
    other: Int64[Tensor, "height width"], matrix: np.ndarray, rho: Float[Tensor, "plane"]
) -> tuple[Int64[Tensor, "plane height width"], Bool[Tensor, "plane height width"]]:
    """Packed colours, times 64 * 64, sampled at 1/64 px; and which samples lie in the frame."""
    height, width = other.shape
    fx = torch.arange(width, device=other.device).float()
    cy = torch.arange(height, device=other.device).float()[:, None] + 0.5
    half = np.float32(0.5)
    u, v, s = (
        float(row[0] * half) + float(row[1]) * cy + float(row[2])
        + float(row[3]) * rho[:, None, None] + float(row[0]) * fx
        for row in matrix
    )  # fmt: skip
    inverse = 1 / s.clamp(min=1e-3)
    u, v = u * inverse, v * inverse
    inside = (s > 1e-3) & (u >= 0) & (u <= width) & (v >= 0) & (v <= height)
    column = (((u - 0.5) * 64).clamp(0, (width - 1) * 64) + 0.5).long()
    row = (((v - 0.5) * 64).clamp(0, (height - 1) * 64) + 0.5).long()
    left, top = (column >> 6).clamp(max=width - 2), (row >> 6).clamp(max=height - 2)
    weight_x, weight_y = column - (left << 6), row - (top << 6)
    flat, offset = other.reshape(-1), top * width + left
    upper = flat[offset] * (64 - weight_x) + flat[offset + 1] * weight_x
    lower = flat[offset + width] * (64 - weight_x) + flat[offset + width + 1] * weight_x
    return upper * (64 - weight_y) + lower * weight_y, inside


def _channels(packed: Int64[Tensor, "*shape"]) -> tuple[Tensor, ...]:
    """Channels on a scale of 16 CHANNEL_LEVELS; bits shifted down from a channel above go away."""
    return tuple((packed >> shift) & _CHANNEL_MASK for shift in (42, 21, 0))


def _gray(packed: Int64[Tensor, "*shape"]) -> Int16[Tensor, "*shape"]:
    r, g, b = _channels(packed)
    return ((r * 77 + g * 150 + b * 29) >> 8).short()


def _brighter(
    gray: Int16[Tensor, "plane height width"], settings: MatchingSettings
) -> Iterator[Tensor]:
    """For each neighbour of the census window where it exceeds the centre."""
    centre = gray + round(settings.census_margin * CHANNEL_LEVELS * 16 / 255)
    for neighbour in _neighbours(gray):
        yield neighbour > centre


def _neighbours(maps: Tensor) -> Iterator[Tensor]:
    """Maps (plane, height, width) moved by each step of the census window; borders replicate."""
    _, height, width = maps.shape
    reach_y, reach_x = CENSUS_ROWS // 2, CENSUS_COLUMNS // 2
    rows = torch.arange(-reach_y, height + reach_y, device=maps.device).clamp(0, height - 1)
    columns = torch.arange(-reach_x, width + reach_x, device=maps.device).clamp(0, width - 1)
    padded = maps[:, rows][:, :, columns]
    for y in range(CENSUS_ROWS):
        for x in range(CENSUS_COLUMNS):
            yield padded[:, y : y + height, x : x + width]


def aggregate(
    costs: list[Tensor],
    gray: Int64[Tensor, "view height width"],
    slopes: Float[Tensor, "view height width 2"] | None,
    settings: MatchingSettings,
    second: bool,
) -> list[Tensor]:
    """Sum over eight paths, (H, W, planes) int16 for each view.

    All views share their scans, padded to the most planes, because a scan's many small steps take
    a GPU about as long for one view as for several.

    Args:
        costs: (H, W, planes) bytes of each view.
        gray: Intensities, 0-255.
        slopes: Planes by which the surface is expected to change a pixel to the right and a pixel
            down; None for not at all.
        settings: Penalties.
        second: Whether with those of the second pass.
    """
    planes = [cost.shape[-1] for cost in costs]
    shape = (*gray.shape, max(planes))
    cost = torch.full(shape, UNREACHABLE, dtype=torch.int16, device=gray.device)
    for padded, own in zip(cost, costs, strict=True):
        padded[..., : own.shape[-1]] = own
    small, large = zip(*(jump_penalties(n, settings, second) for n in planes), strict=True)
    small = torch.from_numpy(np.stack(small)).to(gray.device)
    large = torch.from_numpy(np.stack(large)).to(gray.device)
    total = torch.zeros_like(cost)
    right, down = (None, None) if slopes is None else slopes.unbind(-1)
    shifts = (-1, 0, 1)
    _scan(cost, _jumps(gray, large, shifts), _moves(down, right, shifts), shifts, small, total)
    turned = _jumps(gray.mT, large, (0,))
    moves = None if right is None else _moves(right.mT, right.mT, (0,))
    _scan(cost.transpose(1, 2), turned, moves, (0,), small, total.transpose(1, 2))
    return [sums[..., :n] for sums, n in zip(total, planes, strict=True)]


def _jumps(
    gray: Int64[Tensor, "view step line"], large: Int16[Tensor, "view 256"], shifts: tuple[int, ...]
) -> Int16[Tensor, "way view path step line"]:
    """Penalties on the way to each pixel, forward and backward, in the order of the scan."""
    views, steps, lines = gray.shape
    step, line = torch.arange(steps, device=gray.device), torch.arange(lines, device=gray.device)
    table = torch.arange(views, device=gray.device)[:, None, None]
    ways = []
    for way in (-1, 1):
        before = gray[:, (step + way).clamp(0, steps - 1)]
        paths = [
            large[table, (gray - before[:, :, (line + shift).clamp(0, lines - 1)]).abs()]
            for shift in shifts
        ]
        ways.append(torch.stack(paths, 1))
    return torch.stack([ways[0], ways[1].flip(2)])


def _moves(
    per_step: Float[Tensor, "view step line"] | None,
    per_line: Float[Tensor, "view step line"] | None,
    shifts: tuple[int, ...],
) -> Int64[Tensor, "way view path step line"] | None:
    """Whole planes by which paths follow the surface to each pixel, in the order of the scan."""
    if per_step is None or per_line is None:
        return None
    n = torch.arange(per_step.shape[1], device=per_step.device).float()[:, None]
    ways = []
    for way in (1, -1):
        change = torch.stack([way * per_step - shift * per_line for shift in shifts], 1)
        change = change.clamp(-MOST_SHIFT, MOST_SHIFT)
        ways.append(change if way > 0 else change.flip(2))
    change = torch.stack(ways)
    return ((change * n + 0.5).floor() - (change * (n - 1) + 0.5).floor()).long()


def _scan(
    cost: Int16[Tensor, "view step line plane"],
    jumps: Int16[Tensor, "way view path step line"],
    moves: Int64[Tensor, "way view path step line"] | None,
    shifts: tuple[int, ...],
    small_jump: Int16[Tensor, "view"],
    total: Int16[Tensor, "view step line plane"],
) -> None:
    """Adds the path costs of a forward and a backward scan to ``total``.

    A path comes from the line ``shift`` further in the step before, and from the plane that many
    ``moves`` before. The buffer has a border of zeros (lines) so that paths start at the image's
    edge, and one of UNREACHABLE (planes), as wide as a path may move.
    """
    views, steps, lines, planes = cost.shape
    paths = len(shifts)
    border = MOST_SHIFT + 1
    before = cost.new_zeros(2, views, paths, lines + 2, planes + 2 * border)
    before[..., :border] = before[..., -border:] = UNREACHABLE
    reached = torch.arange(border - 1, border + planes + 1, device=cost.device)
    small = small_jump[:, None, None, None]
    for n in range(steps):
        came = torch.stack(
            [before[:, :, k, 1 + shift : 1 + shift + lines] for k, shift in enumerate(shifts)], 2
        )
        lowest = came[..., border:-border].amin(-1, keepdim=True)
        if moves is None:
            came = came[..., border - 1 : border + planes + 1]
        else:
            came = came.gather(-1, reached - moves[:, :, :, n, :, None])
        below, same, above = came[..., :-2], came[..., 1:-1], came[..., 2:]
        best = torch.minimum(below, above).add_(small)
        best = torch.minimum(best, same, out=best)
        best = torch.minimum(best, lowest + jumps[:, :, :, n, :, None], out=best)
        local = torch.stack([cost[:, n], cost[:, steps - 1 - n]])
        value = best.sub_(lowest).add_(local[:, :, None])
        before[..., 1:-1, border:-border] = value
        sums = value.sum(2, dtype=torch.int16)
        total[:, n] += sums[0]
        total[:, steps - 1 - n] += sums[1]
