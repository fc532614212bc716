"""How a scene differs from the photos that it was made from."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import Gaussians
from hisplat_models.rendering.base import Renderer, Rendering

BEST_PSNR = 99.0
"""dB, said of pictures that don't differ."""
HIDDEN_BEHIND = 1.05
"""A Gaussian farther than this many times what a pixel shows is hidden in it."""


@dataclass(frozen=True)
class PhotoErrors:
    """Renders beside the photos.

    Attributes:
        cameras: Of the photos, shape (view,).
        photos: RGB in [0, 1].
        rendering: What the same cameras see of the scene, batch size 1.
    """

    cameras: Cameras
    photos: Float[Tensor, "view 3 height width"]
    rendering: Rendering

    @staticmethod
    def between(
        gaussians: Gaussians,
        cameras: Cameras,
        photos: Float[Tensor, "view 3 height width"],
        renderer: Renderer,
    ) -> "PhotoErrors":
        """Draws the Gaussians as the cameras see them."""
        height, width = photos.shape[-2:]
        with torch.no_grad():
            rendering = renderer(gaussians[None], cameras[None], (height, width))
        return PhotoErrors(cameras, photos, rendering)

    @property
    def renders(self) -> Float[Tensor, "view 3 height width"]:
        """RGB in [0, 1]."""
        return self.rendering.color[0].clamp(0, 1)

    @property
    def maps(self) -> Float[Tensor, "view height width"]:
        """Absolute difference of render and photo, mean of the channels."""
        return (self.renders - self.photos).abs().mean(dim=1)

    def psnr(self, view: int) -> float:
        """Peak signal-to-noise ratio of one render, dB; at most ``BEST_PSNR``."""
        error = (self.renders[view] - self.photos[view]).double().square().mean().item()
        return min(BEST_PSNR, -10 * np.log10(max(error, 1e-30)))

    def of_gaussians(self, gaussians: Gaussians) -> Float[np.ndarray, "n"]:
        """Error where each Gaussian is seen, mean over the photos; NaN where none sees it."""
        total = torch.zeros(gaussians.count)
        seen_by = torch.zeros(gaussians.count)
        height, width = self.photos.shape[-2:]
        size = torch.tensor([width, height])
        depth = self.rendering.expected_depth()[0]
        for camera, error, surface in zip(_each(self.cameras), self.maps, depth, strict=True):
            projected = camera.project(gaussians.means)
            x, y = (projected[:, :2] * size).nan_to_num(-1).clamp(-1, 1e6).floor().long().T
            seen = (projected[:, 2] > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
            x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
            seen &= projected[:, 2] <= HIDDEN_BEHIND * surface[y, x]
            total += torch.where(seen, error[y, x], 0.0)
            seen_by += seen
        return (total / seen_by).numpy()  # 0 / 0 is NaN


def _each(cameras: Cameras) -> list[Cameras]:
    return [cameras[i] for i in range(len(cameras.near))]
