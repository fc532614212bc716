"""Nearest surface along a ray: unit shapes under affine maps, in a bounding-volume tree.

Every primitive is one unit shape stretched by half sizes, turned and moved; a ray is taken into the
shape's own frame by the inverse map, which leaves the ray parameter unchanged. Directions are
scaled to unit z-depth of the camera, so that the parameter of a primary hit is its z-depth.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from .compiled import compiled

RECTANGLE, BOX, ELLIPSOID, CYLINDER, CONE, HEIGHT_FIELD = range(6)
"""Unit shapes: z = 0 in the square [-1, 1]², the cube [-1, 1]³, the unit ball, the unit disc times
z in [-1, 1], the cone from that disc at z = -1 to the point z = 1, a relief over the square."""

NO_CUTOUT, BARS, LATTICE, HOLES, LEAVES = range(5)
"""What is cut out of a rectangle: nothing, gaps between bars, openings of a lattice, round holes,
everything but random leaves."""

STACK_SIZE = 64

LEAF_HASH = (12.9898, 78.233, 43758.5453)
"""Makes a leaf's random number of its cell: the fraction of sin(first a + second b + …) third."""
FACE_SHIFT = (0.37, 0.61)
"""How far the texture of each further face of a box is shifted, in half sizes."""


TO_LOCAL, AXES, HALF_SIZES, CUTOUT, KIND, MATERIAL, RELIEF = 0, 12, 21, 24, 28, 29, 30
SHAPE_COLUMNS = 31
"""First columns of what a shape's row holds: the map from the world to the unit shape's frame
(3x4, row by row); the shape's axes in the world (3x3, axes in columns) and half sizes; kind of
cut-out, repeats along x and y, share that stays solid; unit shape; row of the material table;
number of a height field's relief. One table: compiled code is fastest with few arrays.
"""


class Geometry(NamedTuple):
    """The shapes of a scene as arrays, as compiled code takes them.

    Attributes:
        shapes: One row per shape, in the order of the tree's leaves; columns as listed above.
        nodes: Bounding-volume tree: low corner, high corner, first child (the second follows) or,
            for a leaf, first shape; number of shapes of a leaf, 0 for an inner node.
        reliefs: Heights of height fields on regular grids over the square, in [-1, 1].
    """

    shapes: Float64[np.ndarray, "shape 31"]
    nodes: Float64[np.ndarray, "node 8"]
    reliefs: Float64[np.ndarray, "relief grid grid"]


@compiled
def _area(low, high):
    x, y, z = high[0] - low[0], high[1] - low[1], high[2] - low[2]
    return x * y + y * z + z * x


@compiled
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


@compiled
def build_tree(low, high):
    """Bounding-volume tree over boxes, as in ``Geometry.nodes``, and the order of the boxes."""
    count = low.shape[0]
    order = np.arange(count)
    nodes = np.zeros((2 * count, 8))
    ranges = np.empty((2 * count, 2), dtype=np.int64)
    ranges[0, 0], ranges[0, 1] = 0, count
    used, done = 1, 0
    while done < used:
        start, end = ranges[done]
        members = order[start:end].copy()
        for a in range(3):
            nodes[done, a] = low[members, a].min() - 1e-9
            nodes[done, a + 3] = high[members, a].max() + 1e-9
        if end - start <= 2:
            nodes[done, 6], nodes[done, 7] = start, end - start
        else:
            axis, at = _best_split(low, high, members)
            order[start:end] = members[np.argsort(low[members, axis] + high[members, axis])]
            nodes[done, 6] = used
            ranges[used, 0], ranges[used, 1] = start, start + at
            ranges[used + 1, 0], ranges[used + 1, 1] = start + at, end
            used += 2
        done += 1
    return nodes[:used].copy(), order


@compiled
def _is_cut_out(shapes, k, x, y):
    """Whether the point (x, y) of the unit square is missing."""
    kind = int(shapes[k, CUTOUT])
    u, v = 0.5 * (x + 1) * shapes[k, CUTOUT + 1], 0.5 * (y + 1) * shapes[k, CUTOUT + 2]
    solid = shapes[k, CUTOUT + 3]
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
            random = math.sin(a * LEAF_HASH[0] + b * LEAF_HASH[1] + shapes[k, CUTOUT + 1])
            random *= LEAF_HASH[2]
            random -= math.floor(random)
            dx = u - a - 0.2 - 0.6 * random
            dy = v - b - 0.2 - 0.6 * ((random * 57.0) % 1.0)
            angle = random * 40.0
            along = dx * math.cos(angle) + dy * math.sin(angle)
            across = dy * math.cos(angle) - dx * math.sin(angle)
            if along * along + 5 * across * across < 0.55 * solid:
                return False
    return True


