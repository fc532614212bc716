"""Pictures, depth maps and frames of videos of a scene."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8

from hisplat_data_tools.depth_maps import color_depth
from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import Gaussians
from hisplat_models.rendering import create_renderer

from .step_clock import Progress, ignore_progress

SOLID_ALPHA = 0.5
"""Pixels that are covered less than that have no depth."""

FOCUS_LONG_SIDE = 160
"""Size of the small picture that tells where the scene is."""

Shown = Literal["color", "depth"]


@dataclass(frozen=True)
class Drawing:
    """What one camera sees.

    Attributes:
        pixels: sRGB.
        depth: Mean z-depth of what a pixel shows, world units; 0 where it shows hardly anything.
    """

    pixels: UInt8[np.ndarray, "height width 3"]
    depth: Float[np.ndarray, "height width"]


class SceneDrawer:
    """Draws one scene again and again."""

    def __init__(
        self,
        gaussians: Gaussians,
        device: torch.device | str = "cpu",
        background: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        """Moves the scene to ``device``; ``background`` is an 8-bit sRGB colour."""
        self._gaussians = gaussians.to(device)[None]
        self._device = device
        self._background = torch.tensor(background, device=device) / 255
        self._renderer = create_renderer(device)

    def draw(self, camera: Cameras, size: tuple[int, int]) -> Drawing:
        """What a camera of shape () sees at (height, width)."""
        with torch.no_grad():
            cameras = camera[None][None].to(torch.float32).to(self._device)
            drawn = self._renderer(self._gaussians, cameras, size, self._background)
        pixels = (drawn.color[0, 0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
        solid = drawn.alpha[0, 0] >= SOLID_ALPHA
        depth = torch.where(solid, drawn.expected_depth()[0, 0], 0.0)
        return Drawing(np.ascontiguousarray(pixels.cpu().numpy()), depth.cpu().numpy())

    def depth_range(self, camera: Cameras, size: tuple[int, int]) -> tuple[float, float, float]:
        """Nearest, median and farthest z-depth of what a camera of shape () sees, world units.

        Raises:
            ValueError: if it sees nothing.
        """
        scale = min(1.0, FOCUS_LONG_SIDE / max(size))
        small = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
        depth = self.draw(camera, small).depth
        if not (depth > 0).any():
            raise ValueError("The camera sees nothing of the scene: are they of the same world?")
        near, middle, far = np.quantile(depth[depth > 0], [0.02, 0.5, 0.98])
        return float(near), float(middle), float(max(far, near * 1.01))

    def frames(
        self,
        cameras: Cameras,
        size: tuple[int, int],
        shown: Shown = "color",
        progress: Progress = ignore_progress,
    ) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """What cameras of shape (frame,) see, one after another, as they are asked for.

        Args:
            cameras: The path.
            size: (height, width).
            shown: Colours, or depth as colours whose range is that of the first frame.
            progress: Told about each frame.
        """
        count = len(cameras.near)
        near, _, far = self.depth_range(cameras[0], size) if shown == "depth" else (1.0, 1.0, 2.0)
        for i in range(count):
            progress(f"drawing frame {i + 1} of {count}", i / count)
            drawing = self.draw(cameras[i], size)
            yield drawing.pixels if shown == "color" else color_depth(drawing.depth, near, far)
