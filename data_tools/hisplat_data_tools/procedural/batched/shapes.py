"""Where rays meet unit shapes, as in ``raycast`` but for whole tensors and in single precision.

Rays are in the shape's own frame: tensors (3, pair, ray) of a ray's place and direction. Round
shapes are met from the point of the ray nearest to their axis, not from the ray's origin: what is
small and far has large coordinates there, whose squares would leave no digits.
"""

import torch
from jaxtyping import Bool, Float32, Float64
from torch import Tensor

from ..raycast import (
    BARS,
    BOX,
    CONE,
    CYLINDER,
    ELLIPSOID,
    HOLES,
    LATTICE,
    LEAF_HASH,
    LEAVES,
    NO_CUTOUT,
    RECTANGLE,
)

Values = Float32[Tensor, "pair ray"]
Origins = Float32[Tensor, "3 pair ray_or_one"]
Directions = Float32[Tensor, "3 pair ray"]
Range = tuple[Values, Values]
"""Parameters where rays enter and leave; entered after left means missed."""


def hit_shape(
    kind: int,
    origins: Origins,
    directions: Directions,
    cutouts: Float64[Tensor, "pair 4"],
    nearest: float,
) -> Values:
    """Parameter of the first hit after ``nearest`` with shapes of one kind; inf without one."""
    if kind == RECTANGLE:
        return _hit_rectangle(origins, directions, cutouts, nearest)
    if kind == BOX:
        return _first_after(slab_range(origins, directions, -1.0, 1.0), nearest)
    if kind == ELLIPSOID:
        return _first_after(_ball_range(origins, directions), nearest)
    if kind == CYLINDER:
        return _first_after(_cylinder_range(origins, directions), nearest)
    assert kind == CONE, kind
    return _hit_cone(origins, directions, nearest)


def nonzero(values: Tensor) -> Tensor:
    """The values, but tiny ones instead of zeros, to divide by."""
    return values.masked_fill(values == 0, 1e-30)


def slab_range(
    origins: Float32[Tensor, "axis pair ray_or_one"],
    directions: Float32[Tensor, "axis pair ray"],
    low: Tensor | float,
    high: Tensor | float,
) -> Range:
    """Where rays enter and leave the box between two corners, numbers or (3, ...) tensors."""
    inverse = 1 / nonzero(directions)
    one, other = (low - origins) * inverse, (high - origins) * inverse
    return torch.minimum(one, other).amax(dim=0), torch.maximum(one, other).amin(dim=0)


def _first_after(entered_and_left: Range, nearest: float) -> Values:
    enter, leave = entered_and_left
    hit = (enter <= leave) & (leave > nearest)
    return torch.where(enter > nearest, enter, leave).masked_fill(~hit, torch.inf)


def _hit_rectangle(
    origins: Origins, directions: Directions, cutouts: Float64[Tensor, "pair 4"], nearest: float
) -> Values:
    t = -origins[2] / nonzero(directions[2])
    x = torch.addcmul(origins[0], t, directions[0])
    y = torch.addcmul(origins[1], t, directions[1])
    hit = (t > nearest) & (x.abs() <= 1) & (y.abs() <= 1) & (directions[2] != 0)
    cut = (cutouts[:, 0] != NO_CUTOUT).nonzero()[:, 0]
    if len(cut):
        hit[cut] &= ~is_cut_out(cutouts[cut, :, None], x[cut], y[cut])
    return t.masked_fill(~hit, torch.inf)


