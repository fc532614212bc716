"""Pictures of a scene: several shaded rays a pixel, and the exact depth at pixel centres."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64

from .compiled import compiled
from .raycast import MATERIAL, STACK_SIZE, surface, trace
from .scene import Scene
from .textures import lookup

TEXTURE, REPEATS_U, REPEATS_V, COSINE, SINE, OFFSET_U, OFFSET_V = range(7)
STAIN, STAIN_REPEATS, STAIN_STRENGTH, SPECULAR, GLOSS, MIRROR, EMISSION, TINT = range(7, 15)
"""Columns of the material table, ``MATERIAL_FIELDS``."""
LIGHT_KIND, LIGHT_PLACE, LIGHT_COLOUR, LIGHT_REACH = 0, 1, 4, 7
"""First columns of the table of lights."""
SKY_ABOVE, SKY_BELOW, SKY_CENTRE, SKY_RADIUS, SKY_TEXTURE, SKY_REPEATS = 0, 3, 6, 9, 10, 11
"""First places in the description of the sky."""

NEAREST, FARTHEST, NEAREST_BLOCKER = 1e-4, 1e6, 1e-6
"""Ray parameters between which surfaces are seen, and from which on they cast shadows."""
LIFT = 1e-4
"""How far from the surface shadows and reflections begin, as a share of its distance."""
LEAST_FACING = 0.03
"""Least cosine that a texture's footprint is stretched by."""
CLOUD_HEIGHT = 0.35
"""Makes the flat layer of clouds end before the horizon."""
STAIN_TURN = (0.83, 0.56)
"""Cosine and sine, about, of the angle between a texture and its stain."""
STAIN_GAIN, DARKEST_STAIN = 0.7, 0.05
LAMP_GAIN, LAMP_CORE = 1.3, 0.3
"""A lamp's light falls off with the squared distance plus a core, as a share of its reach."""
GLOSS_GAIN = 0.05
GRAZING_MIRROR = 0.6
"""How much of the light that a mirroring surface does not reflect anyway it reflects at grazing
angles."""


@dataclass(frozen=True)
class Camera:
    """One pinhole camera in the frame of a scene.

    Attributes:
        camera_to_world: Rigid pose, OpenCV axes (x right, y down, z forward).
        intrinsics: First row divided by the image width, second by its height.
    """

    camera_to_world: Float64[np.ndarray, "4 4"]
    intrinsics: Float64[np.ndarray, "3 3"]


@dataclass(frozen=True)
class Rendering:
    """What a camera sees.

    Attributes:
        radiance: Linear light, >= 0, averaged over the rays of each pixel.
        depth: Exact z-depth at the pixel centres.
        is_sky: Pixels whose centre sees the dome around the scene.
    """

    radiance: Float32[np.ndarray, "height width 3"]
    depth: Float32[np.ndarray, "height width"]
    is_sky: Bool[np.ndarray, "height width"]


@compiled
def _dome_distance(sky, ox, oy, oz, dx, dy, dz):
    """Ray parameter where a ray from inside the dome meets it."""
    px, py, pz = ox - sky[6], oy - sky[7], oz - sky[8]
    a = dx * dx + dy * dy + dz * dz
    b = px * dx + py * dy + pz * dz
    c = px * px + py * py + pz * pz - sky[9] * sky[9]
    return (-b + math.sqrt(max(b * b - a * c, 0.0))) / a


@compiled
def _dome_colour(texels, sky, ox, oy, oz, dx, dy, dz, spread):
    """Linear colour of the sky where a ray meets the dome; ``spread`` is its angle."""
    t = _dome_distance(sky, ox, oy, oz, dx, dy, dz)
    x, y = (ox + t * dx - sky[6]) / sky[9], (oy + t * dy - sky[7]) / sky[9]
    z = (oz + t * dz - sky[8]) / sky[9]
    # Looking up to a flat layer of clouds avoids the poles of a spherical map.
    stretch = sky[11] / (2.0 * (abs(z) + CLOUD_HEIGHT))
    r, g, b = lookup(
        texels,
        int(sky[10]),
        x * stretch,
        y * stretch,
        spread * stretch,
    )
    return r * r, g * g, b * b