@compiled
def _hit_rectangle(shapes, k, ox, oy, oz, dx, dy, dz, t_min):
    if dz == 0.0:
        return np.inf
    t = -oz / dz
    x, y = ox + t * dx, oy + t * dy
    if t <= t_min or abs(x) > 1.0 or abs(y) > 1.0:
        return np.inf
    if shapes[k, CUTOUT] != NO_CUTOUT and _is_cut_out(shapes, k, x, y):
        return np.inf
    return t


@compiled
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


@compiled
def _first_after(enter, leave, t_min):
    if enter > leave:
        return np.inf
    if enter > t_min:
        return enter
    return leave if leave > t_min else np.inf


@compiled
def _quadratic_range(a, half_b, c):
    discriminant = half_b * half_b - a * c
    if discriminant < 0.0 or a == 0.0:
        return np.inf, -np.inf
    root = math.sqrt(discriminant)
    first, second = (-half_b - root) / a, (-half_b + root) / a
    return min(first, second), max(first, second)


@compiled
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


@compiled
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


@compiled
def _hit_cell(reliefs, n, i, j, cell, ox, oy, oz, dx, dy, dz, enter, leave):
    """Nearest hit within [enter, leave] of the two triangles over grid cell (column i, row j)."""
    a, b = reliefs[n, j, i], reliefs[n, j, i + 1]
    c, d = reliefs[n, j + 1, i], reliefs[n, j + 1, i + 1]
    z0, z1 = oz + enter * dz, oz + leave * dz
    # Plateaus cut off at the top lie where rays enter, give or take a rounding.
    low, high = min(min(a, b), min(c, d)) - 1e-9, max(max(a, b), max(c, d)) + 1e-9
    if min(z0, z1) > high or max(z0, z1) < low:
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


@compiled
def _hit_relief(reliefs, n, ox, oy, oz, dx, dy, dz, t_min, t_max):
    """First crossing of the relief, walking through the grid cells that the ray passes over."""
    enter, leave = _box_range(ox, oy, oz, dx, dy, dz)
    t, leave = max(enter, t_min), min(leave, t_max)
    if t >= leave:
        return np.inf
    last = reliefs.shape[1] - 2
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
        hit = _hit_cell(reliefs, n, i, j, cell, ox, oy, oz, dx, dy, dz, t, end)
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


@compiled
def _hit_shape(shapes, reliefs, k, ox, oy, oz, dx, dy, dz, t_min, t_max):
    lx = shapes[k, 0] * ox + shapes[k, 1] * oy + shapes[k, 2] * oz + shapes[k, 3]
    ly = shapes[k, 4] * ox + shapes[k, 5] * oy + shapes[k, 6] * oz + shapes[k, 7]
    lz = shapes[k, 8] * ox + shapes[k, 9] * oy + shapes[k, 10] * oz + shapes[k, 11]
    vx = shapes[k, 0] * dx + shapes[k, 1] * dy + shapes[k, 2] * dz
    vy = shapes[k, 4] * dx + shapes[k, 5] * dy + shapes[k, 6] * dz
    vz = shapes[k, 8] * dx + shapes[k, 9] * dy + shapes[k, 10] * dz
    kind = int(shapes[k, KIND])
    if kind == RECTANGLE:
        return _hit_rectangle(shapes, k, lx, ly, lz, vx, vy, vz, t_min)
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
    return _hit_relief(reliefs, int(shapes[k, RELIEF]), lx, ly, lz, vx, vy, vz, t_min, t_max)


@compiled
def _enter_node(nodes, n, ox, oy, oz, ix, iy, iz, t_min, t_max):
    """Parameter where a ray enters a node, infinite if it misses it within the range."""
    x0, x1 = (nodes[n, 0] - ox) * ix, (nodes[n, 3] - ox) * ix
    y0, y1 = (nodes[n, 1] - oy) * iy, (nodes[n, 4] - oy) * iy
    z0, z1 = (nodes[n, 2] - oz) * iz, (nodes[n, 5] - oz) * iz
    enter = max(max(min(x0, x1), min(y0, y1)), max(min(z0, z1), t_min))
    leave = min(min(max(x0, x1), max(y0, y1)), min(max(z0, z1), t_max))
    return enter if enter <= leave else np.inf


