"""Normals and texture places of surface points, and the colours of textures there.

The same as ``raycast.surface`` and ``textures.lookup``, for whole tensors.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from ..raycast import BOX, CONE, CYLINDER, ELLIPSOID, FACE_SHIFT, HEIGHT_FIELD
from .reliefs import relief_slopes
from .scenes import SceneBatch
from .trace import local

Flat = Float32[Tensor, " n"]


@dataclass(frozen=True)
class Surfaces:
    """Surface points.

    Attributes:
        normals: Unit length, world frame, not yet facing the ray.
        u: Texture place in world units along the surface.
        v: Likewise.
    """

    normals: Float32[Tensor, "3 n"]
    u: Flat
    v: Flat


def surfaces(
    scenes: SceneBatch, shapes: Int64[Tensor, " n"], points: Float32[Tensor, "3 n"]
) -> Surfaces:
    """What the surface is like at points on shapes."""
    place = local(scenes.to_local[shapes], (points - scenes.centres[shapes].T)[..., None])[..., 0]
    x, y, z = place
    size = scenes.half_sizes[shapes].T
    kind = scenes.kinds[shapes]
    is_box, is_ball = kind == BOX, kind == ELLIPSOID
    normal = torch.stack([torch.zeros_like(x), torch.zeros_like(y), torch.ones_like(z)])
    u, v = x * size[0], y * size[1]

    axis, face = _face(place)
    shifted_u = torch.where(axis == 0, y * size[1], u) + FACE_SHIFT[0] * face * size[0]
    shifted_v = torch.where(axis == 2, v, z * size[2]) + FACE_SHIFT[1] * face * size[1]
    u = torch.where(is_box | is_ball, shifted_u, u)
    v = torch.where(is_box | is_ball, shifted_v, v)
    normal = torch.where(is_ball, place, normal)
    axes = torch.arange(3, device=x.device)[:, None]
    normal = torch.where(is_box, place.where(axes == axis, 0.0), normal)

    radius = (x * x + y * y).sqrt()
    # Whichever of the round side and the flat end the point is nearer to.
    on_tube = (kind == CYLINDER) & (1 - z.abs() > (1 - radius).abs())
    on_cone = (kind == CONE) & (z + 1 > (radius - 0.5 * (1 - z)).abs())
    around = on_tube | on_cone
    normal = torch.where(around, torch.stack([x, y, on_cone * 0.25 * (1 - z)]), normal)
    u = torch.where(around, torch.atan2(y, x) * size[0], u)
    v = torch.where(around, z * size[2], v)

    hills = (kind == HEIGHT_FIELD).nonzero()[:, 0]
    if len(hills):
        slopes = relief_slopes(scenes, scenes.shape_reliefs[shapes[hills]], x[hills], y[hills])
        normal[0, hills], normal[1, hills] = -slopes[0], -slopes[1]
    world = local(scenes.axes[shapes], (normal / size)[..., None])[..., 0]
    return Surfaces(world * (world * world).sum(dim=0).clamp(min=1e-30).rsqrt(), u, v)


def _face(place: Float32[Tensor, "3 n"]) -> tuple[Int64[Tensor, " n"], Float32[Tensor, " n"]]:
    """The axis along which a point is farthest out, and the number of that side of a box."""
    x, y, z = place.abs()
    along_x = (x >= y) & (x >= z)
    along_y = ~along_x & (y >= z)
    axis = torch.where(along_x, 0, torch.where(along_y, 1, 2))
    is_low = place.gather(0, axis[None])[0] <= 0
    first = torch.where(along_x, 1.0, torch.where(along_y, 3.0, 0.0))
    low = torch.where(along_x, 2.0, torch.where(along_y, 4.0, 5.0))
    return axis, torch.where(is_low, low, first)


def lookup(
    scenes: SceneBatch, textures: Int64[Tensor, " n"], u: Flat, v: Flat, footprints: Flat
) -> Float32[Tensor, "n 3"]:
    """Colours (sRGB) of textures at places, blurred over footprints, in repeats."""
    count = scenes.texels.shape[1]
    levels = round((0.75 * count + 0.25) ** 0.5).bit_length()
    size = 1 << (levels - 1)
    lod = torch.log2((footprints * size).clamp(min=1e-9)).clamp(min=0)
    level = lod.long().clamp(max=levels - 1)
    share = (lod - lod.floor()).masked_fill(level == levels - 1, 0.0)
    share = share.masked_fill(share <= 0.01, 0.0)[:, None]
    fine = _bilinear(scenes, textures, level, size, u, v)
    coarse = _bilinear(scenes, textures, (level + 1).clamp(max=levels - 1), size, u, v)
    return torch.lerp(fine, coarse, share) / 255


def _bilinear(
    scenes: SceneBatch,
    textures: Int64[Tensor, " n"],
    level: Int64[Tensor, " n"],
    size: int,
    u: Flat,
    v: Flat,
) -> Float32[Tensor, "n 3"]:
    """Texels around places of one mip level each, blended; 0 to 255."""
    sizes = [size >> n for n in range(size.bit_length())]
    starts = [sum(s * s for s in sizes[:n]) for n in range(len(sizes))]
    start = torch.tensor(starts, device=u.device)[level]
    width = size >> level
    x, y = u * width - 0.5, v * width - 0.5
    left, top = x.floor(), y.floor()
    a, b = x - left, y - top
    # Sizes are powers of two, so wrapping is a mask.
    i0, j0 = left.long() & (width - 1), top.long() & (width - 1)
    i1, j1 = (i0 + 1) & (width - 1), (j0 + 1) & (width - 1)
    first = textures * scenes.texels.shape[1] + start
    corners = ((j0, i0, (1 - a) * (1 - b)), (j0, i1, a * (1 - b)))
    corners += ((j1, i0, (1 - a) * b), (j1, i1, a * b))
    texels = scenes.texels.flatten(0, 1)
    colour = torch.zeros(len(u), 3, device=u.device)
    for row, column, weight in corners:
        colour += weight[:, None] * texels[first + row * width + column][:, :3]
    return colour
