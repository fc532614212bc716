"""Layouts: what stands where in a random scene. Rooms, table tops, streets, clutter, studios."""

from collections.abc import Callable

import numpy as np

from .furniture import (
    BUSY,
    add_fence,
    add_flying_objects,
    add_furniture,
    add_small_objects,
    add_table,
    add_tree,
    materials,
)
from .raycast import BOX, CONE, CYLINDER, ELLIPSOID, HEIGHT_FIELD, LATTICE, NO_CUTOUT, RECTANGLE
from .scene import Scene, SceneBuilder, above, turn
from .textures import fractal_noise

CALM = ("plaster", "plaster", "gradient", "noise", "bricks", "wood", "stripes", "print")
FLOORS = ("wood", "wood", "bricks", "speckle", "plaster", "stripes", "noise", "marble")
GROUNDS = ("foliage", "speckle", "bricks", "noise", "dead_leaves")
WALLS = ("facade", "facade", "bricks", "wood", "plaster", "noise")


def _warmth(rng: np.random.Generator, spread: float = 0.12) -> np.ndarray:
    """Colour of a light: anything from lamp to overcast sky, mean 1."""
    shift = rng.normal(0, spread)
    return np.array([1 + shift, 1.0, 1 - shift])


def _surround(build: SceneBuilder, half: np.ndarray, styles: tuple[str, ...], wall: int) -> None:
    """Four walls, floor and ceiling around the origin; the floor is at z = 0.

    ``half`` holds half the width, half the depth and the height.
    """
    rng = build.rng
    floor = build.material(
        build.texture(str(rng.choice(FLOORS))),
        rng.uniform(0.8, 3.5),
        glossy=0.4,
        mirror=rng.uniform(0.03, 0.25) if rng.random() < 0.2 else 0.0,
    )
    other = materials(build, styles, 1, 2.5)
    ceiling = build.material(build.texture("plaster"), 3.0, glossy=0.0)
    x, y, height = half
    build.add(RECTANGLE, [0, 0, 0], (x, y, 1), floor)
    build.add(RECTANGLE, [0, 0, height], (x, y, 1), ceiling)
    # A little wider than the room, so that no ray slips through at the corners.
    width, depth, half_height = 1.01 * x, 1.01 * y, 0.51 * height
    for sign in (-1.0, 1.0):
        material = wall if rng.random() < 0.6 else other[0]
        build.wall(np.array([0, sign * y, height / 2]), [0, -sign, 0], width, half_height, wall)
        build.wall(np.array([sign * x, 0, height / 2]), [-sign, 0, 0], depth, half_height, material)
    if rng.random() < 0.6:
        skirting = materials(build, ("plaster", "wood"), 1, 1.0)[0]
        for sign in (-1.0, 1.0):
            build.add(BOX, [0, sign * y, 0.05], (x, 0.015, 0.06), skirting)
            build.add(BOX, [sign * x, 0, 0.05], (0.015, y, 0.06), skirting)


def _decorate_walls(build: SceneBuilder, half: np.ndarray) -> None:
    """Pictures, windows and doors, flat against the walls."""
    rng = build.rng
    frames = materials(build, ("wood", "plaster"), 1, 0.6)
    pictures = materials(build, BUSY, 3, 0.8)
    bright = build.material(
        build.texture("clouds"), 2.5, glossy=0.0, emission=rng.uniform(0.5, 1.5)
    )
    x, y, height = half
    for _ in range(int(rng.integers(2, 11))):
        side = int(rng.integers(0, 4))
        is_door = rng.random() < 0.2
        half_w = rng.uniform(0.15, 0.8)
        half_h = 1.0 if is_door else rng.uniform(0.15, 0.6)
        z = 1.0 if is_door else rng.uniform(1.1, height - half_h - 0.2)
        along = rng.uniform(-1, 1) * max((x if side < 2 else y) - half_w - 0.1, 0.0)
        sign = -1.0 if side % 2 else 1.0
        centre = np.array([along, sign * y, z] if side < 2 else [sign * x, along, z])
        facing = np.array([0, -sign, 0] if side < 2 else [-sign, 0, 0])
        inner = bright if rng.random() < 0.3 else int(rng.choice(pictures))
        axes = np.stack([np.cross([0, 0, -1.0], facing), [0, 0, -1.0], facing], axis=1)
        build.add(BOX, centre, (half_w + 0.05, half_h + 0.05, 0.02), frames[0], axes)
        build.add(BOX, centre, (half_w, half_h, 0.025), inner, axes)
        if inner == bright:
            build.add(BOX, centre, (0.02, half_h, 0.035), frames[0], axes)
            build.add(BOX, centre, (half_w, 0.02, 0.035), frames[0], axes)


