"""The nearest surface along every ray of many bundles."""

from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from ..raycast import BOX, CONE, CYLINDER, ELLIPSOID, HEIGHT_FIELD, RECTANGLE
from .bundles import Bundles, meetings
from .reliefs import hit_relief
from .scenes import SceneBatch
from .shapes import hit_shape

SQUARE_TESTS = 8
"""A ray compared with a square of a height field takes the memory of so many with another shape."""

KINDS = (RECTANGLE, BOX, ELLIPSOID, CYLINDER, CONE, HEIGHT_FIELD)


@dataclass(frozen=True)
class Hits:
    """What rays meet first.

    Attributes:
        parameters: Ray parameters, inf where nothing is met.
        shapes: Shapes of the batch, -1 where none is.
    """

    parameters: Float32[Tensor, "bundle ray"]
    shapes: Int64[Tensor, "bundle ray"]


def trace(scenes: SceneBatch, rays: Bundles, nearest: float, most_tests: int) -> Hits:
    """First hits after ``nearest`` and before the rays' ends.

    ``most_tests`` bounds how many rays are compared with a shape at a time, and how many bundles
    with parts, and so memory.
    """
    bundle, part = meetings(scenes, rays, most_tests)
    kind = scenes.kinds[scenes.part_shapes[part]]
    nothing = (_ordered(torch.full_like(rays.limits, torch.inf)) << 32) | 0xFFFFFFFF
    best = nothing
    at_once = most_tests // rays.limits.shape[1]
    for this in KINDS:
        chosen = (kind == this).nonzero()[:, 0]
        if this == HEIGHT_FIELD and len(chosen):
            # The dearest come last and only up to what was met before them.
            rays = rays.ending_at(torch.minimum(rays.limits, _parameters(best)))
            at_once //= SQUARE_TESTS
        for some in chosen.split(max(at_once, 1)):
            hits = _hits(scenes, rays, bundle[some], part[some], this, nearest)
            # Parameter and shape in one number: the least one is the nearest shape.
            key = (_ordered(hits) << 32) | scenes.part_shapes[part[some], None]
            best.scatter_reduce_(0, bundle[some, None].expand_as(key), key, "amin")
    parameters = _parameters(best)
    shapes = (best & 0xFFFFFFFF).masked_fill(parameters == torch.inf, -1)
    return Hits(parameters, shapes)


def _ordered(parameters: Float32[Tensor, "..."]) -> Int64[Tensor, "..."]:
    """The bits of positive numbers, which are ordered as the numbers are."""
    return parameters.view(torch.int32).long()


def _parameters(keys: Int64[Tensor, "..."]) -> Float32[Tensor, "..."]:
    return (keys >> 32).int().view(torch.float32)


def _hits(
    scenes: SceneBatch,
    rays: Bundles,
    bundle: Int64[Tensor, " pair"],
    part: Int64[Tensor, " pair"],
    kind: int,
    nearest: float,
) -> Float32[Tensor, "pair ray"]:
    """Parameters of hits of bundles with parts of one kind; inf without one."""
    shape = scenes.part_shapes[part]
    to_local = scenes.to_local[shape]
    centre = scenes.centres[shape].T[..., None]
    origins = local(to_local, rays.origins[:, bundle] - centre)
    directions = local(to_local, rays.directions[:, bundle])
    if kind == HEIGHT_FIELD:
        hits = hit_relief(scenes, part, origins, directions, nearest, rays.limits[bundle])
    else:
        hits = hit_shape(kind, origins, directions, scenes.cutouts[shape], nearest)
    return hits.masked_fill(~(hits < rays.limits[bundle]), torch.inf)


def local(
    matrices: Float32[Tensor, "n 3 3"], vectors: Float32[Tensor, "3 n ray"]
) -> Float32[Tensor, "3 n ray"]:
    """The matrices' products with vectors; written out, as matrix units may round to 10 bits."""
    x, y, z = vectors
    rows = matrices.permute(1, 2, 0)[..., None]
    return torch.stack([row[0] * x + row[1] * y + row[2] * z for row in rows])
