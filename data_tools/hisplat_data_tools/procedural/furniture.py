"""Things that stand in scenes, put together from a few shapes each."""

import numpy as np

from .raycast import (
    BARS,
    BOX,
    CONE,
    CYLINDER,
    ELLIPSOID,
    HEIGHT_FIELD,
    HOLES,
    LATTICE,
    LEAVES,
    NO_CUTOUT,
    RECTANGLE,
)
from .scene import SceneBuilder, Triple, above, random_rotation, turn
from .textures import fractal_noise

SOLIDS = (BOX, BOX, ELLIPSOID, CYLINDER, CONE)
BUSY = ("noise", "marble", "wood", "bricks", "stripes", "dead_leaves", "print", "speckle")
COVERS = ("noise", "wood", "plaster", "stripes", "dead_leaves", "print", "marble", "gradient")


def materials(
    build: SceneBuilder, styles: tuple[str, ...], textures: int, size: float
) -> list[int]:
    """Two materials for each of several new textures, that repeat about every ``size`` metres."""
    rng = build.rng
    numbers = [build.texture(str(style)) for style in rng.choice(styles, textures)]
    made = []
    for number in numbers * 2:
        is_tinted = rng.random() < 0.4
        tint = rng.uniform(0.45, 1.0) * rng.uniform(0.8, 1.1, 3) if is_tinted else np.ones(3)
        made.append(
            build.material(
                number,
                size * float(rng.uniform(0.5, 1.6)),
                stain=int(rng.choice(numbers)),
                tint=(float(tint[0]), float(tint[1]), float(tint[2])),
            )
        )
    return made


def add_table(build: SceneBuilder, foot: np.ndarray, size: np.ndarray, angle: float) -> None:
    """A table; ``size`` holds half its width, half its depth and its height."""
    rng = build.rng
    wood = materials(build, ("wood", "wood", "plaster", "speckle", "stripes"), 1, 1.0)
    axes = turn(2, angle)
    x, y, height = size
    thickness = rng.uniform(0.015, 0.04)
    build.add(BOX, above(foot, height - thickness), (x, y, thickness), wood[0], axes)
    leg = rng.uniform(0.015, 0.05)
    for sx in (-1, 1):
        for sy in (-1, 1):
            corner = axes @ np.array([sx * (x - 2 * leg), sy * (y - 2 * leg), 0])
            centre = foot + above(corner, height / 2 - thickness)
            build.add(BOX, centre, (leg, leg, height / 2 - thickness), wood[1], axes)


