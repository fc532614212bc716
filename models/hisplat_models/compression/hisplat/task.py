"""HiSplat's work, as compression methods see it: two photos to Gaussians, losses as in training.

How a network of this kind is taught by another is public for none of the methods; all of it is
our choice. Distributions over depth candidates stand where a classifier has its logits.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ...example import Example
from ...matching import match_views
from ...network import HiSplat, HiSplatOutput
from ...rendering import Renderer
from ...training.feed import Sample
from ...training.losses import LossSettings, PerceptualDistance, training_loss
from ..distillation import (
    at_size_of,
    depth_distribution_kl,
    feature_cosine,
    log_disparity,
    rendered,
)
from ..task import Knowledge
from .knowledge import ReconstructionPrediction, features_of


@dataclass(frozen=True)
class DistillationWeights:
    """Weights of what a part of the network is taught; all are our choice."""

    depth: float = 1.0
    """Divergence of distributions over depth candidates, mean over pixels."""
    amplitude: float | None = None
    """If given, those are normalised to this standard deviation first (KL-). Take 2 to 4; the
    disparity term keeps the expected depth."""
    disparity: float = 1.0
    """Smooth L1 of log-disparities, mean over stages."""
    feature: float = 0.1
    """One minus cosine of features that stages read, mean over maps."""
    raw: float = 0.3
    """Smooth L1 of raw Gaussian channels (logits of offsets and scales, rotations, colours), mean
    over stages."""
    opacity: float = 1.0
    """L1 of opacities, mean over stages."""
    render: float = 10.0
    """Mean squared difference of pictures, in the steps in which they are drawn."""
    render_every: int = 4
    """Pictures are drawn in every so many-th step; 0: never."""


@dataclass
class Reconstruction:
    """The ``CompressionTask`` of HiSplat on samples of the training.

    Attributes:
        losses: Of the whole network, as in training.
        renderer: For losses and pictures.
        size_multiple: Of the network; smaller inputs have sides that are multiples of it.
        distillation: Of its parts.
        perceptual: LPIPS, where the losses give it a weight.
        step: Of the training; decides whether pictures are drawn, and over which background. Who
            trains keeps it up to date: all networks of one step must draw alike.
        seed: Of backgrounds.
    """

    losses: LossSettings
    renderer: Renderer
    size_multiple: int
    distillation: DistillationWeights = DistillationWeights()
    perceptual: PerceptualDistance | None = None
    step: int = 0
    seed: int = 0

    def predict(self, network: nn.Module, batch: Sample) -> ReconstructionPrediction:
        """The scene, features on the way, and in some steps a picture of it."""
        assert isinstance(network, HiSplat)
        example = batch.example
        with features_of(network) as features:
            output = network(example.context_images, example.context_cameras, prior=batch.prior)
        return ReconstructionPrediction(output, features, self._renders(output, example))

    def task_loss(self, prediction: ReconstructionPrediction, batch: Sample) -> Float[Tensor, ""]:
        """The loss of ordinary training.

        Raises:
            FloatingPointError: if it is not finite.
        """
        device = batch.example.context_images.device
        report = training_loss(
            prediction.output,
            batch.example,
            self.renderer,
            self.losses,
            self._background(device),
            self.perceptual,
        )
        if not torch.isfinite(report.total):
            raise FloatingPointError(f"Loss {float(report.total)} at step {self.step}.")
        return report.total

    def distillation_loss(self, teacher: Knowledge, student: Knowledge) -> Float[Tensor, ""]:
        """The weighted sum of all distances; each kind is a mean over its maps."""
        total = next(iter(student.values())).new_zeros(())
        for kind, weight, distance in self._distances():
            names = [name for name in student if name.partition(".")[0] == kind]
            if weight and names:
                values = [
                    distance(at_size_of(teacher[name], student[name]), student[name])
                    for name in names
                ]
                total = total + weight * torch.stack(values).mean()
        return total

    def resized(self, batch: Sample, share: float) -> Sample:
        """Smaller photos of the same scene, of sides that the network takes; depths are dropped.

        Intrinsics are relative to the size and hold as they are; the matcher looks again.
        """
        images, unit = batch.example.context_images, self.size_multiple
        size = [max(unit, round(share * side / unit) * unit) for side in images.shape[-2:]]
        if size == list(images.shape[-2:]):
            return batch
        example = replace(
            batch.example,
            context_images=_shrunk(images, size),
            target_images=_shrunk(batch.example.target_images, size),
            context_depth=None,
            target_depth=None,
        )
        prior = None
        if batch.prior is not None:
            prior = match_views(example.context_images, example.context_cameras)
        return Sample(example, prior)

    def _distances(self) -> list[tuple[str, float, Callable[[Tensor, Tensor], Tensor]]]:
        weights = self.distillation
        return [
            ("depth", weights.depth, self._depth_distance),
            ("disparity", weights.disparity, log_disparity),
            ("feature", weights.feature, feature_cosine),
            ("raw", weights.raw, _smooth_l1),
            ("opacity", weights.opacity, F.l1_loss),
            ("render", weights.render, rendered),
        ]

    def _depth_distance(self, teacher: Tensor, student: Tensor) -> Tensor:
        return depth_distribution_kl(teacher, student, amplitude=self.distillation.amplitude)

    def _renders(self, output: HiSplatOutput, example: Example) -> Tensor | None:
        every = self.distillation.render_every
        if every == 0 or self.step % every or self.distillation.render == 0:
            return None
        images = example.target_images
        size = (images.shape[-2], images.shape[-1])
        cameras = example.target_cameras[:, :1]
        background = self._background(images.device)
        return self.renderer(output.gaussians, cameras, size, background).color[:, 0]

    def _background(self, device: torch.device) -> Float[Tensor, "3"]:
        if not self.losses.random_background:
            return torch.zeros(3, device=device)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.step)
        return torch.rand(3, generator=generator).to(device)


def _shrunk(
    images: Float[Tensor, "batch view 3 _ _"], size: list[int]
) -> Float[Tensor, "batch view 3 _ _"]:
    small = F.interpolate(images.flatten(0, 1), size, mode="bilinear", antialias=True)
    return small.unflatten(0, images.shape[:2])


def _smooth_l1(teacher: Tensor, student: Tensor) -> Tensor:
    return F.smooth_l1_loss(student, teacher, beta=0.1)
