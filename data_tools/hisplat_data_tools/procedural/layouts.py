"""Layouts: what stands where in a random scene."""

from collections.abc import Callable

import numpy as np

from .raycast import BOX, CONE, CYLINDER, ELLIPSOID
from .scene import Scene, SceneBuilder, random_rotation, turn

SOLIDS = (BOX, ELLIPSOID, CYLINDER, CONE)
BUSY = ("noise", "marble", "wood", "bricks", "stripes", "dead_leaves", "print", "speckle")


def _materials(build: SceneBuilder, styles: tuple[str, ...], count: int, size: float) -> list[int]:
    """Materials of several textures each, in several sizes."""
    textures = [build.texture(str(build.rng.choice(styles))) for _ in range(count)]
    return [
        build.material(
            int(build.rng.choice(textures)),
            size * float(build.rng.uniform(0.4, 2.0)),
            stain=int(build.rng.choice(textures)),
            tint=tuple(build.rng.uniform(0.6, 1.1, 3) if build.rng.random() < 0.3 else np.ones(3)),
        )
        for _ in range(2 * count)
    ]


def _clutter(build: SceneBuilder) -> Scene:
    """Objects of all kinds floating before a large box of walls."""
    rng = build.rng
    walls = _materials(build, BUSY, 3, 4.0)
    build.add(BOX, np.zeros(3), tuple(rng.uniform(6, 12, 3)), int(rng.choice(walls)))
    solids = _materials(build, BUSY, 5, 1.0)
    for _ in range(int(rng.integers(10, 50))):
        centre = rng.uniform([-4, -3, -3], [4, 5, 3])
        half_sizes = np.exp(rng.uniform(np.log(0.1), np.log(1.0), 3))
        material = int(rng.choice(solids))
        build.add(int(rng.choice(SOLIDS)), centre, half_sizes, material, random_rotation(rng))
    build.lamp(rng.uniform([-4, -6, 3], [4, 0, 5]), rng.uniform(0.6, 1.2, 3), 5.0)
    build.ambient = np.outer([0.5, 0.35], rng.uniform(0.8, 1.1, 3))
    return build.build("clutter", [[-2, -6, -2], [2, -4.5, 2]], [[-1, 0, -1], [1, 3, 1]])


LAYOUTS: dict[str, Callable[[SceneBuilder], Scene]] = {"clutter": _clutter}
"""Makers of scenes by name."""


def sample_scene(
    rng: np.random.Generator, layout: str | None = None, texture_size: int = 256
) -> Scene:
    """A random scene; ``layout`` names one of ``LAYOUTS``, by default any."""
    name = str(rng.choice(list(LAYOUTS))) if layout is None else layout
    return LAYOUTS[name](SceneBuilder(rng, texture_size))


_ = turn
