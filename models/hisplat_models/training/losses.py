"""What the network is trained for: novel views at every level, and the right depth candidate."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..example import Example
from ..network import HiSplatOutput
from ..prior_maps import squash
from ..rendering import Renderer


@runtime_checkable
class PerceptualDistance(Protocol):
    """How far images are apart to the eye, as ``hisplat_models.lpips.Lpips`` tells."""

    def __call__(
        self,
        images: Float[Tensor, "image 3 height width"],
        targets: Float[Tensor, "image 3 height width"],
    ) -> Float[Tensor, " image"]:
        """One distance per pair of images in [0, 1]; differentiable."""
        ...


@dataclass(frozen=True)
class LossSettings:
    """Weights of the terms, and how renders are compared."""

    gain_corrected: bool = False
    """Compare after one gain per colour channel. Forgives photos of unequal exposure, but leaves
    the scene's own brightness free to drift."""
    mse: float = 10.0
    """Squared difference between renders and target views."""
    l1: float = 0.3
    """Absolute difference between renders and target views."""
    lpips: float = 0.0
    """LPIPS (VGG-16) between renders and target views."""
    levels: tuple[float, float, float] = (0.05, 0.1, 1.0)
    """Weights of the renders after each stage, coarsest first; a network with fewer stages takes
    the last ones. HiSplat weighs all alike; in hisplat-small the coarse levels are a backdrop
    behind the surface, which such a loss would pull forward."""
    coarse_targets: int | None = 1
    """Target views drawn after the coarser stages, whose weight is small; None for all."""
    random_background: bool = True
    """Draw renders over a random colour, so that what shines through holes is punished whatever
    its colour; else over black."""
    transmittance: float = 0.3
    """Share of background in the final render: keeps holes from opening."""
    choice: float = 0.1
    """Expected error of the chosen depth candidate, pixels, clamped at 5."""
    choice_likelihood: float = 0.03
    """Negative log-likelihood of the best candidate, where one is within 1.5 pixels."""
    surface: float = 0.1
    """Squashed error of the coarsest stage's surface."""


PUBLISHED_LOSSES = LossSettings(
    mse=1.0,
    l1=0.0,
    lpips=0.05,
    levels=(1.0, 1.0, 1.0),
    coarse_targets=None,
    random_background=False,
    transmittance=0.0,
    choice=0.0,
    choice_likelihood=0.0,
    surface=0.0,
)
"""HiSplat, section 3.5: the sum over the three stages of MSE and 0.05 LPIPS."""


@dataclass(frozen=True)
class LossReport:
    """The total and its terms (before weighting), each a mean over the batch."""

    total: Tensor
    terms: dict[str, float]


def training_loss(
    output: HiSplatOutput,
    example: Example,
    renderer: Renderer,
    settings: LossSettings,
    background: Float[Tensor, "3"],
    perceptual: PerceptualDistance | None = None,
) -> LossReport:
    """The training loss of one collated batch.

    Every term is a mean of per-sample values, so that the gradient of a batch split over
    several processes is the mean of theirs. Without ``perceptual`` the LPIPS term is left out.
    """
    weighted: list[Tensor] = []
    terms: dict[str, float] = {}

    def add(name: str, per_sample: Float[Tensor, "batch"], weight: float) -> None:
        value = per_sample.mean()
        terms[name] = float(value.detach())
        weighted.append(weight * value)

    last = len(output.accumulated) - 1
    weights = settings.levels[-len(output.accumulated) :]
    for level, (gaussians, weight) in enumerate(zip(output.accumulated, weights, strict=True)):
        if weight == 0:
            continue
        views = slice(None) if level == last else slice(settings.coarse_targets)
        target = example.target_images[:, views]
        rendering = renderer(gaussians, example.target_cameras[:, views], _size(target), background)
        color, alpha = rendering.color, rendering.alpha
        if settings.gain_corrected:
            color = color * channel_gains(color.detach(), target)[..., None, None]
        difference = (color - target).flatten(1)
        add(f"mse_{level}", difference.square().mean(1), weight * settings.mse)
        add(f"l1_{level}", difference.abs().mean(1), weight * settings.l1)
        if perceptual is not None and settings.lpips > 0:
            distance = perceptual(color.flatten(0, 1), target.flatten(0, 1))
            distance = distance.unflatten(0, target.shape[:2]).mean(1)
            add(f"lpips_{level}", distance, weight * settings.lpips)
        if level == last:
            add("transmittance", (1 - alpha).flatten(1).mean(1), settings.transmittance)
    if example.context_depth is not None and output.prior is not None:
        _add_depth_terms(add, output, example.context_depth, settings)
    return LossReport(torch.stack(weighted).sum(), terms)


def _size(images: Tensor) -> tuple[int, int]:
    return images.shape[-2], images.shape[-1]


def channel_gains(
    render: Float[Tensor, "*batch 3 height width"], target: Float[Tensor, "*batch 3 height width"]
) -> Float[Tensor, "*batch 3"]:
    """The factor per image and channel that brings the render closest to the target."""
    product = (render * target).sum((-2, -1))
    return (product / render.square().sum((-2, -1)).clamp_min(1e-6)).clamp(0.5, 2.0)


def _add_depth_terms(
    add: Callable[[str, Tensor, float], None],
    output: HiSplatOutput,
    depth: Tensor,
    settings: LossSettings,
) -> None:
    prior, logits = output.prior, output.stages[-1].candidate_logits
    assert prior is not None
    known = depth > 0
    truth = torch.where(known, 1 / depth.clamp_min(1e-6), 0.0)
    px = prior.pixels_per_inverse_depth[..., None, None]
    if logits is not None:
        error = ((prior.candidates - truth[:, :, None]) * px[:, :, None]).abs().clamp_max(5.0)
        expected = (logits.softmax(2) * error).sum(2)
        add("choice", _masked_mean(expected, known), settings.choice)
        best_error, best = error.min(dim=2)
        negative = F.cross_entropy(logits.flatten(0, 1), best.flatten(0, 1), reduction="none")
        reachable = known & (best_error < 1.5)
        likelihood = _masked_mean(negative.unflatten(0, best.shape[:2]), reachable)
        add("choice_likelihood", likelihood, settings.choice_likelihood)
    surface = output.stages[0].surface.inverse_depth[:, :, 0]
    stride = depth.shape[-1] // surface.shape[-1]
    share = F.avg_pool2d(known.float(), stride)
    pooled = F.avg_pool2d(truth, stride) / share.clamp_min(1e-6)
    error = squash(surface - pooled, prior.pixels_per_inverse_depth).abs()
    add("surface", _masked_mean(error, share > 0.99), settings.surface)


def _masked_mean(values: Tensor, mask: Tensor) -> Float[Tensor, "batch"]:
    weight = mask.to(values.dtype)
    return (values * weight).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp_min(1.0)