@compiled
def _albedo(rows, texels, m, u, v, footprint):
    """Linear colour of a material at a place; ``footprint`` in world units."""
    p = rows[m, COSINE] * u - rows[m, SINE] * v
    q = rows[m, SINE] * u + rows[m, COSINE] * v
    r, g, b = lookup(
        texels,
        int(rows[m, TEXTURE]),
        p * rows[m, REPEATS_U] + rows[m, OFFSET_U],
        q * rows[m, REPEATS_V] + rows[m, OFFSET_V],
        footprint * rows[m, REPEATS_U],
    )
    r, g, b = r * r * rows[m, TINT], g * g * rows[m, TINT + 1], b * b * rows[m, TINT + 2]
    if rows[m, STAIN_STRENGTH] > 0.0:
        repeats = rows[m, STAIN_REPEATS]
        # Turned by an odd angle, so that the two never repeat together.
        sr, sg, sb = lookup(
            texels,
            int(rows[m, STAIN]),
            (STAIN_TURN[0] * u + STAIN_TURN[1] * v) * repeats,
            (STAIN_TURN[0] * v - STAIN_TURN[1] * u) * repeats,
            footprint * repeats,
        )
        shade = 1.0 + rows[m, STAIN_STRENGTH] * (STAIN_GAIN * (sr + sg + sb) - 1.0)
        shade = max(shade, DARKEST_STAIN)
        r, g, b = r * shade, g * shade, b * shade
    return r, g, b


@compiled
def _shade(
    shapes,
    nodes,
    reliefs,
    rows,
    texels,
    lights,
    sky,
    k,
    ox,
    oy,
    oz,
    dx,
    dy,
    dz,
    t,
    spread,
    shadows,
    stack,
):
    """Linear light that primitive ``k`` sends back along a ray, and its reflected direction."""
    x, y, z = ox + t * dx, oy + t * dy, oz + t * dz
    nx, ny, nz, u, v = surface(shapes, reliefs, k, x, y, z)
    length = math.sqrt(dx * dx + dy * dy + dz * dz)
    facing = (nx * dx + ny * dy + nz * dz) / length
    if facing > 0.0:
        nx, ny, nz, facing = -nx, -ny, -nz, -facing
    m = int(shapes[k, MATERIAL])
    # Between the footprint's short and long side: blurred little, and aliased little.
    footprint = spread * t / math.sqrt(max(-facing, LEAST_FACING))
    r, g, b = _albedo(rows, texels, m, u, v, footprint)

    up = 0.5 + 0.5 * nz
    light_r = sky[3] + up * (sky[0] - sky[3])
    light_g = sky[4] + up * (sky[1] - sky[4])
    light_b = sky[5] + up * (sky[2] - sky[5])
    glint_r = glint_g = glint_b = 0.0
    offset = LIFT * t * length
    px, py, pz = x + offset * nx, y + offset * ny, z + offset * nz
    for n in range(lights.shape[0]):
        lx, ly, lz, reach, strength = lights[n, 1], lights[n, 2], lights[n, 3], FARTHEST, 1.0
        if lights[n, 0] == 1.0:
            lx, ly, lz = lx - px, ly - py, lz - pz
            distance = math.sqrt(lx * lx + ly * ly + lz * lz)
            lx, ly, lz, reach = lx / distance, ly / distance, lz / distance, distance
            strength = (
                LAMP_GAIN
                * lights[n, 7]
                * lights[n, 7]
                / (distance * distance + LAMP_CORE * lights[n, 7] * lights[n, 7])
            )
        cosine = nx * lx + ny * ly + nz * lz
        if cosine <= 0.0:
            continue
        if shadows:
            _, blocker = trace(
                shapes,
                nodes,
                reliefs,
                px,
                py,
                pz,
                lx,
                ly,
                lz,
                NEAREST_BLOCKER,
                reach,
                True,
                stack,
            )
            if blocker >= 0:
                continue
        light_r += strength * cosine * lights[n, 4]
        light_g += strength * cosine * lights[n, 5]
        light_b += strength * cosine * lights[n, 6]
        if rows[m, SPECULAR] > 0.0:
            hx, hy, hz = lx - dx / length, ly - dy / length, lz - dz / length
            norm = math.sqrt(hx * hx + hy * hy + hz * hz) + 1e-9
            lobe = max(0.0, (nx * hx + ny * hy + nz * hz) / norm) ** rows[m, GLOSS]
            lobe *= strength * rows[m, SPECULAR] * (1.0 + GLOSS_GAIN * rows[m, GLOSS])
            glint_r, glint_g = glint_r + lobe * lights[n, 4], glint_g + lobe * lights[n, 5]
            glint_b += lobe * lights[n, 6]
    glow = rows[m, EMISSION]
    r, g, b = (
        r * (light_r + glow) + glint_r,
        g * (light_g + glow) + glint_g,
        b * (light_b + glow) + glint_b,
    )
    mirror = 0.0
    if rows[m, MIRROR] > 0.0:
        mirror = rows[m, MIRROR] + (1 - rows[m, MIRROR]) * GRAZING_MIRROR * (1 + facing) ** 5
    turn = -2.0 * facing * length
    return r, g, b, mirror, dx + turn * nx, dy + turn * ny, dz + turn * nz, px, py, pz


