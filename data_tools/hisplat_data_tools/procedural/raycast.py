"""Nearest surface along a ray: unit shapes under affine maps, in a bounding-volume tree.

Every primitive is one unit shape stretched by half sizes, turned and moved; a ray is taken into the
shape's own frame by the inverse map, which leaves the ray parameter unchanged. Directions are
scaled to unit z-depth of the camera, so that the parameter of a primary hit is its z-depth.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int32
from numba import njit

RECTANGLE, BOX, ELLIPSOID, CYLINDER, CONE, HEIGHT_FIELD = range(6)
"""Unit shapes: z = 0 in the square [-1, 1]², the cube [-1, 1]³, the unit ball, the unit disc times
z in [-1, 1], the cone from that disc at z = -1 to the point z = 1, a relief over the square."""

NO_CUTOUT, BARS, LATTICE, HOLES, LEAVES = range(5)
"""What is cut out of a rectangle: nothing, gaps between bars, openings of a lattice, round holes,
everything but random leaves."""

STACK_SIZE = 64


class Geometry(NamedTuple):
    """The shapes of a scene as arrays, as compiled code takes them; ``n`` primitives.

    Attributes:
        kinds: Unit shape of each primitive.
        to_local: World points to the unit shape's frame.
        axes: Columns are the shape's axes in the world, not stretched.
        half_sizes: Stretch along each axis, world units.
        materials: Row of the material table.
        cutouts: Kind of cut-out, repeats along x and y, share that stays solid; rectangles only.
        reliefs: Which relief a height field uses, else -1.
        heights: Reliefs on regular grids over the square, in [-1, 1].
        node_bounds: Boxes of the tree: low corner, then high corner.
        node_children: First child (the second follows) or, for a leaf, -1 - first primitive.
        node_counts: Primitives of a leaf, 0 for an inner node.
        order: Primitives in the order of the leaves.
    """

    kinds: Int32[np.ndarray, " n"]
    to_local: Float64[np.ndarray, "n 3 4"]
    axes: Float64[np.ndarray, "n 3 3"]
    half_sizes: Float64[np.ndarray, "n 3"]
    materials: Int32[np.ndarray, " n"]
    cutouts: Float64[np.ndarray, "n 4"]
    reliefs: Int32[np.ndarray, " n"]
    heights: Float64[np.ndarray, "relief grid grid"]
    node_bounds: Float64[np.ndarray, "node 6"]
    node_children: Int32[np.ndarray, " node"]
    node_counts: Int32[np.ndarray, " node"]
    order: Int32[np.ndarray, " n"]


@njit(nogil=True, cache=True)
def _area(low, high):
    x, y, z = high[0] - low[0], high[1] - low[1], high[2] - low[2]
    return x * y + y * z + z * x


@njit(nogil=True, cache=True)
def _best_split(low, high, indices):
    """Axis and position of the split that is cheapest by the surface-area heuristic."""
    count = indices.size
    best_cost, best_axis, best_at = np.inf, 0, count // 2
    right = np.empty(count)
    for axis in range(3):
        ordered = indices[np.argsort(low[indices, axis] + high[indices, axis])]
        box_low, box_high = np.full(3, np.inf), np.full(3, -np.inf)
        for i in range(count - 1, 0, -1):
            for a in range(3):
                box_low[a] = min(box_low[a], low[ordered[i], a])
                box_high[a] = max(box_high[a], high[ordered[i], a])
            right[i] = _area(box_low, box_high) * (count - i)
        box_low, box_high = np.full(3, np.inf), np.full(3, -np.inf)
        for i in range(1, count):
            for a in range(3):
                box_low[a] = min(box_low[a], low[ordered[i - 1], a])
                box_high[a] = max(box_high[a], high[ordered[i - 1], a])
            cost = _area(box_low, box_high) * i + right[i]
            if cost < best_cost:
                best_cost, best_axis, best_at = cost, axis, i
    return best_axis, best_at


@njit(nogil=True, cache=True)
def build_tree(low, high):
    """Bounding-volume tree over boxes: node bounds, children, counts and primitive order."""
    count = low.shape[0]
    order = np.arange(count).astype(np.int32)
    bounds = np.empty((2 * count, 6))
    children = np.empty(2 * count, dtype=np.int32)
    counts = np.zeros(2 * count, dtype=np.int32)
    ranges = np.empty((2 * count, 2), dtype=np.int64)
    ranges[0, 0], ranges[0, 1] = 0, count
    used, done = 1, 0
    while done < used:
        start, end = ranges[done]
        members = order[start:end].copy()
        for a in range(3):
            bounds[done, a] = low[members, a].min() - 1e-9
            bounds[done, a + 3] = high[members, a].max() + 1e-9
        if end - start <= 2:
            children[done], counts[done] = -1 - start, end - start
        else:
            axis, at = _best_split(low, high, members)
            order[start:end] = members[np.argsort(low[members, axis] + high[members, axis])]
            children[done] = used
            ranges[used, 0], ranges[used, 1] = start, start + at
            ranges[used + 1, 0], ranges[used + 1, 1] = start + at, end
            used += 2
        done += 1
    return bounds[:used].copy(), children[:used].copy(), counts[:used].copy(), order


@njit(nogil=True, cache=True)
def _is_cut_out(cutout, x, y):
    """Whether the point (x, y) of the unit square is missing."""
    kind = int(cutout[0])
    u, v = 0.5 * (x + 1) * cutout[1], 0.5 * (y + 1) * cutout[2]
    solid = cutout[3]
    fu, fv = u - math.floor(u), v - math.floor(v)
    if kind == BARS:
        return abs(fu - 0.5) > 0.5 * solid
    if kind == LATTICE:
        return abs(fu - 0.5) < 0.5 - 0.5 * solid and abs(fv - 0.5) < 0.5 - 0.5 * solid
    if kind == HOLES:
        return (fu - 0.5) ** 2 + (fv - 0.5) ** 2 < 0.25 * (1 - solid)
    # Leaves: one ellipse per cell, its place and turn hashed from the cell; they may overlap.
    for i in range(-1, 2):
        for j in range(-1, 2):
            a, b = math.floor(u) + i, math.floor(v) + j
            random = math.sin(a * 12.9898 + b * 78.233 + cutout[1]) * 43758.5453
            random -= math.floor(random)
            dx = u - a - 0.2 - 0.6 * random
            dy = v - b - 0.2 - 0.6 * ((random * 57.0) % 1.0)
            angle = random * 40.0
            along = dx * math.cos(angle) + dy * math.sin(angle)
            across = dy * math.cos(angle) - dx * math.sin(angle)
            if along * along + 5 * across * across < 0.55 * solid:
                return False
    return True


@njit(nogil=True, cache=True)
def _hit_rectangle(cutout, ox, oy, oz, dx, dy, dz, t_min):
    if dz == 0.0:
        return np.inf
    t = -oz / dz
    x, y = ox + t * dx, oy + t * dy
    if t <= t_min or abs(x) > 1.0 or abs(y) > 1.0:
        return np.inf
    if cutout[0] != NO_CUTOUT and _is_cut_out(cutout, x, y):
        return np.inf
    return t


@njit(nogil=True, cache=True)
def _box_range(ox, oy, oz, dx, dy, dz):
    """Parameters where a ray enters and leaves the unit cube (enter > leave: it misses)."""
    ix = 1.0 / dx if dx != 0.0 else 1e30
    iy = 1.0 / dy if dy != 0.0 else 1e30
    iz = 1.0 / dz if dz != 0.0 else 1e30
    x0, x1 = (-1.0 - ox) * ix, (1.0 - ox) * ix
    y0, y1 = (-1.0 - oy) * iy, (1.0 - oy) * iy
    z0, z1 = (-1.0 - oz) * iz, (1.0 - oz) * iz
    enter = max(min(x0, x1), min(y0, y1), min(z0, z1))
    leave = min(max(x0, x1), max(y0, y1), max(z0, z1))
    return enter, leave


@njit(nogil=True, cache=True)
def _first_after(enter, leave, t_min):
    if enter > leave:
        return np.inf
    if enter > t_min:
        return enter
    return leave if leave > t_min else np.inf


@njit(nogil=True, cache=True)
def _quadratic_range(a, half_b, c):
    discriminant = half_b * half_b - a * c
    if discriminant <= 0.0 or a == 0.0:
        return np.inf, -np.inf
    root = math.sqrt(discriminant)
    first, second = (-half_b - root) / a, (-half_b + root) / a
    return min(first, second), max(first, second)


@njit(nogil=True, cache=True)
def _hit_cylinder(ox, oy, oz, dx, dy, dz, t_min):
    enter, leave = _quadratic_range(dx * dx + dy * dy, ox * dx + oy * dy, ox * ox + oy * oy - 1.0)
    if dx * dx + dy * dy == 0.0 and ox * ox + oy * oy < 1.0:
        enter, leave = -np.inf, np.inf
    if dz != 0.0:
        z0, z1 = (-1.0 - oz) / dz, (1.0 - oz) / dz
        enter, leave = max(enter, min(z0, z1)), min(leave, max(z0, z1))
    elif abs(oz) > 1.0:
        return np.inf
    return _first_after(enter, leave, t_min)


@njit(nogil=True, cache=True)
def _hit_cone(ox, oy, oz, dx, dy, dz, t_min):
    # Radius at height z is (1 - z) / 2.
    r, dr = 0.5 * (1.0 - oz), -0.5 * dz
    first, second = _quadratic_range(
        dx * dx + dy * dy - dr * dr, ox * dx + oy * dy - r * dr, ox * ox + oy * oy - r * r
    )
    best = np.inf
    for t in (first, second):
        if t_min < t < best and abs(oz + t * dz) <= 1.0:
            best = t
    if dz != 0.0:
        t = (-1.0 - oz) / dz
        x, y = ox + t * dx, oy + t * dy
        if t_min < t < best and x * x + y * y <= 1.0:
            best = t
    return best


@njit(nogil=True, cache=True)
def _hit_cell(heights, i, j, cell, ox, oy, oz, dx, dy, dz, enter, leave):
    """Nearest hit within [enter, leave] of the two triangles over grid cell (column i, row j)."""
    a, b = heights[j, i], heights[j, i + 1]
    c, d = heights[j + 1, i], heights[j + 1, i + 1]
    z0, z1 = oz + enter * dz, oz + leave * dz
    if min(z0, z1) > max(max(a, b), max(c, d)) or max(z0, z1) < min(min(a, b), min(c, d)):
        return np.inf
    px, py = (ox + 1.0) / cell - i, (oy + 1.0) / cell - j
    ux, uy = dx / cell, dy / cell
    best = np.inf
    for half in range(2):
        # Heights over the cell: a + x (b - a) + y (c - a) below the diagonal x + y = 1.
        if half == 0:
            base, gx, gy = a, b - a, c - a
        else:
            base, gx, gy = b + c - d, d - c, d - b
        rate = dz - gx * ux - gy * uy
        if rate == 0.0:
            continue
        t = (base + gx * px + gy * py - oz) / rate
        in_half = (px + t * ux + py + t * uy <= 1.0) == (half == 0)
        if in_half and enter - 1e-9 <= t <= leave + 1e-9 and t < best:
            best = t
    return best


@njit(nogil=True, cache=True)
def _hit_relief(heights, ox, oy, oz, dx, dy, dz, t_min, t_max):
    """First crossing of the relief, walking through the grid cells that the ray passes over."""
    enter, leave = _box_range(ox, oy, oz, dx, dy, dz)
    t, leave = max(enter, t_min), min(leave, t_max)
    if t >= leave:
        return np.inf
    last = heights.shape[0] - 2
    cell = 2.0 / (last + 1)
    i = min(max(int((ox + t * dx + 1.0) / cell), 0), last)
    j = min(max(int((oy + t * dy + 1.0) / cell), 0), last)
    step_i, step_j = (1 if dx > 0 else -1), (1 if dy > 0 else -1)
    delta_x = cell / abs(dx) if dx != 0.0 else np.inf
    delta_y = cell / abs(dy) if dy != 0.0 else np.inf
    next_x = ((i + (dx > 0)) * cell - 1.0 - ox) / dx if dx != 0.0 else np.inf
    next_y = ((j + (dy > 0)) * cell - 1.0 - oy) / dy if dy != 0.0 else np.inf
    while t < leave:
        end = min(next_x, next_y, leave)
        hit = _hit_cell(heights, i, j, cell, ox, oy, oz, dx, dy, dz, t, end)
        if hit > t_min and hit < np.inf:
            return hit
        t = end
        if next_x < next_y:
            i, next_x = i + step_i, next_x + delta_x
        else:
            j, next_y = j + step_j, next_y + delta_y
        if i < 0 or j < 0 or i > last or j > last:
            break
    return np.inf


@njit(nogil=True, cache=True)
def _hit_primitive(geometry, k, ox, oy, oz, dx, dy, dz, t_min, t_max):
    m = geometry.to_local[k]
    lx = m[0, 0] * ox + m[0, 1] * oy + m[0, 2] * oz + m[0, 3]
    ly = m[1, 0] * ox + m[1, 1] * oy + m[1, 2] * oz + m[1, 3]
    lz = m[2, 0] * ox + m[2, 1] * oy + m[2, 2] * oz + m[2, 3]
    vx = m[0, 0] * dx + m[0, 1] * dy + m[0, 2] * dz
    vy = m[1, 0] * dx + m[1, 1] * dy + m[1, 2] * dz
    vz = m[2, 0] * dx + m[2, 1] * dy + m[2, 2] * dz
    kind = geometry.kinds[k]
    if kind == RECTANGLE:
        return _hit_rectangle(geometry.cutouts[k], lx, ly, lz, vx, vy, vz, t_min)
    if kind == BOX:
        enter, leave = _box_range(lx, ly, lz, vx, vy, vz)
        return _first_after(enter, leave, t_min)
    if kind == ELLIPSOID:
        enter, leave = _quadratic_range(
            vx * vx + vy * vy + vz * vz,
            lx * vx + ly * vy + lz * vz,
            lx * lx + ly * ly + lz * lz - 1.0,
        )
        return _first_after(enter, leave, t_min)
    if kind == CYLINDER:
        return _hit_cylinder(lx, ly, lz, vx, vy, vz, t_min)
    if kind == CONE:
        return _hit_cone(lx, ly, lz, vx, vy, vz, t_min)
    heights = geometry.heights[geometry.reliefs[k]]
    return _hit_relief(heights, lx, ly, lz, vx, vy, vz, t_min, t_max)


@njit(nogil=True, cache=True)
def _enter_node(bounds, ox, oy, oz, ix, iy, iz, t_min, t_max):
    """Parameter where a ray enters a node, infinite if it misses it within the range."""
    x0, x1 = (bounds[0] - ox) * ix, (bounds[3] - ox) * ix
    y0, y1 = (bounds[1] - oy) * iy, (bounds[4] - oy) * iy
    z0, z1 = (bounds[2] - oz) * iz, (bounds[5] - oz) * iz
    enter = max(max(min(x0, x1), min(y0, y1)), max(min(z0, z1), t_min))
    leave = min(min(max(x0, x1), max(y0, y1)), min(max(z0, z1), t_max))
    return enter if enter <= leave else np.inf


@njit(nogil=True, cache=True)
def trace(geometry, ox, oy, oz, dx, dy, dz, t_min, t_max, any_hit, stack):
    """Parameter and primitive of the nearest hit in (t_min, t_max), (inf, -1) without one.

    With ``any_hit`` the first hit found will do (shadows). ``stack`` is scratch space.
    """
    ix = 1.0 / dx if dx != 0.0 else 1e30
    iy = 1.0 / dy if dy != 0.0 else 1e30
    iz = 1.0 / dz if dz != 0.0 else 1e30
    best, best_primitive = t_max, -1
    stack[0] = 0
    depth = 1
    while depth > 0:
        depth -= 1
        node = stack[depth]
        if _enter_node(geometry.node_bounds[node], ox, oy, oz, ix, iy, iz, t_min, best) == np.inf:
            continue
        child = geometry.node_children[node]
        if child < 0:
            for slot in range(-1 - child, -1 - child + geometry.node_counts[node]):
                k = geometry.order[slot]
                t = _hit_primitive(geometry, k, ox, oy, oz, dx, dy, dz, t_min, best)
                if t < best:
                    best, best_primitive = t, k
                    if any_hit:
                        return best, best_primitive
            continue
        first = _enter_node(geometry.node_bounds[child], ox, oy, oz, ix, iy, iz, t_min, best)
        second = _enter_node(geometry.node_bounds[child + 1], ox, oy, oz, ix, iy, iz, t_min, best)
        near, far = (child, child + 1) if first <= second else (child + 1, child)
        if max(first, second) < np.inf:
            stack[depth] = far
            depth += 1
        if min(first, second) < np.inf:
            stack[depth] = near
            depth += 1
    if best_primitive < 0:
        return np.inf, -1
    return best, best_primitive


@njit(nogil=True, cache=True)
def _relief_slope(heights, x, y):
    """Slopes along x and y of a relief at a point of the square, smoothed over a cell."""
    count = heights.shape[0]
    cell = 2.0 / (count - 1)
    fx = min(max((x + 1.0) / cell, 0.0), count - 1.001)
    fy = min(max((y + 1.0) / cell, 0.0), count - 1.001)
    i, j = int(fx), int(fy)
    a, b = fx - i, fy - j
    gx = gy = 0.0
    for di in range(2):
        for dj in range(2):
            weight = (a if di else 1.0 - a) * (b if dj else 1.0 - b)
            p, q = i + di, j + dj
            left, right = max(p - 1, 0), min(p + 1, count - 1)
            up, down = max(q - 1, 0), min(q + 1, count - 1)
            gx += weight * (heights[q, right] - heights[q, left]) / ((right - left) * cell)
            gy += weight * (heights[down, p] - heights[up, p]) / ((down - up) * cell)
    return gx, gy


@njit(nogil=True, cache=True)
def surface(geometry, k, x, y, z):
    """World normal (unit length, not yet facing the ray) and texture place of a surface point.

    The texture place (u, v) is in world units along the surface; faces get their own offset.
    """
    m, s = geometry.to_local[k], geometry.half_sizes[k]
    lx = m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]
    ly = m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]
    lz = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
    kind = geometry.kinds[k]
    nx, ny, nz = 0.0, 0.0, 1.0
    u, v = lx * s[0], ly * s[1]
    if kind == BOX or kind == ELLIPSOID:
        ax, ay, az = abs(lx), abs(ly), abs(lz)
        face = 0.0
        if ax >= ay and ax >= az:
            u, v, face = ly * s[1], lz * s[2], 1.0 if lx > 0 else 2.0
        elif ay >= az:
            u, v, face = lx * s[0], lz * s[2], 3.0 if ly > 0 else 4.0
        elif lz < 0:
            face = 5.0
        u, v = u + 0.37 * face * s[0], v + 0.61 * face * s[1]
        nx, ny, nz = lx, ly, lz
        if kind == BOX:
            nx = lx if (face == 1.0 or face == 2.0) else 0.0
            ny = ly if (face == 3.0 or face == 4.0) else 0.0
            nz = lz if (face == 0.0 or face == 5.0) else 0.0
    elif kind == CYLINDER and abs(lz) < 0.9999999:
        nx, ny, nz = lx, ly, 0.0
        u, v = math.atan2(ly, lx) * s[0], lz * s[2]
    elif kind == CONE and lz > -0.9999999:
        nx, ny, nz = lx, ly, 0.25 * (1.0 - lz)
        u, v = math.atan2(ly, lx) * s[0], lz * s[2]
    elif kind == HEIGHT_FIELD:
        gx, gy = _relief_slope(geometry.heights[geometry.reliefs[k]], lx, ly)
        nx, ny = -gx, -gy
    nx, ny, nz = nx / s[0], ny / s[1], nz / s[2]
    a = geometry.axes[k]
    wx = a[0, 0] * nx + a[0, 1] * ny + a[0, 2] * nz
    wy = a[1, 0] * nx + a[1, 1] * ny + a[1, 2] * nz
    wz = a[2, 0] * nx + a[2, 1] * ny + a[2, 2] * nz
    norm = 1.0 / math.sqrt(wx * wx + wy * wy + wz * wz + 1e-30)
    return wx * norm, wy * norm, wz * norm, u, v
