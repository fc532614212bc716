"""A scene as data: shapes, materials, lights; and the builder that layouts fill it with."""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, UInt32

from .raycast import CYLINDER, NO_CUTOUT, RECTANGLE, Geometry, build_tree
from .textures import make_texture, pyramid

Vector = Float64[np.ndarray, "3"]
Rotation = Float64[np.ndarray, "3 3"]
Triple = np.ndarray | tuple[Any, ...] | list[Any]
"""Three numbers, however written."""
Cutout = tuple[float | int, ...]
"""Kind of cut-out, repeats along x and y, share that stays solid."""

MATERIAL_FIELDS = (
    "texture",
    "repeats_u",
    "repeats_v",
    "cosine",
    "sine",
    "offset_u",
    "offset_v",
    "stain",
    "stain_repeats",
    "stain_strength",
    "specular",
    "gloss",
    "mirror",
    "emission",
    "tint_r",
    "tint_g",
    "tint_b",
)
"""Columns of the material table. Repeats are per world unit; the stain is a second texture that
modulates the first; specular and mirror are shares of the light, gloss an exponent."""


REUSE = 0.6
"""Probability that a texture is taken from those of its style already in the scene."""


class Appearance(NamedTuple):
    """How the shapes of a scene look, as compiled code takes it.

    Attributes:
        materials: One row per material, columns as in ``MATERIAL_FIELDS``.
        texels: Mip pyramids of all textures.
        lights: Kind (0 sun, 1 lamp), direction towards the sun or place of the lamp, colour, and
            the distance at which a lamp has that strength.
        sky: Light from above and from below (+z is up), three colours each; then centre and radius
            of the sphere that closes the scene, its texture, and that texture's repeats.
    """

    materials: Float64[np.ndarray, "material 17"]
    texels: UInt32[np.ndarray, "texture texel"]
    lights: Float64[np.ndarray, "light 8"]
    sky: Float64[np.ndarray, "12"]


@dataclass(frozen=True)
class Scene:
    """Everything that a picture of the scene depends on, and where to take pictures from.

    Lengths are in metres or so, +z is up.

    Attributes:
        layout: Name of the layout that made it.
        geometry: The shapes.
        appearance: Materials, textures and lights.
        eyes: Low and high corner of the box where cameras may stand.
        focus: Low and high corner of the box that they look at.
    """

    layout: str
    geometry: Geometry
    appearance: Appearance
    eyes: Float64[np.ndarray, "2 3"]
    focus: Float64[np.ndarray, "2 3"]


def turn(axis: int, radians: float) -> Rotation:
    """Rotation about x (0), y (1) or z (2)."""
    cosine, sine = math.cos(radians), math.sin(radians)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    rotation = np.eye(3)
    rotation[i, i] = rotation[j, j] = cosine
    rotation[i, j], rotation[j, i] = -sine, sine
    return rotation


def above(point: Vector, height: float) -> Vector:
    """The point that much higher up."""
    return point + np.array([0.0, 0.0, height])


def random_rotation(rng: np.random.Generator, largest_radians: float = math.pi) -> Rotation:
    """Rotation about a random axis by up to ``largest_radians``."""
    axis = rng.standard_normal(3)
    axis /= np.linalg.norm(axis)
    return rotation_about(axis, rng.uniform(-1, 1) * largest_radians)


