"""Many scenes as one set of tables: what rays of any of them are traced against, on any device."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64, UInt8
from torch import Tensor

from ..raycast import AXES, CUTOUT, HALF_SIZES, HEIGHT_FIELD, KIND, MATERIAL, RECTANGLE, RELIEF
from ..render import SKY_TEXTURE, STAIN, TEXTURE
from ..scene import Scene

BLOCK = 8
"""Cells along the side of the squares that a height field is taken apart into."""


@dataclass(frozen=True)
class SceneBatch:
    """Several scenes: their tables one after the other, numbers counted through all of them.

    A *part* is what a bundle of rays is compared with first: a box around one shape, or around one
    square of a height field.

    Attributes:
        to_local: Maps from the world, seen from a shape's centre, to its unit shape's frame.
        centres: Centres of the shapes, world units.
        axes: Axes of the shapes in the world, in columns.
        half_sizes: Half sizes of the shapes.
        cutouts: Kind of cut-out, repeats along x and y, share that stays solid; leaves are
            hashed from them, which takes all digits.
        kinds: Unit shapes, as in ``raycast``.
        shape_materials: Rows of ``materials``.
        shape_reliefs: Rows of ``relief_starts``, -1 without.
        part_boxes: High corner, then the negative of the low one.
        part_shapes: The shape of each part.
        part_cells: First column and row of a part of a height field.
        part_heights: Its least and greatest height in the unit frame.
        part_starts: First part of each scene, and the number of all.
        heights: Reliefs one after the other, row by row.
        relief_starts: First height of each relief.
        relief_sides: Grid points along the side of each relief.
        materials: Columns as in ``scene.MATERIAL_FIELDS``.
        texels: Mip pyramids, finest first; red, green, blue and nothing.
        lights: Columns as in ``scene.Appearance``; scenes with fewer are filled up with black.
        skies: As in ``scene.Appearance``.
    """

    to_local: Float32[Tensor, "shape 3 3"]
    centres: Float32[Tensor, "shape 3"]
    axes: Float32[Tensor, "shape 3 3"]
    half_sizes: Float32[Tensor, "shape 3"]
    cutouts: Float64[Tensor, "shape 4"]
    kinds: Int64[Tensor, " shape"]
    shape_materials: Int64[Tensor, " shape"]
    shape_reliefs: Int64[Tensor, " shape"]
    part_boxes: Float32[Tensor, "part 6"]
    part_shapes: Int64[Tensor, " part"]
    part_cells: Int64[Tensor, "part 2"]
    part_heights: Float32[Tensor, "part 2"]
    part_starts: Int64[Tensor, " scenes_and_one"]
    heights: Float32[Tensor, " height"]
    relief_starts: Int64[Tensor, " relief"]
    relief_sides: Int64[Tensor, " relief"]
    materials: Float32[Tensor, "material 17"]
    texels: UInt8[Tensor, "texture texel 4"]
    lights: Float32[Tensor, "scene light 8"]
    skies: Float32[Tensor, "scene 12"]

    def __len__(self) -> int:
        return len(self.skies)

    def to(self, device: torch.device) -> "SceneBatch":
        """The same on another device."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "SceneBatch":
        """The same in memory that a GPU reads by itself; data loaders call it by this name."""
        return self._mapped(Tensor.pin_memory)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> "SceneBatch":
        return SceneBatch(**{f.name: change(getattr(self, f.name)) for f in fields(self)})


def pack(scenes: Sequence[Scene]) -> SceneBatch:
    """Several scenes as one batch on the CPU.

    Raises:
        ValueError: without scenes, or for textures of different sizes.
    """
    if len({scene.appearance.texels.shape[1] for scene in scenes}) != 1:
        raise ValueError("Expected at least one scene, and textures of one size in all of them.")
    shapes = np.concatenate([scene.geometry.shapes for scene in scenes])
    starts = _starts([len(scene.geometry.shapes) for scene in scenes])
    materials = _starts([len(scene.appearance.materials) for scene in scenes])
    reliefs = _starts([len(scene.geometry.reliefs) for scene in scenes])
    scene_of = np.repeat(np.arange(len(scenes)), np.diff(starts))
    relief = shapes[:, RELIEF].astype(np.int64)
    heights = [grid for scene in scenes for grid in scene.geometry.reliefs]
    numbers = np.where(relief < 0, -1, relief + reliefs[scene_of])
    boxes, part_shapes, cells, ranges = _parts(shapes, numbers, heights)
    axes = shapes[:, AXES : AXES + 9].reshape(-1, 3, 3)
    half_sizes = shapes[:, HALF_SIZES : HALF_SIZES + 3]
    return SceneBatch(
        to_local=_floats(axes.transpose(0, 2, 1) / half_sizes[:, :, None]),
        centres=_floats(_centres(shapes)),
        axes=_floats(axes),
        half_sizes=_floats(half_sizes),
        cutouts=torch.from_numpy(np.ascontiguousarray(shapes[:, CUTOUT : CUTOUT + 4])),
        kinds=torch.from_numpy(shapes[:, KIND].astype(np.int64)),
        shape_materials=torch.from_numpy(
            shapes[:, MATERIAL].astype(np.int64) + materials[scene_of]
        ),
        shape_reliefs=torch.from_numpy(numbers),
        part_boxes=_floats(boxes),
        part_shapes=torch.from_numpy(part_shapes),
        part_cells=torch.from_numpy(cells),
        part_heights=_floats(ranges),
        part_starts=torch.from_numpy(np.searchsorted(part_shapes, starts)),
        heights=_floats(np.concatenate([grid.ravel() for grid in heights])),
        relief_starts=torch.from_numpy(_starts([grid.size for grid in heights])[:-1]),
        relief_sides=torch.tensor([len(grid) for grid in heights]),
        **_appearance(scenes),
    )