def _room(build: SceneBuilder) -> Scene:
    """A room with furniture along its walls and objects on it."""
    rng = build.rng
    half = rng.uniform([1.8, 1.8, 2.3], [4.0, 4.5, 3.4])
    wall = build.material(
        build.texture(str(rng.choice(CALM))), rng.uniform(0.8, 3.0), glossy=0.1, upright=True
    )
    _surround(build, half, CALM, wall)
    _decorate_walls(build, half)
    if rng.random() < 0.6:
        rug = materials(build, BUSY, 1, 2.0)[0]
        place = np.append(rng.uniform(-0.4, 0.4, 2) * half[:2], 0.01)
        build.add(BOX, place, (*rng.uniform(0.6, 1.6, 2), 0.01), rug, turn(2, rng.normal(0, 0.3)))
    add_furniture(build, half, int(rng.integers(4, 11)))
    for _ in range(int(rng.integers(1, 3))):
        place = np.append(rng.uniform(-0.7, 0.7, 2) * half[:2], half[2] * rng.uniform(0.75, 0.97))
        build.lamp(place, rng.uniform(0.3, 1.0) * _warmth(rng), rng.uniform(2.0, 4.0))
    build.ambient = np.outer(rng.uniform(0.6, 1.6) * np.array([0.4, 0.28]), _warmth(rng))
    edge = half[:2] - 0.35
    eyes = [[*-edge, 0.7], [*edge, min(1.9, half[2] - 0.4)]]
    return build.build("room", eyes, [[*-0.8 * half[:2], 0.2], [*0.8 * half[:2], 1.6]])


def _tabletop(build: SceneBuilder) -> Scene:
    """Objects on a table, seen from near; a room around."""
    rng = build.rng
    half = rng.uniform([2, 2, 2.4], [5, 5, 4])
    wall = build.material(
        build.texture(str(rng.choice(CALM))), rng.uniform(1.0, 3.0), glossy=0.1, upright=True
    )
    _surround(build, half, CALM, wall)
    _decorate_walls(build, half)
    top = rng.uniform([0.4, 0.4, 0.6], [1.1, 0.8, 0.9])
    add_table(build, np.zeros(3), top, float(rng.uniform(-0.5, 0.5)))
    centre = np.array([0, 0, top[2]])
    add_small_objects(build, centre, 0.8 * top[:2], int(rng.integers(4, 20)), 1.0)
    build.lamp(rng.uniform([-2, -2, 2], [2, 2, 2.3]), rng.uniform(0.5, 1.1) * _warmth(rng), 2.0)
    build.ambient = np.outer([0.45, 0.3], _warmth(rng))
    angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.8, 1.6)
    eye = np.array([np.cos(angle) * distance, np.sin(angle) * distance, top[2] + 0.5])
    reach = np.array([0.3, 0.3, 0.4])
    return build.build("tabletop", [eye - reach, eye + reach], [centre - 0.2, centre + 0.25])