def rotation_about(axis: Vector, radians: float) -> Rotation:
    """Rotation about a unit vector (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(radians) * cross + (1 - math.cos(radians)) * cross @ cross


@dataclass
class SceneBuilder:
    """Collects shapes, materials and lights, then makes arrays of them.

    Attributes:
        rng: Source of all choices.
        texture_size: Side of the textures, a power of two.
    """

    rng: np.random.Generator
    texture_size: int = 256
    _kinds: list[int] = field(default_factory=list)
    _centres: list[Vector] = field(default_factory=list)
    _axes: list[Rotation] = field(default_factory=list)
    _half_sizes: list[Vector] = field(default_factory=list)
    _materials: list[int] = field(default_factory=list)
    _cutouts: list[Cutout] = field(default_factory=list)
    _reliefs: list[int] = field(default_factory=list)
    _heights: list[np.ndarray] = field(default_factory=list)
    _rows: list[list[float]] = field(default_factory=list)
    _texels: list[np.ndarray] = field(default_factory=list)
    _styles: dict[str, list[int]] = field(default_factory=dict)
    _lights: list[list[float]] = field(default_factory=list)
    ambient: np.ndarray = field(default_factory=lambda: np.full((2, 3), 0.4))
    _dome: np.ndarray | None = None

    def texture(self, style: str) -> int:
        """The number of a texture of that style: often one that the scene already has."""
        known = self._styles.setdefault(style, [])
        # Things in one place resemble each other, and textures take time to make.
        if known and self.rng.random() < REUSE:
            return int(self.rng.choice(known))
        self._texels.append(pyramid(make_texture(self.rng, style, self.texture_size)))
        known.append(len(self._texels) - 1)
        return known[-1]

    def material(
        self,
        texture: int,
        repeat_size: float,
        stain: int | None = None,
        glossy: float = 0.15,
        upright: bool = False,
        tint: tuple[float, float, float] = (1.0, 1.0, 1.0),
        emission: float = 0.0,
        mirror: float = 0.0,
    ) -> int:
        """Adds a material whose texture repeats every ``repeat_size`` metres; gives its number.

        ``glossy`` is the probability of highlights; ``upright`` keeps the texture's axes.
        """
        rng = self.rng
        angle = 0.0 if upright else rng.choice([0.0, math.pi / 2, rng.uniform(0, 2 * math.pi)])
        shiny = rng.random() < glossy
        stain_strength = rng.choice([0.0, rng.uniform(0.1, 0.7)]) if stain is not None else 0.0
        self._rows.append(
            [
                texture,
                1 / repeat_size,
                1 / repeat_size,
                math.cos(angle),
                math.sin(angle),
                rng.random(),
                rng.random(),
                -1 if stain is None else stain,
                rng.uniform(0.15, 0.45) / repeat_size,
                stain_strength,
                rng.uniform(0.05, 0.4) if shiny else 0.0,
                rng.uniform(10, 120),
                mirror,
                emission,
                *tint,
            ]
        )
        return len(self._rows) - 1

    def add(
        self,
        kind: int,
        centre: Triple,
        half_sizes: Triple,
        material: int,
        axes: Rotation | None = None,
        cutout: Cutout = (NO_CUTOUT, 1, 1, 1),
        relief: np.ndarray | None = None,
    ) -> None:
        """Adds one shape; a height field brings its relief (square grid, values in [-1, 1])."""
        self._kinds.append(kind)
        self._centres.append(np.asarray(centre, dtype=np.float64))
        self._axes.append(np.eye(3) if axes is None else axes)
        self._half_sizes.append(np.asarray(half_sizes, dtype=np.float64))
        self._materials.append(material)
        self._cutouts.append(cutout)
        self._reliefs.append(-1 if relief is None else len(self._heights))
        if relief is not None:
            self._heights.append(relief)

    def rod(self, start: Triple, end: Triple, radius: float, material: int) -> None:
        """Adds a cylinder between two points."""
        start, end = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
        along = end - start
        length = float(np.linalg.norm(along))
        z = along / length
        x = np.cross(z, [1.0, 0.0, 0.0] if abs(z[0]) < 0.9 else [0.0, 1.0, 0.0])
        x /= np.linalg.norm(x)
        axes = np.stack([x, np.cross(z, x), z], axis=1)
        self.add(CYLINDER, (start + end) / 2, (radius, radius, length / 2), material, axes)

    def wall(
        self,
        centre: Triple,
        facing: Triple,
        half_width: float,
        half_height: float,
        material: int,
        cutout: Cutout = (NO_CUTOUT, 1, 1, 1),
    ) -> None:
        """Adds an upright rectangle whose front looks along the horizontal vector ``facing``."""
        z = np.asarray(facing, dtype=np.float64) / np.linalg.norm(facing)
        y = np.array([0.0, 0.0, -1.0])
        axes = np.stack([np.cross(y, z), y, z], axis=1)
        self.add(RECTANGLE, centre, (half_width, half_height, 1.0), material, axes, cutout)

    def sun(self, direction: Triple, colour: Triple) -> None:
        """Adds a directional light shining from ``direction``."""
        unit = np.asarray(direction) / np.linalg.norm(direction)
        self._lights.append([0.0, *unit, *colour, 1.0])

    def lamp(self, place: Triple, colour: Triple, reach: float) -> None:
        """Adds a point light that has strength ``colour`` at the distance ``reach``."""
        self._lights.append([1.0, *place, *colour, reach])

    def dome(self, centre: Triple, radius: float, texture: int) -> None:
        """Closes the scene with a distant sphere, the sky."""
        repeats = float(self.rng.integers(1, 4))
        self._dome = np.array([*centre, radius, texture, repeats])

    def build(self, layout: str, eyes: Triple, focus: Triple) -> Scene:
        """The finished scene."""
        if self._dome is None:
            self.dome(np.zeros(3), 60.0, self.texture("clouds"))
        assert self._dome is not None
        appearance = Appearance(
            materials=np.array(self._rows, dtype=np.float64),
            texels=np.stack(self._texels),
            lights=np.array(self._lights, dtype=np.float64).reshape(-1, 8),
            sky=np.concatenate([self.ambient.ravel(), self._dome]).astype(np.float64),
        )
        eyes, focus = np.asarray(eyes, np.float64), np.asarray(focus, np.float64)
        return Scene(layout, self._geometry(), appearance, eyes, focus)

    def _geometry(self) -> Geometry:
        centres, axes = np.stack(self._centres), np.stack(self._axes)
        half_sizes = np.stack(self._half_sizes)
        linear = axes.transpose(0, 2, 1) / half_sizes[:, :, None]
        to_local = np.concatenate([linear, -linear @ centres[:, :, None]], axis=2)
        kinds = np.array(self._kinds)
        reach = half_sizes.copy()
        reach[kinds == RECTANGLE, 2] = 0.0
        extent = (np.abs(axes) @ reach[:, :, None])[:, :, 0] + 1e-6
        nodes, order = build_tree(centres - extent, centres + extent)
        shapes = np.concatenate(
            [
                to_local.reshape(-1, 12),
                axes.reshape(-1, 9),
                half_sizes,
                np.array(self._cutouts),
                np.stack([kinds, self._materials, self._reliefs], axis=1),
            ],
            axis=1,
        )
        reliefs = np.stack(self._heights) if self._heights else np.zeros((1, 2, 2))
        return Geometry(np.ascontiguousarray(shapes[order]), nodes, reliefs)
