"""Light that surfaces send back along rays: the same model as ``render``, for whole tensors."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from ..render import (
    COSINE,
    DARKEST_STAIN,
    EMISSION,
    FARTHEST,
    GLOSS,
    GLOSS_GAIN,
    GRAZING_MIRROR,
    LAMP_CORE,
    LAMP_GAIN,
    LEAST_FACING,
    LIFT,
    LIGHT_COLOUR,
    LIGHT_KIND,
    LIGHT_PLACE,
    LIGHT_REACH,
    MIRROR,
    NEAREST,
    NEAREST_BLOCKER,
    OFFSET_U,
    OFFSET_V,
    REPEATS_U,
    REPEATS_V,
    SINE,
    SKY_ABOVE,
    SKY_BELOW,
    SPECULAR,
    STAIN,
    STAIN_GAIN,
    STAIN_REPEATS,
    STAIN_STRENGTH,
    STAIN_TURN,
    TEXTURE,
    TINT,
)
from .bundles import Bundles
from .scenes import SceneBatch
from .sky import dome_colour
from .surfaces import lookup, surfaces
from .trace import Hits, trace

Values = Float32[Tensor, "bundle ray"]
Vectors = Float32[Tensor, "3 bundle ray"]
Colours = Float32[Tensor, "3 bundle ray"]


def radiance(
    scenes: SceneBatch, rays: Bundles, hits: Hits, spread: Float32[Tensor, " bundle"], tests: int
) -> Colours:
    """Linear light arriving along rays that hit this, with at most one mirror reflection.

    ``spread`` is the angle between neighbouring rays; ``tests`` bounds memory, see ``trace``.
    """
    facets = _facets(scenes, rays, hits, spread)
    light, lamps = _lit(scenes, rays, facets, hits.shapes >= 0, tests)
    colour = _seen(scenes, rays, hits, spread, facets, light, lamps)
    share = _mirrored_share(facets) * (hits.shapes >= 0)
    some = (share > 0).any(dim=1).nonzero()[:, 0]
    if len(some) == 0:
        return colour
    away = facets.reflected(rays).chosen(some)
    away = away.ending_at(torch.where(share[some] > 0, FARTHEST, -1.0))
    second = trace(scenes, away, NEAREST, tests)
    facets = _facets(scenes, away, second, 2 * spread[some])
    light, lamps = _lit(scenes, away, facets, second.shapes >= 0, None)
    mirrored = _seen(scenes, away, second, spread[some], facets, light, lamps)
    colour[:, some] = torch.lerp(colour[:, some], mirrored, share[some])
    return colour


@dataclass(frozen=True)
class _Facets:
    """The surface where each ray meets one; anything where it meets none.

    Attributes:
        normals: Unit vectors against the ray.
        facing: Cosine between ray and normal, <= 0.
        lifted: The points, moved off the surface a little.
        toward: Unit directions of the rays.
        albedo: Linear colours.
        rows: Rows of the material table.
    """

    normals: Vectors
    facing: Values
    lifted: Vectors
    toward: Vectors
    albedo: Colours
    rows: Float32[Tensor, "17 bundle ray"]

    def reflected(self, rays: Bundles) -> Bundles:
        """Rays mirrored at the surface."""
        length = (rays.directions * rays.directions).sum(dim=0).sqrt()
        turned = rays.directions - 2 * self.facing * length * self.normals
        return Bundles(self.lifted, turned, rays.limits, rays.scenes)


def _facets(
    scenes: SceneBatch, rays: Bundles, hits: Hits, spread: Float32[Tensor, " bundle"]
) -> _Facets:
    t = hits.parameters.masked_fill(hits.shapes < 0, 1.0)
    points, shapes = rays.points(t), hits.shapes.clamp(min=0).flatten()
    surface = surfaces(scenes, shapes, points.flatten(1))
    normals = surface.normals.reshape(points.shape)
    length = (rays.directions * rays.directions).sum(dim=0).sqrt()
    facing = (normals * rays.directions).sum(dim=0) / length
    normals = torch.where(facing > 0, -normals, normals)
    facing = -facing.abs()
    # Between the footprint's short and long side: blurred little, and aliased little.
    footprint = spread[:, None] * t / (-facing).clamp(min=LEAST_FACING).sqrt()
    rows = scenes.materials[scenes.shape_materials[shapes]]
    albedo = _albedo(scenes, rows, surface.u, surface.v, footprint.flatten())
    return _Facets(
        normals=normals,
        facing=facing,
        lifted=torch.addcmul(points, normals, LIFT * t * length),
        toward=rays.directions / length,
        albedo=albedo.T.reshape(points.shape),
        rows=rows.T.reshape(-1, *t.shape),
    )


def _albedo(
    scenes: SceneBatch,
    rows: Float32[Tensor, "n 17"],
    u: Float32[Tensor, " n"],
    v: Float32[Tensor, " n"],
    footprint: Float32[Tensor, " n"],
) -> Float32[Tensor, "n 3"]:
    """Linear colours of materials at places; ``footprint`` in world units."""
    p = rows[:, COSINE] * u - rows[:, SINE] * v
    q = rows[:, SINE] * u + rows[:, COSINE] * v
    colour = lookup(
        scenes,
        rows[:, TEXTURE].long(),
        p * rows[:, REPEATS_U] + rows[:, OFFSET_U],
        q * rows[:, REPEATS_V] + rows[:, OFFSET_V],
        footprint * rows[:, REPEATS_U],
    )
    colour = colour * colour * rows[:, TINT : TINT + 3]
    stained = (rows[:, STAIN_STRENGTH] > 0).nonzero()[:, 0]
    row, u, v = rows[stained], u[stained], v[stained]
    repeats = row[:, STAIN_REPEATS]
    stain = lookup(
        scenes,
        row[:, STAIN].long(),
        (STAIN_TURN[0] * u + STAIN_TURN[1] * v) * repeats,
        (STAIN_TURN[0] * v - STAIN_TURN[1] * u) * repeats,
        footprint[stained] * repeats,
    )
    shade = 1 + row[:, STAIN_STRENGTH] * (STAIN_GAIN * stain.sum(dim=1) - 1)
    colour[stained] *= shade.clamp(min=DARKEST_STAIN)[:, None]
    return colour


def _lit(
    scenes: SceneBatch,
    rays: Bundles,
    facets: _Facets,
    is_surface: Bool[Tensor, "bundle ray"],
    tests: int | None,
) -> tuple[Colours, Colours]:
    """Light arriving at surfaces, and what glints back; without shadows if ``tests`` is None."""
    sky = scenes.skies[rays.scenes].T[..., None]
    above, below = sky[SKY_ABOVE : SKY_ABOVE + 3], sky[SKY_BELOW : SKY_BELOW + 3]
    arriving = torch.lerp(below, above, 0.5 + 0.5 * facets.normals[2])
    glints = torch.zeros_like(arriving)
    for light in scenes.lights[rays.scenes].permute(1, 2, 0)[..., None]:
        toward, reach, strength = _toward(light, facets.lifted)
        cosine = (facets.normals * toward).sum(dim=0)
        lit = is_surface & (cosine > 0) & (light[LIGHT_COLOUR : LIGHT_COLOUR + 3] != 0).any(dim=0)
        if tests is not None:
            shadow = Bundles(facets.lifted, toward, torch.where(lit, reach, -1.0), rays.scenes)
            lit &= trace(scenes, shadow, NEAREST_BLOCKER, tests).shapes < 0
        colour = (strength * lit) * light[LIGHT_COLOUR : LIGHT_COLOUR + 3]
        arriving += cosine * colour
        glints += _lobe(facets, toward) * colour
    return arriving, glints


def _toward(
    light: Float32[Tensor, "8 bundle 1"], points: Vectors
) -> tuple[Vectors, Values, Values]:
    """Unit directions to a light of each scene, how far it is, and its strength."""
    place = light[LIGHT_PLACE : LIGHT_PLACE + 3]
    way = place - points
    squared = (way * way).sum(dim=0)
    distance = squared.sqrt().clamp(min=1e-12)
    reach = light[LIGHT_REACH] * light[LIGHT_REACH]
    is_lamp = (light[LIGHT_KIND] == 1).expand_as(distance)
    strength = LAMP_GAIN * reach / (squared + LAMP_CORE * reach)
    return (
        torch.where(is_lamp, way / distance, place),
        torch.where(is_lamp, distance, FARTHEST),
        torch.where(is_lamp, strength, 1.0),
    )


def _lobe(facets: _Facets, toward: Vectors) -> Values:
    """Share of a light that glints back along the ray."""
    half = toward - facets.toward
    norm = (half * half).sum(dim=0).sqrt() + 1e-9
    gloss = facets.rows[GLOSS]
    lobe = ((facets.normals * half).sum(dim=0) / norm).clamp(min=0) ** gloss
    return lobe * facets.rows[SPECULAR] * (1 + GLOSS_GAIN * gloss)


def _mirrored_share(facets: _Facets) -> Values:
    """Share of the light that comes from the mirrored direction."""
    mirror = facets.rows[MIRROR]
    share = mirror + (1 - mirror) * GRAZING_MIRROR * (1 + facets.facing) ** 5
    return share * (mirror > 0)


def _seen(
    scenes: SceneBatch,
    rays: Bundles,
    hits: Hits,
    spread: Float32[Tensor, " bundle"],
    facets: _Facets,
    arriving: Colours,
    glints: Colours,
) -> Colours:
    """Light that comes back from surfaces, or from the sky where there are none."""
    colour = facets.albedo * (arriving + facets.rows[EMISSION]) + glints
    bundle, ray = (hits.shapes < 0).nonzero().unbind(dim=1)
    origins = rays.origins.expand_as(rays.directions)[:, bundle, ray]
    directions = rays.directions[:, bundle, ray]
    sky = scenes.skies[rays.scenes[bundle]]
    colour[:, bundle, ray] = dome_colour(scenes, sky, origins, directions, spread[bundle]).T
    return colour
