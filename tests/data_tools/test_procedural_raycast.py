"""Ray casting against geometry worked out by hand or by brute force."""

import math

import numpy as np
import pytest

from hisplat_data_tools.procedural.raycast import (
    BARS,
    BOX,
    CONE,
    CYLINDER,
    ELLIPSOID,
    HEIGHT_FIELD,
    RECTANGLE,
    STACK_SIZE,
    surface,
    trace,
)
from hisplat_data_tools.procedural.scene import SceneBuilder, random_rotation
from hisplat_data_tools.procedural.textures import STYLES, lookup, make_texture, pyramid


def builder() -> SceneBuilder:
    build = SceneBuilder(np.random.default_rng(0), texture_size=16)
    build.material(build.texture("plaster"), 1.0)
    return build


def geometry_of(build: SceneBuilder):
    return build.build("test", np.zeros((2, 3)), np.zeros((2, 3))).geometry


def cast(geometry, origin, direction):
    stack = np.empty(STACK_SIZE, dtype=np.int32)
    return trace(*geometry, *map(float, origin), *map(float, direction), 1e-6, 1e6, False, stack)


@pytest.mark.parametrize(
    ("kind", "distance"),
    [
        (RECTANGLE, 5.0),
        (BOX, 2.0),
        (ELLIPSOID, 5.0 - 3.0 * math.sqrt(1 - 0.25**2)),
        (CYLINDER, 2.0),
        (CONE, 3.5),
    ],
)
def test_a_ray_from_above_meets_the_top(kind: int, distance: float) -> None:
    build = builder()
    build.add(kind, np.zeros(3), (1.0, 2.0, 3.0), 0)
    t, shape = cast(geometry_of(build), (0.25, 0, 5), (0, 0, -1))
    assert shape == 0
    assert t == pytest.approx(distance, abs=1e-9)


@pytest.mark.parametrize(
    ("kind", "inside"),
    [
        (BOX, lambda p: np.abs(p).max() - 1),
        (ELLIPSOID, lambda p: np.linalg.norm(p) - 1),
        (CYLINDER, lambda p: max(math.hypot(p[0], p[1]), abs(p[2])) - 1),
        (CONE, lambda p: max(math.hypot(p[0], p[1]) - (1 - p[2]) / 2, -1 - p[2])),
    ],
)
def test_hits_lie_on_the_stretched_and_turned_surface(kind: int, inside) -> None:
    rng = np.random.default_rng(kind)
    axes, size, centre = random_rotation(rng), np.array([0.5, 1.0, 2.0]), np.array([1.0, 2, 3])
    build = builder()
    build.add(kind, centre, size, 0, axes)
    geometry = geometry_of(build)
    hits = 0
    for _ in range(200):
        origin = centre + 6 * rng.normal(size=3)
        direction = centre + rng.normal(size=3) - origin
        t, shape = cast(geometry, origin, direction)
        steps = origin + np.linspace(0, 3, 400)[:, None] * direction
        local = (steps - centre) @ axes / size
        if shape < 0:
            assert all(inside(p) > -2e-2 for p in local)
            continue
        hits += 1
        point = origin + t * direction
        assert inside((point - centre) @ axes / size) == pytest.approx(0, abs=1e-7)
        before = local[np.linspace(0, 3, 400) < t - 1e-3]
        assert all(inside(p) > 0 for p in before) or inside((origin - centre) @ axes / size) < 0
    assert hits > 30


def test_normals_are_those_of_the_surface() -> None:
    rng = np.random.default_rng(1)
    build = builder()
    size = np.array([0.5, 1.0, 2.0])
    build.add(ELLIPSOID, np.zeros(3), size, 0)
    geometry = geometry_of(build)
    for _ in range(20):
        unit = rng.normal(size=3)
        unit /= np.linalg.norm(unit)
        gradient = unit / size
        normal = np.array(surface(geometry.shapes, geometry.reliefs, 0, *(unit * size))[:3])
        np.testing.assert_allclose(normal, gradient / np.linalg.norm(gradient), atol=1e-9)


