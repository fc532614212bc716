"""From a scene's levels to the splats that a browser can draw.

The browser stores covariances as float16, sorts 16-bit depths and drops splats much smaller than a
screen pixel. So what is drawn is kept within a sphere and given the width that a renderer at the
photos' resolution would draw.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from hisplat_models.gaussians import Gaussians

from .scene import DisplayFrame, Scene

RADIUS = 100.0
"""Display units from the first view within which everything is drawn."""
SMALLEST_SIGMA = 5e-4
"""Display units; float16 covariances lose anything much smaller."""
FOOTPRINT_PX = 0.6
"""Standard deviation of a photo pixel's footprint, which every Gaussian is widened by."""
POINT_PX = 0.9
"""Standard deviation of a Gaussian drawn as a point, pixels of the photo."""
FOCAL_WITHOUT_PHOTOS_PX = 800.0
"""A usual screen's, for scenes that were made elsewhere."""
LEAST_OPACITY = 0.01
"""The browser draws nothing fainter."""
BUFFER_MULTIPLE = 4
"""The browser's depth sort takes splats in groups of this size."""


@dataclass(frozen=True)
class Splats:
    """The arrays that ``viser`` draws; their length is a multiple of ``BUFFER_MULTIPLE``."""

    centers: Float[np.ndarray, "n 3"]
    covariances: Float[np.ndarray, "n 3 3"]
    rgbs: UInt8[np.ndarray, "n 3"]
    opacities: Float[np.ndarray, "n 1"]


@dataclass(frozen=True)
class LevelSplats:
    """All that a browser could be shown of one level, made once; filters choose from it.

    Attributes:
        world: The Gaussians as they are in the scene, visible ones only.
        indices: Where they are in the scene.
        centers: In display coordinates, within ``RADIUS``.
        covariances: In display coordinates, without the footprint.
        pixel: Side of a photo's pixel at each Gaussian, display units.
    """

    world: Gaussians
    indices: Int[np.ndarray, "n"]
    centers: Float[np.ndarray, "n 3"]
    covariances: Float[np.ndarray, "n 3 3"]
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

    def splats(
        self,
        keep: Bool[np.ndarray, "n"],
        rgbs: UInt8[np.ndarray, "n 3"],
        scale: float = 1.0,
        points: bool = False,
    ) -> Splats:
        """Arrays for the browser, each Gaussian widened by a photo pixel's footprint.

        Renderers widen splats by about half a pixel of the *screen*. A screen has several pixels
        for one of the photo, so without this there would be gaps between the splats of neighbouring
        pixels.

        Args:
            keep: Which ones; at least one.
            rgbs: Colours of all.
            scale: Factor on standard deviations.
            points: Whether to draw opaque dots instead of Gaussians.
        """
        pixel = self.pixel[keep]
        opacities = self.world.opacities.numpy()[keep]
        if points:
            covariances = np.zeros((len(pixel), 3, 3), np.float32)
            opacities = np.ones_like(opacities)
        else:
            covariances = self.covariances[keep] * np.float32(scale**2)
        widening = (pixel * (POINT_PX if points else FOOTPRINT_PX)) ** 2
        covariances[:, (0, 1, 2), (0, 1, 2)] += widening[:, None]
        padding = -len(pixel) % BUFFER_MULTIPLE
        return Splats(
            centers=_padded(self.centers[keep], padding),
            covariances=_padded(covariances, padding),
            rgbs=_padded(rgbs[keep], padding),
            opacities=_padded(opacities[:, None], padding, invisible=True),
        )


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
        covariances=shown.covariances().float().numpy(),
        pixel=shown.means.norm(dim=-1).float().numpy() / np.float32(focal_px),
    )


def _focal_px(scene: Scene) -> float:
    if scene.cameras is None or scene.photos is None:
        return FOCAL_WITHOUT_PHOTOS_PX
    intrinsics = scene.cameras.intrinsics_px(*scene.photos.shape[-2:])
    return intrinsics[0, [0, 1], [0, 1]].mean().item()


def _padded(values: np.ndarray, padding: int, invisible: bool = False) -> np.ndarray:
    """Repeats the last row, so that padding changes neither the extent nor, faint, the picture."""
    if not padding:
        return values
    last = np.repeat(values[-1:], padding, axis=0)
    return np.concatenate([values, last * 0 if invisible else last])