def add_shelf(build: SceneBuilder, foot: np.ndarray, size: np.ndarray, angle: float) -> None:
    """An open shelf full of books and boxes."""
    rng = build.rng
    wood = materials(build, ("wood", "plaster"), 1, 1.2)
    books = materials(build, COVERS, 2, 0.4)
    axes = turn(2, angle)
    x, y, height = size
    build.add(BOX, foot + axes @ [0, y, height / 2], (x, 0.01, height / 2), wood[1], axes)
    for sign in (-1, 1):
        build.add(
            BOX, foot + axes @ [sign * x, 0, height / 2], (0.015, y, height / 2), wood[0], axes
        )
    levels = int(max(height // 0.4, 1))
    for level in range(levels + 1):
        z = height * level / levels
        build.add(BOX, foot + axes @ [0, 0, z], (x, y, 0.012), wood[0], axes)
        place = -x + 0.03
        while level < levels and place < x - 0.1 and rng.random() > 0.08:
            half_w, half_h = rng.uniform(0.015, 0.07), rng.uniform(0.08, 0.16)
            centre = [place + half_w, rng.uniform(-0.3, 0.1) * y, z + 0.012 + half_h]
            lean = turn(1, rng.choice([0.0, rng.normal(0, 0.1)]))
            build.add(
                BOX,
                foot + axes @ centre,
                (half_w, 0.7 * y, half_h),
                int(rng.choice(books)),
                axes @ lean,
            )
            place += 2 * half_w + rng.choice([0.002, rng.uniform(0, 0.15)])


def add_seat(build: SceneBuilder, foot: np.ndarray, size: np.ndarray, angle: float) -> None:
    """A chair or a sofa, by its width."""
    cloth = materials(build, COVERS, 1, 0.8)
    axes = turn(2, angle)
    x, y, seat = size[0], min(size[1], 0.45), 0.42
    if x < 0.35:
        for sx in (-1, 1):
            for sy in (-1, 1):
                leg = foot + axes @ [sx * (x - 0.02), sy * (y - 0.02), 0]
                top = seat if sy < 0 else 2.1 * seat
                build.rod(leg, above(leg, top), 0.018, cloth[1])
        build.add(BOX, above(foot, seat), (x, y, 0.025), cloth[0], axes)
        for z in (1.4, 1.7, 2.0):
            build.add(BOX, foot + axes @ [0, y - 0.02, z * seat], (x, 0.012, 0.03), cloth[0], axes)
        return
    build.add(BOX, above(foot, seat / 2), (x, y, seat / 2), cloth[0], axes)
    build.add(BOX, foot + axes @ [0, y - 0.1, seat], (x, 0.12, seat), cloth[0], axes)
    for sign in (-1, 1):
        build.add(
            CYLINDER,
            foot + axes @ [sign * x, 0, 0.55],
            (0.1, 0.1, y),
            cloth[0],
            axes @ turn(0, 1.57),
        )
        cushion = foot + axes @ [sign * x * 0.5, y - 0.3, seat + 0.18]
        build.add(ELLIPSOID, cushion, (0.22, 0.1, 0.2), cloth[1], axes @ turn(0, -0.3))


def add_cupboard(build: SceneBuilder, foot: np.ndarray, size: np.ndarray, angle: float) -> None:
    """A closed box with doors and knobs, things on top."""
    rng = build.rng
    wood = materials(build, ("wood", "plaster", "stripes"), 1, 1.5)
    axes = turn(2, angle)
    x, y, height = size
    build.add(BOX, above(foot, height / 2), (x, y, height / 2), wood[0], axes)
    doors = int(rng.integers(1, 4))
    for n in range(doors):
        middle = x * ((2 * n + 1) / doors - 1)
        centre = foot + axes @ [middle, -y, height / 2]
        build.add(BOX, centre, (x / doors - 0.02, 0.012, height / 2 - 0.04), wood[1], axes)
        knob = foot + axes @ [middle + 0.6 * x / doors, -y - 0.03, height / 2]
        build.add(ELLIPSOID, knob, (0.02, 0.02, 0.02), wood[0])
    top = above(foot, height)
    add_small_objects(build, top, 0.7 * np.array([x, y]), int(rng.integers(0, 5)), 1.0)


def add_lamp(build: SceneBuilder, foot: np.ndarray, size: np.ndarray, angle: float) -> None:
    """A standing lamp with a shade."""
    del angle
    stem = materials(build, ("plaster",), 1, 1.0)
    shade = build.material(build.texture("stripes"), 0.6, emission=build.rng.uniform(0, 0.8))
    height = min(size[2] + 0.6, 1.8)
    build.rod(foot, above(foot, height), 0.015, stem[0])
    build.add(CYLINDER, above(foot, 0.02), (0.16, 0.16, 0.02), stem[1])
    build.add(CONE, above(foot, height), (0.4, 0.4, 0.3), shade)


def add_plant(build: SceneBuilder, foot: np.ndarray, size: np.ndarray, angle: float) -> None:
    """A pot with leaves on crossed cut-out sheets."""
    rng = build.rng
    pot = materials(build, ("plaster", "noise", "stripes"), 1, 0.5)[0]
    green = build.material(build.texture("foliage"), 0.7)
    radius = rng.uniform(0.1, 0.22)
    build.add(CYLINDER, above(foot, radius), (radius, radius, radius), pot)
    height = rng.uniform(0.3, 0.8)
    add_leaves(build, above(foot, 2 * radius + height), (0.3, 0.3, height), green, angle)


def add_leaves(
    build: SceneBuilder,
    centre: np.ndarray,
    half: tuple[float, float, float],
    material: int,
    angle: float,
) -> None:
    """Three upright sheets and a flat one, cut to leaves, crossing each other."""
    rng = build.rng
    repeats = rng.uniform(4, 9)
    cutout = (LEAVES, repeats, repeats * half[2] / half[0], rng.uniform(0.25, 0.6))
    for n in range(3):
        direction = angle + n * np.pi / 3
        facing = np.array([np.cos(direction), np.sin(direction), 0])
        build.wall(centre, facing, half[0], half[2], material, cutout)
    flat = (LEAVES, repeats, repeats, 0.4)
    build.add(RECTANGLE, centre, (half[0], half[1], 1), material, turn(0, 0.3), flat)


PIECES = (add_shelf, add_seat, add_seat, add_cupboard, add_cupboard, add_lamp, add_plant)


def add_furniture(build: SceneBuilder, half: np.ndarray, count: int) -> None:
    """Pieces of furniture along the walls of a room, some in its middle.

    ``half`` holds half the room's width, half its depth and its height.
    """
    rng = build.rng
    for _ in range(count):
        size = rng.uniform([0.2, 0.18, 0.5], [0.9, 0.4, min(2.0, half[2] - 0.3)])
        side = int(rng.integers(0, 4))
        # Fronts look along -y before they are turned; backs stand against the wall.
        angle = (0.0, np.pi, -np.pi / 2, np.pi / 2)[side]
        normal = turn(2, angle) @ np.array([0, 1.0, 0])
        wall = half[1] if side < 2 else half[0]
        room = (half[0] if side < 2 else half[1]) - size[0]
        along = turn(2, angle) @ np.array([1.0, 0, 0])
        foot = normal * (wall - size[1] - 0.03) + along * rng.uniform(-1, 1) * max(room, 0)
        if rng.random() < 0.25:
            foot, angle = foot * 0.4, angle + rng.normal(0, 0.5)
            top = np.array([*rng.uniform(0.35, 0.8, 2), rng.uniform(0.4, 0.8)])
            add_table(build, foot, top, angle)
            place = above(foot, top[2])
            add_small_objects(build, place, 0.7 * top[:2], int(rng.integers(1, 8)), 1.0)
            continue
        piece = PIECES[int(rng.integers(0, len(PIECES)))]
        piece(build, foot, size, angle)


def add_small_objects(
    build: SceneBuilder, centre: np.ndarray, half: np.ndarray, count: int, scale: float
) -> None:
    """Objects the size of a hand, standing on a horizontal surface around ``centre``."""
    rng = build.rng
    if count == 0:
        return
    kinds = materials(build, BUSY, int(min(1 + count // 3, 4)), 0.25 * scale)
    for _ in range(count):
        place = centre + np.append(rng.uniform(-1, 1, 2) * half, 0)
        size = scale * np.exp(rng.uniform(np.log([0.03, 0.03, 0.03]), np.log([0.13, 0.13, 0.2])))
        material, angle = int(rng.choice(kinds)), rng.uniform(0, np.pi)
        style = rng.random()
        if style < 0.45:
            build.add(BOX, above(place, size[2]), size, material, turn(2, angle))
        elif style < 0.6:
            build.add(ELLIPSOID, above(place, size[2]), size, material, turn(2, angle))
        elif style < 0.8:
            _add_bottle(build, place, size, material)
        elif style < 0.9:
            for n in range(int(rng.integers(2, 7))):
                flat = np.array([size[0] + 0.03, size[1] + 0.03, 0.018]) * scale
                axes = turn(2, angle + rng.normal(0, 0.2))
                book = int(rng.choice(kinds))
                build.add(BOX, above(place, 0.036 * scale * (n + 0.5)), flat, book, axes)
        else:
            _add_blob(build, place, 1.3 * size, material)


def _add_bottle(build: SceneBuilder, place: np.ndarray, size: np.ndarray, material: int) -> None:
    radius, height = size[0], 1.4 * size[2]
    build.add(CYLINDER, above(place, height / 2), (radius, radius, height / 2), material)
    if build.rng.random() < 0.6:
        build.add(CONE, above(place, 1.25 * height), (radius, radius, height / 4), material)
        neck = above(place, 1.3 * height)
        build.add(CYLINDER, neck, (0.3 * radius, 0.3 * radius, 0.15 * height), material)


def _add_blob(build: SceneBuilder, place: np.ndarray, size: np.ndarray, material: int) -> None:
    """A free form: a bump of relief rising from the surface."""
    field = 2 * fractal_noise(build.rng, 32, (4, 4), 0.4) - 0.6
    relief = np.pad(field, ((0, 1), (0, 1)), mode="wrap").astype(np.float64)
    ramp = np.linspace(-1, 1, 33)
    round_off = np.clip(1.4 - 1.4 * np.hypot(*np.meshgrid(ramp, ramp)), 0, 1)
    # All reliefs of a scene share one grid size.
    fine = np.clip((relief * 0.5 + 0.5) * round_off * 2 - 1, -1, 1)
    relief = np.kron(fine, np.ones((2, 2)))[:65, :65]
    build.add(HEIGHT_FIELD, above(place, size[2]), size, material, relief=relief)


def add_flying_objects(build: SceneBuilder, low: Triple, high: Triple, count: int) -> None:
    """Solids, thin rods and perforated sheets in any pose, anywhere in a box."""
    rng = build.rng
    kinds = materials(build, BUSY, 4, 1.0)
    for _ in range(count):
        centre, material = rng.uniform(low, high), int(rng.choice(kinds))
        size = np.exp(rng.uniform(np.log(0.1), np.log(0.9), 3))
        style = rng.random()
        if style < 0.72:
            build.add(int(rng.choice(SOLIDS)), centre, size, material, random_rotation(rng))
        elif style < 0.86:
            direction = rng.normal(size=3)
            direction *= rng.uniform(0.6, 2.5) / np.linalg.norm(direction)
            build.rod(centre - direction, centre + direction, rng.uniform(0.01, 0.06), material)
        else:
            kind = int(rng.choice([NO_CUTOUT, BARS, LATTICE, HOLES]))
            cutout = (kind, *np.floor(rng.uniform(2, 10, 2)), rng.uniform(0.2, 0.6))
            build.add(
                RECTANGLE, centre, (*(2 * size[:2]), 1), material, random_rotation(rng), cutout
            )


def add_fence(build: SceneBuilder, distance: float) -> None:
    """A fence of slats, wire or rails across the view, on posts."""
    rng = build.rng
    wood = materials(build, ("wood", "plaster", "noise"), 1, 1.0)
    height, left = rng.uniform(0.8, 1.6), rng.uniform(-7, -3)
    width = rng.uniform(4, 10)
    centre = np.array([left + width / 2, distance, height / 2])
    kind = int(rng.choice([BARS, BARS, LATTICE]))
    repeats = np.floor(width / rng.uniform(0.15, 0.5))
    solid = rng.uniform(0.3, 0.7) if kind == BARS else rng.uniform(0.1, 0.3)
    cutout = (kind, repeats, np.floor(height / 0.25), solid)
    build.wall(centre, [rng.normal(0, 0.2), -1.0, 0.0], width / 2, height / 2, wood[0], cutout)
    for x in np.linspace(left, left + width, 5):
        build.rod([x, distance, 0], [x, distance, 1.1 * height], 0.05, wood[1])


def add_tree(build: SceneBuilder, foot: np.ndarray) -> None:
    """A trunk with a crown of leaves, round or pointed."""
    rng = build.rng
    bark = build.material(build.texture("wood"), 0.8, glossy=0.0)
    green = build.material(build.texture("foliage"), rng.uniform(0.8, 2), glossy=0.0)
    height, radius = rng.uniform(1.2, 3.5), rng.uniform(0.5, 1.4)
    lean = np.array([*rng.normal(0, 0.1, 2), height])
    build.rod(above(foot, -0.3), foot + lean, rng.uniform(0.06, 0.2), bark)
    crown = foot + lean
    style = rng.random()
    if style < 0.3:
        build.add(CONE, above(crown, radius), (radius, radius, 1.5 * radius), green)
    elif style < 0.6:
        for _ in range(int(rng.integers(1, 5))):
            offset = rng.normal(0, 0.4 * radius, 3)
            build.add(ELLIPSOID, crown + offset, radius * rng.uniform(0.5, 1, 3), green)
    else:
        add_leaves(build, crown, (radius, radius, radius), green, rng.uniform(0, 3))