def is_cut_out(
    cutouts: Float64[Tensor, "pair 4 1"], x: Values, y: Values
) -> Bool[Tensor, "pair ray"]:
    """Whether points of the unit squares are missing."""
    kind, across, down, solid = cutouts.float().unbind(dim=1)
    u, v = 0.5 * (x + 1) * across, 0.5 * (y + 1) * down
    from_u, from_v = (u - u.floor() - 0.5).abs(), (v - v.floor() - 0.5).abs()
    opening = 0.5 - 0.5 * solid
    missing = (kind == BARS) & (from_u > 0.5 * solid)
    missing |= (kind == LATTICE) & (from_u < opening) & (from_v < opening)
    missing |= (kind == HOLES) & (from_u * from_u + from_v * from_v < 0.25 * (1 - solid))
    leafy = (kind == LEAVES).any(dim=1).nonzero()[:, 0]
    if len(leafy):
        missing[leafy] = ~_is_leaf(u[leafy], v[leafy], cutouts[leafy, 1], solid[leafy])
    return missing


def _is_leaf(
    u: Values, v: Values, repeats: Float64[Tensor, "pair 1"], solid: Float32[Tensor, "pair 1"]
) -> Bool[Tensor, "pair ray"]:
    """Whether a leaf of this cell or of one around it covers the point."""
    leaf = torch.zeros_like(u, dtype=torch.bool)
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            a, b = u.floor() + i, v.floor() + j
            # Only double precision makes the same random number as elsewhere.
            sine = torch.sin(a.double() * LEAF_HASH[0] + b.double() * LEAF_HASH[1] + repeats)
            random = sine * LEAF_HASH[2]
            random -= random.floor()
            dx = u - a - (0.2 + 0.6 * random).float()
            dy = v - b - (0.2 + 0.6 * ((random * 57.0) % 1.0)).float()
            cosine, sine = torch.cos(random * 40.0).float(), torch.sin(random * 40.0).float()
            along, across = dx * cosine + dy * sine, dy * cosine - dx * sine
            leaf |= along * along + 5 * across * across < 0.55 * solid
    return leaf


def _ball_range(origins: Origins, directions: Directions) -> Range:
    a = (directions * directions).sum(dim=0)
    middle = -(origins * directions).sum(dim=0) / a
    nearest = torch.addcmul(origins, directions, middle)
    half = ((1 - (nearest * nearest).sum(dim=0)) / a).sqrt()  # nan where missed
    return middle - half, middle + half


def _cylinder_range(origins: Origins, directions: Directions) -> Range:
    flat, directions_flat = origins[:2], directions[:2]
    a = (directions_flat * directions_flat).sum(dim=0)
    middle = -(flat * directions_flat).sum(dim=0) / nonzero(a)
    nearest = torch.addcmul(flat, directions_flat, middle)
    inside = 1 - (nearest * nearest).sum(dim=0)
    half = (inside / nonzero(a)).sqrt()
    enter, leave = slab_range(origins[2:], directions[2:], -1.0, 1.0)
    # Nan, where the round side is missed, stays nan.
    return torch.maximum(enter, middle - half), torch.minimum(leave, middle + half)


def _hit_cone(origins: Origins, directions: Directions, nearest: float) -> Values:
    """Radius at height z is (1 - z) / 2; the nearer of both nappes' hits below the tip, or base."""
    flat = directions[:2]
    a = (flat * flat).sum(dim=0)
    shift = -(origins * directions).sum(dim=0) / (a + directions[2] * directions[2])
    x, y, z = torch.addcmul(origins, directions, shift)
    r, dr = 0.5 * (1 - z), -0.5 * directions[2]
    a = nonzero(a - dr * dr)
    half_b = x * flat[0] + y * flat[1] - r * dr
    c = x * x + y * y - r * r
    root = (half_b * half_b - a * c).sqrt()
    best = torch.full_like(root, torch.inf)
    for t in ((-half_b - root) / a, (-half_b + root) / a):
        on_cone = torch.addcmul(z, t, directions[2]).abs() <= 1
        t = t + shift
        best = torch.minimum(best, t.masked_fill(~(on_cone & (t > nearest)), torch.inf))
    t = (-1 - origins[2]) / nonzero(directions[2])
    x, y = (torch.addcmul(origins[i], t, directions[i]) for i in range(2))
    on_base = (t > nearest) & (x * x + y * y <= 1)
    return torch.minimum(best, t.masked_fill(~on_base, torch.inf))
