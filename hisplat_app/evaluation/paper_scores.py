"""One scene from photos to scores, measured as pixelSplat, MVSplat and HiSplat do.

PSNR of the render clipped to [0, 1]; SSIM by scikit-image's defaults for an 11 pixel Gaussian
window; LPIPS with VGG-16. SSIM and LPIPS take the render as it is, which may exceed 1 in places.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from hisplat_data_tools.datasets import ViewChoice
from hisplat_models.cameras import Cameras
from hisplat_models.example import Example
from hisplat_models.gaussians import Gaussians
from hisplat_models.lpips import Lpips
from hisplat_models.metrics import psnr, ssim
from hisplat_models.network import HiSplat
from hisplat_models.refinement import refine
from hisplat_models.rendering import Renderer
from hisplat_models.training.precision import float32_arithmetic
from hisplat_models.training.settings import Precision

from ..photo_overlap import without_repetition
from .peak_memory import forget_peak, peak_memory_mib
from .scene_log import SceneScore
from .statistics import HIGHEST_PSNR

T = TypeVar("T")


@dataclass(frozen=True)
class PaperScorer:
    """Scores scenes with one network.

    Attributes:
        model: On ``device``, prepared for prediction in ``precision``.
        renderer: For Gaussians on ``device``.
        lpips: On ``device``; None to leave it out.
        device: Where all work.
        precision: Of the prediction; all else is in float32.
        refinement_steps: By which a scene is fitted to its photos, which counts as encoding.
    """

    model: HiSplat
    renderer: Renderer
    lpips: Lpips | None
    device: torch.device
    precision: Precision
    refinement_steps: int = 0

    @torch.no_grad()
    def __call__(self, scene: str, example: Example, frames: ViewChoice) -> SceneScore:
        """The scores of one example, which shows these frames of a scene.

        Raises:
            ValueError: naming the scene, if the network cannot take it or fails on it.
        """
        images = example.context_images[None].to(self.device)
        cameras = example.context_cameras[None].to(self.device)
        targets = example.target_images.to(self.device)
        target_cameras = example.target_cameras[None].to(self.device)
        size = (targets.shape[-2], targets.shape[-1])
        forget_peak(self.device)
        try:
            gaussians, encoder = self._timed(lambda: self._scene(images, cameras))
            drawn, decoder = self._timed(lambda: self.renderer(gaussians, target_cameras, size))
        except ValueError as error:
            raise ValueError(f"Scene {scene}: {error}") from error
        peak = peak_memory_mib(self.device)
        color = drawn.color[0].float()
        decibels = psnr(color.clamp(0, 1), targets).clamp_max(HIGHEST_PSNR)
        return SceneScore(
            scene=scene,
            context=list(frames.context),
            target=list(frames.target),
            psnr=decibels.tolist(),
            ssim=ssim(color, targets, sample_covariance=True).tolist(),
            lpips=None if self.lpips is None else self.lpips(color, targets).tolist(),
            encoder_seconds=encoder,
            decoder_seconds=decoder / len(targets),
            gaussians=gaussians.means.shape[1],
            peak_memory_mib=peak,
        )

    def _scene(self, images: Tensor, cameras: Cameras) -> Gaussians:
        with float32_arithmetic(self.precision, self.device):
            output = self.model(images, cameras)
        predicted = without_repetition(output, images[0], cameras[0])  # what users get
        return refine(predicted, images, cameras, self.renderer, self.refinement_steps)

    def _timed(self, work: Callable[[], T]) -> tuple[T, float]:
        self._wait()
        start = time.perf_counter()
        result = work()
        self._wait()
        return result, time.perf_counter() - start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
