"""Where rays meet height fields, square by square, and the slopes there.

``raycast`` walks along a ray from cell to cell. Here all cells of a square that a ray passes over
are looked at together: the parameters where it crosses grid lines, sorted, bound the stretches over
one cell each; where the stretch's heights overlap the cell's, the two triangles are met.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from .scenes import BLOCK, SceneBatch
from .shapes import nonzero, slab_range


class Grid(NamedTuple):
    """Which relief, by its first height and its side, for every ray or place; (n) or (n, 1)."""

    start: Int64[Tensor, "..."]
    side: Int64[Tensor, "..."]

    @property
    def cell(self) -> Float32[Tensor, "..."]:
        """Side of a cell in the unit frame."""
        return 2.0 / (self.side - 1).float()

    def heights(
        self, scenes: SceneBatch, column: Int64[Tensor, "..."], row: Int64[Tensor, "..."]
    ) -> Float32[Tensor, "..."]:
        """Heights at grid points."""
        return scenes.heights[self.start + row * self.side + column]


def hit_relief(
    scenes: SceneBatch,
    parts: Int64[Tensor, " pair"],
    origins: Float32[Tensor, "3 pair ray_or_one"],
    directions: Float32[Tensor, "3 pair ray"],
    nearest: float,
    limits: Float32[Tensor, "pair ray"],
) -> Float32[Tensor, "pair ray"]:
    """Parameter of the first hit after ``nearest`` within each square; inf without one.

    Hits after ``limits`` need not be found.
    """
    relief = scenes.shape_reliefs[scenes.part_shapes[parts]]
    grid = Grid(scenes.relief_starts[relief], scenes.relief_sides[relief])
    first = scenes.part_cells[parts]
    low, high = _square(grid, first, scenes.part_heights[parts].T)
    enter, leave = slab_range(origins, directions, low[..., None], high[..., None])
    enter, leave = enter.clamp(min=nearest), torch.minimum(leave, limits)
    pair, ray = (enter < leave).nonzero().unbind(dim=1)
    hits = torch.full_like(enter, torch.inf)
    if len(pair) == 0:
        return hits
    enter, leave = enter[pair, ray], leave[pair, ray]
    direction = directions[:, pair, ray]
    place = origins.expand_as(directions)[:, pair, ray] + enter * direction
    own = Grid(grid.start[pair, None], grid.side[pair, None])
    t = _first_crossing(scenes, own, first[pair], place, direction, leave - enter)
    hits[pair, ray] = (enter + t).masked_fill(~(enter + t > nearest), torch.inf)
    return hits


def _square(
    grid: Grid, first: Int64[Tensor, "pair 2"], heights: Float32[Tensor, "2 pair"]
) -> tuple[Float32[Tensor, "3 pair"], Float32[Tensor, "3 pair"]]:
    """Low and high corners of squares, a little taller than they are: plateaus are flat."""
    end = torch.minimum(first + BLOCK, grid.side[:, None] - 1)
    low, high = first.T * grid.cell - 1, end.T * grid.cell - 1
    return torch.cat([low, heights[:1] - 1e-3]), torch.cat([high, heights[1:] + 1e-3])


def _first_crossing(
    scenes: SceneBatch,
    grid: Grid,
    first: Int64[Tensor, "n 2"],
    place: Float32[Tensor, "3 n"],
    direction: Float32[Tensor, "3 n"],
    length: Float32[Tensor, " n"],
) -> Float32[Tensor, " n"]:
    """How far rays run from where they enter a square until they cross its relief; inf if not."""
    bounds = _grid_lines(grid, first, place, direction, length)
    middle = 0.5 * (bounds[:, :-1] + bounds[:, 1:])
    cells = []
    for axis in range(2):
        at = place[axis, :, None] + middle * direction[axis, :, None]
        cell = ((at + 1) / grid.cell).floor().long()
        least = first[:, axis, None]
        most = torch.minimum(least + BLOCK, grid.side - 1) - 1
        cells.append(cell.clamp(min=least, max=most))
    corners = torch.stack(
        [grid.heights(scenes, cells[0] + i, cells[1] + j) for j in (0, 1) for i in (0, 1)]
    )
    z = place[2, :, None] + bounds * direction[2, :, None]
    over = torch.minimum(z[:, :-1], z[:, 1:]) > corners.amax(dim=0) + 1e-5
    under = torch.maximum(z[:, :-1], z[:, 1:]) < corners.amin(dim=0) - 1e-5
    n, stretch = (~(over | under)).nonzero().unbind(dim=1)
    corner = torch.stack([cells[0][n, stretch], cells[1][n, stretch]])
    triangles = _cross_triangles(
        corners[:, n, stretch],
        (place[:2, n] + 1) / grid.cell[n, 0] - corner,
        place[2, n],
        torch.cat([direction[:2, n] / grid.cell[n, 0], direction[2:, n]]),
        bounds[n, stretch],
        bounds[n, stretch + 1],
    )
    best = torch.full_like(length, torch.inf)
    return best.scatter_reduce(0, n, triangles, "amin")


def _grid_lines(
    grid: Grid,
    first: Int64[Tensor, "n 2"],
    place: Float32[Tensor, "3 n"],
    direction: Float32[Tensor, "3 n"],
    length: Float32[Tensor, " n"],
) -> Float32[Tensor, "n bound"]:
    """Sorted parameters of entering, of crossing every grid line within, and of leaving."""
    line = torch.arange(1, BLOCK, device=length.device)
    bounds = [torch.zeros_like(length)[:, None], length[:, None]]
    for axis in range(2):
        at = (first[:, axis, None] + line) * grid.cell - 1
        bounds.append((at - place[axis, :, None]) / nonzero(direction[axis, :, None]))
    return torch.minimum(torch.cat(bounds, dim=1).clamp(min=0), length[:, None]).sort(dim=1).values


def _cross_triangles(
    corners: Float32[Tensor, "4 n"],
    place: Float32[Tensor, "2 n"],
    height: Float32[Tensor, " n"],
    direction: Float32[Tensor, "3 n"],
    enter: Float32[Tensor, " n"],
    leave: Float32[Tensor, " n"],
) -> Float32[Tensor, " n"]:
    """First crossing within [enter, leave] of the two triangles over a cell; inf without one.

    Places and horizontal directions count in cells from the cell's first corner. Heights are
    a + x (b - a) + y (c - a) below the diagonal x + y = 1.
    """
    a, b, c, d = corners
    best = torch.full_like(enter, torch.inf)
    # Neighbouring stretches and triangles overlap a little, so that nothing slips through.
    slack = 1e-5 * leave + 1e-7
    for is_below, base, gx, gy in ((True, a, b - a, c - a), (False, b + c - d, d - c, d - b)):
        rate = direction[2] - gx * direction[0] - gy * direction[1]
        t = (base + gx * place[0] + gy * place[1] - height) / nonzero(rate)
        total = place[0] + place[1] + t * (direction[0] + direction[1])
        inside = total <= 1.0001 if is_below else total >= 0.9999
        inside &= (t >= enter - slack) & (t <= leave + slack) & (rate != 0)
        best = torch.where(inside & (t < best), t, best)
    return best


def relief_slopes(
    scenes: SceneBatch, reliefs: Int64[Tensor, " n"], x: Float32[Tensor, " n"], y: Tensor
) -> tuple[Float32[Tensor, " n"], Float32[Tensor, " n"]]:
    """Slopes along x and y at places of the unit square, smoothed over a cell."""
    grid = Grid(scenes.relief_starts[reliefs], scenes.relief_sides[reliefs])
    last = grid.side - 1
    fx = ((x + 1) / grid.cell).clamp(min=0).minimum(last - 0.001)
    fy = ((y + 1) / grid.cell).clamp(min=0).minimum(last - 0.001)
    i, j = fx.long(), fy.long()
    a, b = fx - i, fy - j
    slope_x, slope_y = torch.zeros_like(x), torch.zeros_like(y)
    for di in (0, 1):
        for dj in (0, 1):
            weight = (a if di else 1 - a) * (b if dj else 1 - b)
            p, q = i + di, j + dj
            left, right = (p - 1).clamp(min=0), torch.minimum(p + 1, last)
            up, down = (q - 1).clamp(min=0), torch.minimum(q + 1, last)
            rise = grid.heights(scenes, right, q) - grid.heights(scenes, left, q)
            slope_x += weight * rise / ((right - left) * grid.cell)
            rise = grid.heights(scenes, p, down) - grid.heights(scenes, p, up)
            slope_y += weight * rise / ((down - up) * grid.cell)
    return slope_x, slope_y