def _street(build: SceneBuilder) -> Scene:
    """House fronts with rows of windows behind a pavement; trees, fences, poles and boxes."""
    rng = build.rng
    ground = build.material(build.texture(str(rng.choice(GROUNDS))), rng.uniform(2, 6), glossy=0.05)
    build.add(RECTANGLE, [0, 20, 0], (60, 60, 1), ground)
    textures = [build.texture(str(style)) for style in rng.choice(WALLS, 3)]
    front, x = float(rng.uniform(6, 14)), -22.0
    while x < 22.0:
        half_width, height = rng.uniform(2.0, 6.0), rng.uniform(3.0, 12.0)
        wall = build.material(
            int(rng.choice(textures)), float(rng.uniform(4, 9)), glossy=0.1, upright=True
        )
        back = rng.uniform(0, 2.5)
        centre = np.array([x + half_width, front + back + 3, height / 2])
        build.add(BOX, centre, (half_width, 3, height / 2), wall, turn(2, rng.normal(0, 0.06)))
        _add_relief_windows(build, x + half_width, front + back, half_width, height)
        x += 2 * half_width + rng.choice([0.0, rng.uniform(0.5, 3)])
    things = materials(build, BUSY, 3, 1.5)
    for _ in range(int(rng.integers(3, 12))):
        size = rng.uniform([0.2, 0.2, 0.2], [1.0, 1.0, 0.8])
        place = np.append(rng.uniform([-7, 1.5], [7, front - 1]), size[2])
        kind = BOX if rng.random() < 0.7 else ELLIPSOID
        build.add(kind, place, size, int(rng.choice(things)), turn(2, rng.uniform(0, 3)))
    for _ in range(int(rng.integers(0, 4))):
        add_tree(build, np.append(rng.uniform([-8, 2], [8, front - 1]), 0.0))
    poles = materials(build, ("plaster", "wood"), 1, 1.0)
    for _ in range(int(rng.integers(0, 4))):
        foot = np.append(rng.uniform([-6, 1], [6, front]), 0.0)
        build.rod(foot, above(foot, rng.uniform(2, 6)), rng.uniform(0.03, 0.12), poles[0])
    if rng.random() < 0.5:
        add_fence(build, rng.uniform(2.5, front - 0.5))
    _daylight(build)
    return build.build("street", [[-4, -3.5, 1.0], [4, 0, 2.6]], [[-3, front, 0.8], [3, front, 3]])


