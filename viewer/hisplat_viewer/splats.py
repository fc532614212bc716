"""From a scene's levels to the splats that a browser can draw.

The browser stores covariances as float16, sorts 16-bit depths and drops splats much smaller than a
screen pixel. So what is drawn is kept within a sphere and given the width that a renderer at the
photos' resolution would draw.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8, UInt32
from torch import Tensor

from hisplat_models.gaussians import Gaussians

from .scene import DisplayFrame, Scene

RADIUS = 100.0
"""Display units from the first view within which everything is drawn."""
SMALLEST_SIGMA = 5e-4
"""Display units; float16 covariances lose anything much smaller."""
FOOTPRINT_PX = 0.6
"""Standard deviation of a photo pixel's footprint, which every Gaussian is widened by."""
POINT_PX = 0.3
"""Standard deviation of a Gaussian drawn as a point, pixels of the photo."""
FOCAL_WITHOUT_PHOTOS_PX = 800.0
"""A usual screen's, for scenes that were made elsewhere."""
LEAST_OPACITY = 0.01
"""The browser draws nothing fainter."""
BUFFER_MULTIPLE = 4
"""The browser's depth sort takes splats in groups of this size."""
ROW_WORDS = 8
"""Of 32 bits: centre (3 floats), one unused, covariance (6 half floats), RGBA (4 bytes)."""
UPPER_TRIANGLE, DIAGONAL = (0, 1, 2, 4, 5, 8), (0, 3, 5)
"""Where it is in a 3x3 matrix, and where the diagonal is in it."""


@dataclass(frozen=True)
class LevelSplats:
    """All that a browser could be shown of one level, made once; filters choose from it.

    Attributes:
        world: The Gaussians as they are in the scene, visible ones only.
        indices: Where they are in the scene.
        centers: In display coordinates, within ``RADIUS``.
        covariances: Upper triangles in display coordinates, row by row, without the footprint.
        pixel: Side of a photo's pixel at each Gaussian, display units.
    """

    world: Gaussians
    indices: Int[np.ndarray, "n"]
    centers: Float[np.ndarray, "n 3"]
    covariances: Float[np.ndarray, "n 6"]
    pixel: Float[np.ndarray, "n"]

    @staticmethod
    def of(scene: Scene, frame: DisplayFrame) -> "dict[int, LevelSplats]":
        """Each level that has anything to draw, coarsest first."""
        visible = scene.gaussians.opacities >= LEAST_OPACITY
        levels = sorted(scene.gaussians.level[visible].unique().tolist())
        focal_px = _focal_px(scene)
        return {
            level: _level_splats(scene, frame, visible & (scene.gaussians.level == level), focal_px)
            for level in levels
        }

    def rows(
        self, rgbs: UInt8[np.ndarray, "n 3"], scale: float = 1.0, points: bool = False
    ) -> UInt32[np.ndarray, "n 8"]:
        """All splats as viser packs them, each widened by a photo pixel's footprint.

        Renderers widen splats by about half a pixel of the *screen*. A screen has several pixels
        for one of the photo, so without this there would be gaps between the splats of neighbouring
        pixels.

        Args:
            rgbs: Colours.
            scale: Factor on standard deviations.
            points: Whether to draw opaque dots instead of Gaussians.
        """
        covariances = np.zeros_like(self.covariances)
        if not points:
            np.multiply(self.covariances, np.float32(scale**2), out=covariances)
        widening = np.square(self.pixel * np.float32(POINT_PX if points else FOOTPRINT_PX))
        covariances[:, DIAGONAL] += widening[:, None]
        alpha = np.ones_like(self.pixel) if points else self.world.opacities.numpy()
        rows = np.zeros((len(rgbs), ROW_WORDS), np.uint32)
        rows[:, :3] = self.centers.view(np.uint32)
        # torch's conversion to half precision is hundreds of times faster than numpy's.
        rows[:, 4:7] = torch.from_numpy(covariances).half().numpy().view(np.uint32)
        rgba = rows[:, 7:].view(np.uint8)
        rgba[:, :3] = rgbs
        rgba[:, 3] = alpha * 255
        return rows


def drawn(
    rows: UInt32[np.ndarray, "n 8"], keep: Bool[np.ndarray, "n"]
) -> UInt32[np.ndarray, "m 8"]:
    """The rows to keep, at least one; invisible copies of the last make a round number of them.

    Padding with copies changes neither the extent nor the picture.
    """
    kept = rows[keep]
    padding = np.repeat(kept[-1:], -len(kept) % BUFFER_MULTIPLE, axis=0)
    padding[:, 7:].view(np.uint8)[:, 3] = 0
    return np.concatenate([kept, padding])


def drawn_within(gaussians: Gaussians, radius: float) -> Gaussians:
    """The same picture from the origin with everything beyond ``radius`` pulled in, and shrunk."""
    distance = gaussians.means.norm(dim=-1, keepdim=True)
    factor = (radius / distance.clamp_min(1e-12)).clamp_max(1.0)
    return Gaussians(
        means=gaussians.means * factor,
        scales=(gaussians.scales * factor).clamp(SMALLEST_SIGMA, radius),
        quaternions_wxyz=gaussians.quaternions_wxyz,
        opacities=gaussians.opacities,
        harmonics=gaussians.harmonics,
        level=gaussians.level,
    )


def _level_splats(
    scene: Scene, frame: DisplayFrame, chosen: Bool[Tensor, "n"], focal_px: float
) -> LevelSplats:
    world = scene.gaussians[chosen]
    shown = drawn_within(frame.gaussians(world), RADIUS)
    return LevelSplats(
        world=world,
        indices=torch.nonzero(chosen)[:, 0].numpy(),
        centers=shown.means.float().numpy(),
        covariances=shown.covariances().float().flatten(1)[:, UPPER_TRIANGLE].numpy(),
        pixel=shown.means.norm(dim=-1).float().numpy() / np.float32(focal_px),
    )


def _focal_px(scene: Scene) -> float:
    if scene.cameras is None or scene.photos is None:
        return FOCAL_WITHOUT_PHOTOS_PX
    intrinsics = scene.cameras.intrinsics_px(*scene.photos.shape[-2:])
    return intrinsics[0, [0, 1], [0, 1]].mean().item()