def test_the_tree_finds_the_nearest_of_many_shapes() -> None:
    rng = np.random.default_rng(2)
    build, singles = builder(), []
    for _ in range(60):
        kind = int(rng.choice([BOX, ELLIPSOID, CYLINDER, CONE]))
        args = kind, rng.uniform(-4, 4, 3), rng.uniform(0.1, 1, 3), 0, random_rotation(rng)
        build.add(*args)
        alone = builder()
        alone.add(*args)
        singles.append(geometry_of(alone))
    together = geometry_of(build)
    for _ in range(60):
        origin, direction = rng.normal(size=3) * 6, rng.normal(size=3)
        expected = min(cast(single, origin, direction)[0] for single in singles)
        assert cast(together, origin, direction)[0] == pytest.approx(expected, rel=1e-12)


def test_a_relief_is_hit_where_the_ray_first_goes_below_it() -> None:
    rng = np.random.default_rng(3)
    heights = rng.uniform(-0.9, 0.9, (9, 9))
    build = builder()
    build.add(HEIGHT_FIELD, np.zeros(3), (1, 1, 1), 0, relief=heights)
    geometry = geometry_of(build)

    def height(x: float, y: float) -> float:
        fx, fy = (x + 1) * 4, (y + 1) * 4
        i, j = min(int(fx), 7), min(int(fy), 7)
        a, b = fx - i, fy - j
        p, q, r, s = heights[j, i], heights[j, i + 1], heights[j + 1, i], heights[j + 1, i + 1]
        if a + b <= 1:
            return p + a * (q - p) + b * (r - p)
        return s + (1 - a) * (r - s) + (1 - b) * (q - s)

    for _ in range(60):
        origin = np.array([*rng.uniform(-2, 2, 2), 2.0])
        direction = np.array([*rng.uniform(-0.8, 0.8, 2), 0.0]) - origin
        times = np.linspace(0, 1, 4001)
        points = origin + times[:, None] * direction
        above = [z - height(x, y) if max(abs(x), abs(y)) <= 1 else np.inf for x, y, z in points]
        below = np.flatnonzero(np.array(above) <= 0)
        t, _ = cast(geometry, origin, direction)
        entered_from_side = below.size and not np.isfinite(above[below[0] - 1])
        if below.size and not entered_from_side:
            assert t == pytest.approx(times[below[0]], abs=1e-3)


def test_plateaus_at_the_top_of_a_relief_have_no_holes() -> None:
    build = builder()
    build.add(HEIGHT_FIELD, (0.3, -0.2, 0.1), (16, 16, 1.23), 0, relief=np.ones((65, 65)))
    geometry, rng = geometry_of(build), np.random.default_rng(4)
    for _ in range(300):
        origin, place = rng.uniform([-9, -9, 2], [9, 9, 5]), [*rng.uniform(-9, 9, 2), 1.33]
        t, _ = cast(geometry, origin, place - origin)
        assert t == pytest.approx(1.0, abs=1e-9)


def test_rays_pass_through_the_gaps_between_bars() -> None:
    build = builder()
    build.add(RECTANGLE, np.zeros(3), (1, 1, 1), 0, cutout=(BARS, 4, 1, 0.5))
    geometry = geometry_of(build)
    hit = [cast(geometry, (x, 0, 1), (0, 0, -1))[1] >= 0 for x in (-0.75, -0.5, -0.25, 0, 0.25)]
    assert hit == [True, False, True, False, True]


@pytest.mark.parametrize("style", STYLES)
def test_textures_are_colours_of_some_variety_and_the_same_for_a_seed(style: str) -> None:
    texture = make_texture(np.random.default_rng(4), style, 64)
    assert texture.shape == (64, 64, 3)
    assert texture.min() >= 0.02
    assert texture.max() <= 0.98
    even = style in ("plaster", "plain")
    assert even or texture.std(axis=(0, 1)).max() > 0.005
    again = make_texture(np.random.default_rng(4), style, 64)
    np.testing.assert_array_equal(texture, again)


def test_lookups_give_texels_when_sharp_and_the_mean_when_wide() -> None:
    texture = make_texture(np.random.default_rng(5), "dead_leaves", 32)
    texels = pyramid(texture)[None]
    sharp = lookup(texels, 0, (7 + 0.5) / 32, (3 + 0.5) / 32, 1e-9)
    np.testing.assert_allclose(sharp, texture[3, 7], atol=1 / 255)
    wrapped = lookup(texels, 0, (7 + 0.5) / 32 - 3, (3 + 0.5) / 32 + 2, 1e-9)
    np.testing.assert_allclose(wrapped, sharp, atol=1e-6)
    wide = lookup(texels, 0, 0.3, 0.9, 1.0)
    np.testing.assert_allclose(np.square(wide), (texture**2).mean(axis=(0, 1)), atol=0.03)