@compiled
def _radiance(
    shapes, nodes, reliefs, rows, texels, lights, sky, ox, oy, oz, dx, dy, dz, spread, stack
):
    """Linear light arriving along a ray, with at most one mirror reflection."""
    t, k = trace(shapes, nodes, reliefs, ox, oy, oz, dx, dy, dz, NEAREST, FARTHEST, False, stack)
    if k < 0:
        return _dome_colour(texels, sky, ox, oy, oz, dx, dy, dz, spread)
    r, g, b, mirror, rx, ry, rz, px, py, pz = _shade(
        shapes,
        nodes,
        reliefs,
        rows,
        texels,
        lights,
        sky,
        k,
        ox,
        oy,
        oz,
        dx,
        dy,
        dz,
        t,
        spread,
        True,
        stack,
    )
    if mirror > 0.0:
        t2, k2 = trace(
            shapes, nodes, reliefs, px, py, pz, rx, ry, rz, NEAREST, FARTHEST, False, stack
        )
        if k2 < 0:
            r2, g2, b2 = _dome_colour(texels, sky, px, py, pz, rx, ry, rz, spread)
        else:
            r2, g2, b2, _, _, _, _, _, _, _ = _shade(
                shapes,
                nodes,
                reliefs,
                rows,
                texels,
                lights,
                sky,
                k2,
                px,
                py,
                pz,
                rx,
                ry,
                rz,
                t2,
                2 * spread,
                False,
                stack,
            )
        r, g, b = r + mirror * (r2 - r), g + mirror * (g2 - g), b + mirror * (b2 - b)
    return r, g, b