def _starts(counts: Sequence[int]) -> np.ndarray:
    """Where each of several lists begins when they are one after the other, and their end."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _floats(values: np.ndarray) -> Float32[Tensor, "..."]:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _centres(shapes: Float[np.ndarray, "shape 31"]) -> Float[np.ndarray, "shape 3"]:
    """What the maps to the shapes' frames take to the origin."""
    axes = shapes[:, AXES : AXES + 9].reshape(-1, 3, 3)
    half_sizes = shapes[:, HALF_SIZES : HALF_SIZES + 3]
    return -np.einsum("nij,nj->ni", axes, half_sizes * shapes[:, [3, 7, 11]])


def _parts(
    shapes: np.ndarray, reliefs: np.ndarray, heights: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Boxes (part, 6), shapes (part), first cells and heights (part, 2) of all parts, by shape."""
    low, high = np.full((len(shapes), 3), -1.0), np.full((len(shapes), 3), 1.0)
    flat = shapes[:, KIND] == RECTANGLE
    low[flat, 2] = high[flat, 2] = 0.0
    lows, highs, cells = [], [], []
    for n in range(len(shapes)):
        if shapes[n, KIND] == HEIGHT_FIELD:
            block = _blocks(heights[reliefs[n]])
        else:
            block = low[n : n + 1], high[n : n + 1], np.zeros((1, 2), np.int64)
        for one, parts in zip(block, (lows, highs, cells), strict=True):
            parts.append(one)
    owners = np.repeat(np.arange(len(shapes)), [len(block) for block in cells])
    low, high = np.concatenate(lows), np.concatenate(highs)
    half_sizes = shapes[owners, HALF_SIZES : HALF_SIZES + 3]
    axes = shapes[owners, AXES : AXES + 9].reshape(-1, 3, 3)
    middle = _centres(shapes)[owners] + np.einsum("nij,nj->ni", axes, half_sizes * (low + high) / 2)
    reach = np.einsum("nij,nj->ni", np.abs(axes), half_sizes * (high - low) / 2)
    # Room for the rounding of single precision.
    reach += 1e-5 + 1e-6 * np.abs(middle)
    boxes = np.hstack([middle + reach, reach - middle])
    return boxes, owners, np.concatenate(cells), np.stack([low[:, 2], high[:, 2]], axis=1)


def _blocks(heights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Low and high corners in the unit frame, and first cells, of the squares of a relief."""
    cells = len(heights) - 1
    firsts = [(i, j) for j in range(0, cells, BLOCK) for i in range(0, cells, BLOCK)]
    low, high = np.empty((len(firsts), 3)), np.empty((len(firsts), 3))
    for n, (i, j) in enumerate(firsts):
        end_i, end_j = min(i + BLOCK, cells), min(j + BLOCK, cells)
        part = heights[j : end_j + 1, i : end_i + 1]
        low[n] = 2 * i / cells - 1, 2 * j / cells - 1, part.min()
        high[n] = 2 * end_i / cells - 1, 2 * end_j / cells - 1, part.max()
    return low, high, np.array(firsts, dtype=np.int64)


def _appearance(scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """The tables of materials, textures, lights and skies."""
    looks = [scene.appearance for scene in scenes]
    first_texture = _starts([len(look.texels) for look in looks])
    materials = np.concatenate([look.materials for look in looks])
    shift = np.repeat(first_texture[:-1], [len(look.materials) for look in looks])
    materials[:, TEXTURE] += shift
    materials[:, STAIN] = np.where(materials[:, STAIN] < 0, 0, materials[:, STAIN] + shift)
    skies = np.stack([look.sky for look in looks])
    skies[:, SKY_TEXTURE] += first_texture[:-1]
    lights = np.zeros((len(looks), max(len(look.lights) for look in looks), 8))
    for n, look in enumerate(looks):
        lights[n, : len(look.lights)] = look.lights
    texels = np.concatenate([look.texels for look in looks])
    return {
        "materials": _floats(materials),
        "texels": torch.from_numpy(texels.view(np.uint8).reshape(*texels.shape, 4)),
        "lights": _floats(lights),
        "skies": _floats(skies),
    }