@compiled
def trace(shapes, nodes, reliefs, ox, oy, oz, dx, dy, dz, t_min, t_max, any_hit, stack):
    """Parameter and shape of the nearest hit in (t_min, t_max), (inf, -1) without one.

    With ``any_hit`` the first hit found will do (shadows). ``stack`` is scratch space.
    """
    ix = 1.0 / dx if dx != 0.0 else 1e30
    iy = 1.0 / dy if dy != 0.0 else 1e30
    iz = 1.0 / dz if dz != 0.0 else 1e30
    best, best_shape = t_max, -1
    stack[0] = 0
    depth = 1
    while depth > 0:
        depth -= 1
        node = stack[depth]
        if _enter_node(nodes, node, ox, oy, oz, ix, iy, iz, t_min, best) == np.inf:
            continue
        child, count = int(nodes[node, 6]), int(nodes[node, 7])
        if count > 0:
            for k in range(child, child + count):
                t = _hit_shape(shapes, reliefs, k, ox, oy, oz, dx, dy, dz, t_min, best)
                if t < best:
                    best, best_shape = t, k
                    if any_hit:
                        return best, best_shape
            continue
        first = _enter_node(nodes, child, ox, oy, oz, ix, iy, iz, t_min, best)
        second = _enter_node(nodes, child + 1, ox, oy, oz, ix, iy, iz, t_min, best)
        near, far = (child, child + 1) if first <= second else (child + 1, child)
        if max(first, second) < np.inf:
            stack[depth] = far
            depth += 1
        if min(first, second) < np.inf:
            stack[depth] = near
            depth += 1
    if best_shape < 0:
        return np.inf, -1
    return best, best_shape


@compiled
def _relief_slope(reliefs, n, x, y):
    """Slopes along x and y of a relief at a point of the square, smoothed over a cell."""
    count = reliefs.shape[1]
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
            gx += weight * (reliefs[n, q, right] - reliefs[n, q, left]) / ((right - left) * cell)
            gy += weight * (reliefs[n, down, p] - reliefs[n, up, p]) / ((down - up) * cell)
    return gx, gy


@compiled
def surface(shapes, reliefs, k, x, y, z):
    """World normal (unit length, not yet facing the ray) and texture place of a surface point.

    The texture place (u, v) is in world units along the surface; faces get their own offset.
    """
    s0, s1, s2 = shapes[k, HALF_SIZES], shapes[k, HALF_SIZES + 1], shapes[k, HALF_SIZES + 2]
    lx = shapes[k, 0] * x + shapes[k, 1] * y + shapes[k, 2] * z + shapes[k, 3]
    ly = shapes[k, 4] * x + shapes[k, 5] * y + shapes[k, 6] * z + shapes[k, 7]
    lz = shapes[k, 8] * x + shapes[k, 9] * y + shapes[k, 10] * z + shapes[k, 11]
    kind = int(shapes[k, KIND])
    nx, ny, nz = 0.0, 0.0, 1.0
    u, v = lx * s0, ly * s1
    if kind == BOX or kind == ELLIPSOID:
        ax, ay, az = abs(lx), abs(ly), abs(lz)
        face = 0.0
        if ax >= ay and ax >= az:
            u, v, face = ly * s1, lz * s2, 1.0 if lx > 0 else 2.0
        elif ay >= az:
            u, v, face = lx * s0, lz * s2, 3.0 if ly > 0 else 4.0
        elif lz < 0:
            face = 5.0
        u, v = u + FACE_SHIFT[0] * face * s0, v + FACE_SHIFT[1] * face * s1
        nx, ny, nz = lx, ly, lz
        if kind == BOX:
            nx = lx if (face == 1.0 or face == 2.0) else 0.0
            ny = ly if (face == 3.0 or face == 4.0) else 0.0
            nz = lz if (face == 0.0 or face == 5.0) else 0.0
    elif kind == CYLINDER and abs(lz) < 0.9999999:
        nx, ny, nz = lx, ly, 0.0
        u, v = math.atan2(ly, lx) * s0, lz * s2
    elif kind == CONE and lz > -0.9999999:
        nx, ny, nz = lx, ly, 0.25 * (1.0 - lz)
        u, v = math.atan2(ly, lx) * s0, lz * s2
    elif kind == HEIGHT_FIELD:
        gx, gy = _relief_slope(reliefs, int(shapes[k, RELIEF]), lx, ly)
        nx, ny = -gx, -gy
    nx, ny, nz = nx / s0, ny / s1, nz / s2
    wx = shapes[k, 12] * nx + shapes[k, 13] * ny + shapes[k, 14] * nz
    wy = shapes[k, 15] * nx + shapes[k, 16] * ny + shapes[k, 17] * nz
    wz = shapes[k, 18] * nx + shapes[k, 19] * ny + shapes[k, 20] * nz
    norm = 1.0 / math.sqrt(wx * wx + wy * wy + wz * wz + 1e-30)
    return wx * norm, wy * norm, wz * norm, u, v