@compiled
def _render(geometry, appearance, pose, focal_and_centre, offsets, radiance):
    # Members of tuples are counted references: taken out once here, not at every ray.
    shapes, nodes, reliefs = geometry.shapes, geometry.nodes, geometry.reliefs
    rows, texels = appearance.materials, appearance.texels
    lights, sky = appearance.lights, appearance.sky
    height, width = radiance.shape[:2]
    fx, fy, cx, cy = focal_and_centre
    stack = np.empty(STACK_SIZE, dtype=np.int32)
    count = offsets.shape[0]
    spread = 1.0 / (math.sqrt(fx * fy) * math.sqrt(count))
    ox, oy, oz = pose[0, 3], pose[1, 3], pose[2, 3]
    for row in range(height):
        for column in range(width):
            r = g = b = 0.0
            for n in range(count):
                x = (column + offsets[n, 0] - cx) / fx
                y = (row + offsets[n, 1] - cy) / fy
                dx = pose[0, 0] * x + pose[0, 1] * y + pose[0, 2]
                dy = pose[1, 0] * x + pose[1, 1] * y + pose[1, 2]
                dz = pose[2, 0] * x + pose[2, 1] * y + pose[2, 2]
                dr, dg, db = _radiance(
                    shapes,
                    nodes,
                    reliefs,
                    rows,
                    texels,
                    lights,
                    sky,
                    ox,
                    oy,
                    oz,
                    dx,
                    dy,
                    dz,
                    spread,
                    stack,
                )
                r, g, b = r + dr, g + dg, b + db
            radiance[row, column, 0] = r / count
            radiance[row, column, 1] = g / count
            radiance[row, column, 2] = b / count


@compiled
def _depth(geometry, sky, pose, focal_and_centre, depth, is_sky):
    shapes, nodes, reliefs = geometry.shapes, geometry.nodes, geometry.reliefs
    fx, fy, cx, cy = focal_and_centre
    stack = np.empty(STACK_SIZE, dtype=np.int32)
    ox, oy, oz = pose[0, 3], pose[1, 3], pose[2, 3]
    for row in range(depth.shape[0]):
        for column in range(depth.shape[1]):
            x, y = (column + 0.5 - cx) / fx, (row + 0.5 - cy) / fy
            dx = pose[0, 0] * x + pose[0, 1] * y + pose[0, 2]
            dy = pose[1, 0] * x + pose[1, 1] * y + pose[1, 2]
            dz = pose[2, 0] * x + pose[2, 1] * y + pose[2, 2]
            t, k = trace(
                shapes, nodes, reliefs, ox, oy, oz, dx, dy, dz, NEAREST, FARTHEST, False, stack
            )
            if k < 0:
                t = _dome_distance(sky, ox, oy, oz, dx, dy, dz)
            depth[row, column] = t
            is_sky[row, column] = k < 0


def _focal_and_centre(camera: Camera, height: int, width: int) -> tuple[float, ...]:
    k = camera.intrinsics
    return k[0, 0] * width, k[1, 1] * height, k[0, 2] * width, k[1, 2] * height


def ray_offsets(count: int) -> Float64[np.ndarray, "count 2"]:
    """Places of the rays inside a pixel, evenly spread (Roberts' R2 sequence); one: its centre."""
    index = np.arange(count)[:, None]
    return (0.5 + index * np.array([0.7548776662466927, 0.5698402909980532])) % 1.0


def render_depth(
    scene: Scene, camera: Camera, height: int, width: int
) -> tuple[Float32[np.ndarray, "height width"], Bool[np.ndarray, "height width"]]:
    """Exact z-depth at the pixel centres, and which of them see the sky."""
    depth = np.empty((height, width), dtype=np.float32)
    is_sky = np.empty((height, width), dtype=np.bool_)
    view = _focal_and_centre(camera, height, width)
    pose = np.ascontiguousarray(camera.camera_to_world)
    _depth(scene.geometry, scene.appearance.sky, pose, view, depth, is_sky)
    return depth, is_sky


def render(
    scene: Scene, camera: Camera, height: int, width: int, samples_per_pixel: int = 4
) -> Rendering:
    """What the camera sees, with ``samples_per_pixel`` shaded rays a pixel."""
    radiance = np.empty((height, width, 3), dtype=np.float32)
    view = _focal_and_centre(camera, height, width)
    pose = np.ascontiguousarray(camera.camera_to_world)
    offsets = ray_offsets(samples_per_pixel)
    _render(scene.geometry, scene.appearance, pose, view, offsets, radiance)
    return Rendering(radiance, *render_depth(scene, camera, height, width))