def _add_relief_windows(
    build: SceneBuilder, x: float, y: float, half_width: float, height: float
) -> None:
    """Rows of equal frames and panes standing out from a front, on some houses."""
    rng = build.rng
    if rng.random() < 0.5:
        return
    frame, pane = (
        materials(build, ("plaster", "wood"), 1, 1.5)[0],
        materials(build, BUSY, 1, 3.0)[0],
    )
    columns, rows = int(rng.integers(2, 5)), int(max(height // 2.8, 1))
    for i in range(columns):
        for j in range(rows):
            place = np.array([x + half_width * ((2 * i + 1) / columns - 1), y, 1.6 + 2.7 * j])
            size = np.array([0.35 * half_width / columns, 0.12, 0.7])
            build.add(BOX, place, size * np.array([1.2, 1, 1.1]), frame)
            build.add(BOX, place - np.array([0, 0.02, 0]), size, pane)


def _daylight(build: SceneBuilder) -> None:
    """Sun, sky light and the dome of the sky."""
    rng = build.rng
    direction = np.array([rng.normal(0, 1), rng.normal(-0.5, 1), rng.uniform(0.4, 1.6)])
    strength = rng.choice([0.1, rng.uniform(0.5, 1.6)], p=[0.3, 0.7])
    build.sun(direction, strength * np.array([1.05, 1.0, 0.9]))
    build.ambient = np.outer(rng.uniform(0.7, 1.5) * np.array([0.55, 0.22]), [0.95, 1.0, 1.08])
    build.dome(np.array([0, 0, 0.0]), rng.uniform(80, 300), build.texture("clouds"))


def _relief(rng: np.random.Generator, cells: int, roughness: float) -> np.ndarray:
    """Heights in [-1, 1] on a 65-point grid."""
    field = fractal_noise(rng, 64, (cells, cells), roughness)
    return np.pad(2.0 * field - 1.0, ((0, 1), (0, 1)), mode="wrap").astype(np.float64)


def _landscape(build: SceneBuilder) -> Scene:
    """Hilly ground with rocks, trees and posts under the sky."""
    rng = build.rng
    textures = [build.texture(str(style)) for style in rng.choice(GROUNDS, 2)]
    ground = build.material(textures[0], rng.uniform(2, 6), stain=textures[1], glossy=0.0)
    rise = float(rng.uniform(0.3, 1.6))
    relief = _relief(rng, 4, rng.uniform(0.3, 0.5))
    build.add(HEIGHT_FIELD, [0, 12, 0], (16, 16, rise), ground, relief=relief)
    build.add(RECTANGLE, [0, 0, -0.8 * rise], (300, 300, 1), ground)
    hills = _relief(rng, 4, 0.5)
    build.add(HEIGHT_FIELD, [0, 45, 1], (60, 20, rng.uniform(2, 9)), ground, relief=hills)

    def on_ground(x: float, y: float) -> np.ndarray:
        i = int(np.clip(round((x + 16) / 0.5), 0, 64))
        j = int(np.clip(round((y + 4) / 0.5), 0, 64))
        return np.array([x, y, rise * relief[j, i]])

    rocks = materials(build, ("noise", "speckle", "marble"), 2, 1.5)
    for _ in range(int(rng.integers(4, 20))):
        size = rng.uniform(0.15, 0.9) * rng.uniform(0.6, 1.4, 3)
        place = on_ground(*rng.uniform([-6, 0], [6, 16]))
        _add_rock(build, place, size, int(rng.choice(rocks)))
    for _ in range(int(rng.integers(1, 8))):
        add_tree(build, on_ground(*rng.uniform([-8, 2], [8, 20])))
    posts = materials(build, ("wood",), 1, 1.0)[0]
    for _ in range(int(rng.integers(0, 8))):
        foot = on_ground(*rng.uniform([-4, 1], [4, 8]))
        lean = [*rng.normal(0, 0.15, 2), rng.uniform(0.7, 2)]
        build.rod(foot, foot + lean, rng.uniform(0.02, 0.08), posts)
    if rng.random() < 0.3:
        add_fence(build, rng.uniform(3, 8))
    _daylight(build)
    low, high = [-3, -4.0, rise + 0.5], [3, -0.5, rise + 2.2]
    return build.build("landscape", [low, high], [[-3, 6, 0], [3, 12, 1.5]])


def _add_rock(build: SceneBuilder, place: np.ndarray, size: np.ndarray, material: int) -> None:
    """A rough lump: a few ellipsoids grown together."""
    rng = build.rng
    for _ in range(int(rng.integers(1, 4))):
        offset = rng.normal(0, 0.35, 3) * size
        part = size * rng.uniform(0.5, 1.0, 3)
        build.add(ELLIPSOID, place + offset, part, material, turn(2, rng.uniform(0, 3)))


def _clutter(build: SceneBuilder) -> Scene:
    """Objects of all kinds floating in a box of walls."""
    rng = build.rng
    walls = materials(build, BUSY, 2, 4.0)
    half = rng.uniform([5, 6, 4], [10, 11, 8])
    for axis in range(3):
        for sign in (-1.0, 1.0):
            centre = np.zeros(3)
            centre[axis] = sign * half[axis]
            others = [(axis + 1) % 3, (axis + 2) % 3]
            axes = np.eye(3)[:, [*others, axis]]
            size = (*(1.01 * half[others]), 1.0)
            build.add(RECTANGLE, centre, size, int(rng.choice(walls)), axes)
    add_flying_objects(build, [-3.5, -2.5, -2.5], [3.5, 4.5, 2.5], int(rng.integers(10, 45)))
    build.lamp(rng.uniform([-3, -4, 2], [3, 0, 3.5]), rng.uniform(0.4, 1.2) * _warmth(rng), 5.0)
    build.ambient = np.outer([0.5, 0.35], _warmth(rng))
    return build.build("clutter", [[-2, -5.5, -2], [2, -4, 2]], [[-1, 0, -1], [1, 3, 1]])


def _planes(build: SceneBuilder) -> Scene:
    """A few large slanted walls, partly bare, with little before them: hard and common."""
    rng = build.rng
    styles = ("plaster", "plaster", *BUSY)
    back = materials(build, styles, 2, 4.0)
    build.wall(np.array([0, 9.0, 0]), [0.0, -1.0, 0.0], 60.0, 60.0, back[0])
    for _ in range(int(rng.integers(1, 5))):
        axes = turn(0, np.pi / 2 + rng.normal(0, 0.5)) @ turn(1, rng.normal(0, 0.6))
        centre = rng.uniform([-3, 1, -2], [3, 7, 2])
        has_openings = rng.random() < 0.25
        cutout = (LATTICE if has_openings else NO_CUTOUT, *rng.uniform(2, 9, 2), 0.4)
        material = int(rng.choice(back))
        build.add(RECTANGLE, centre, (*rng.uniform(0.7, 4, 2), 1), material, axes, cutout)
    floor = materials(build, FLOORS, 1, 3.0)[0]
    build.add(RECTANGLE, [0, 0, -rng.uniform(1.2, 2.5)], (60, 60, 1), floor)
    add_flying_objects(build, [-2, 0, -1], [2, 5, 1], int(rng.integers(0, 6)))
    build.sun(np.array([rng.normal(), -2.0, 1.5]), rng.uniform(0.2, 1.0) * _warmth(rng))
    build.ambient = np.outer([0.6, 0.45], _warmth(rng))
    return build.build("planes", [[-1.5, -4, -1], [1.5, -2, 1.5]], [[-1, 6, -1], [1, 9, 1]])


def _studio(build: SceneBuilder) -> Scene:
    """Objects grown together before one even colour, often black: nothing to match behind them."""
    rng = build.rng
    backdrop = build.material(build.texture("plain"), 4.0, glossy=0.0)
    build.wall(np.array([0, 4.0, 0]), [0.0, -1.0, 0.0], 40.0, 40.0, backdrop)
    if rng.random() < 0.5:
        build.add(RECTANGLE, [0, 0, -1.3], (40, 40, 1), backdrop)
    kinds = materials(build, BUSY, 2, 0.8)
    for _ in range(int(rng.integers(3, 10))):
        size = np.exp(rng.uniform(np.log(0.2), np.log(0.8), 3))
        place = rng.normal(0, [0.5, 0.4, 0.4])
        _add_rock(build, place, size, int(rng.choice(kinds)))
        kind = int(rng.choice([BOX, CYLINDER, CONE]))
        place = rng.normal(0, [0.5, 0.4, 0.4])
        build.add(kind, place, size, int(rng.choice(kinds)), turn(2, rng.uniform(0, 3)))
    if rng.random() < 0.5:
        add_flying_objects(build, [-1.2, -0.8, -1], [1.2, 0.8, 1], int(rng.integers(1, 8)))
    build.sun(np.array([rng.normal(), -2.0, 1.5]), rng.uniform(0.4, 1.2) * _warmth(rng))
    build.ambient = np.outer([0.5, 0.4], _warmth(rng))
    low, high = [-1.5, -4.0, -0.5], [1.5, -2.6, 1.0]
    return build.build("studio", [low, high], [[-0.3, -0.2, -0.3], [0.3, 0.2, 0.3]])


LAYOUTS: dict[str, Callable[[SceneBuilder], Scene]] = {
    "room": _room,
    "tabletop": _tabletop,
    "street": _street,
    "landscape": _landscape,
    "clutter": _clutter,
    "planes": _planes,
    "studio": _studio,
}
"""Makers of scenes by name."""

FREQUENCIES = {
    "room": 0.3,
    "tabletop": 0.15,
    "street": 0.2,
    "landscape": 0.1,
    "clutter": 0.15,
    "planes": 0.1,
    "studio": 0.12,
}
"""How often each layout is chosen, before those not asked for are left out."""


def sample_layout(rng: np.random.Generator, layouts: tuple[str, ...] = tuple(LAYOUTS)) -> str:
    """One of the layouts by their frequencies."""
    weights = np.array([FREQUENCIES[name] for name in layouts])
    return str(rng.choice(layouts, p=weights / weights.sum()))


def sample_scene(
    rng: np.random.Generator, layout: str | None = None, texture_size: int = 256
) -> Scene:
    """A random scene; ``layout`` names one of ``LAYOUTS``, by default any."""
    name = sample_layout(rng) if layout is None else layout
    return LAYOUTS[name](SceneBuilder(rng, texture_size))
