"""Refinement by rendering: a scene fitted to the very photos it was made from, for a few steps.

A network places the Gaussians of each photo by themselves; how those of all photos blend where they
lie over each other, it can only guess. Drawing the photos' own views and descending the differences
settles that: who hides whom (opacities), how far each reaches (scales) and how much drawing has
blurred it (colours). Positions stay: photos say little about depth that matching has not used already.

Few steps are a regulariser of their own. Beyond some dozens the photos are still matched better,
but views between them worse. What each choice gave: docs/quality.md.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from .cameras import Cameras
from .gaussians import SH_C0, Gaussians
from .rendering import Renderer

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class RefinementSettings:
    """What may change and how fast: Adam's steps, each at most about its rate.

    A rate of 0 leaves that part as it is.
    """

    opacity_rate: float = 0.4
    """Of opacities, as logits."""
    scale_rate: float = 0.03
    """Of scales, as natural logarithms."""
    color_rate: float = 0.003
    """Of colours, RGB in [0, 1]."""
    scale_limit: float = 2.0
    """Scales grow and shrink at most by this factor."""
    error_floor: float = 0.01
    """Errors well below it count squared, well above it by their absolute value, so that what only
    one photo shows does not decide."""
    least_gradient: float = 0.02
    """Gaussians whose share in the error is small against it, in pixels, hardly change: photos
    that barely show them say little about how other views will."""

    def __post_init__(self):
        for name in ("opacity_rate", "scale_rate", "color_rate"):
            if getattr(self, name) < 0:
                raise ValueError(f"Expected {name} of at least 0, got {getattr(self, name)}.")


DEFAULT = RefinementSettings()


def refine(
    gaussians: Gaussians,
    images: Float[Tensor, "batch view 3 height width"],
    cameras: Cameras,
    renderer: Renderer,
    steps: int,
    settings: RefinementSettings = DEFAULT,
    progress: Progress | None = None,
) -> Gaussians:
    """The Gaussians after ``steps`` steps of Adam on the error of the photos' own views.

    Number, order, levels, positions and rotations stay. Nothing is random, so that equal input
    gives equal output wherever the renderer's gradients do. Works inside ``torch.no_grad`` as well.

    Args:
        gaussians: A scene as predicted, shape (batch, n).
        images: The photos it was predicted from, RGB in [0, 1].
        cameras: Theirs, shape (batch, view).
        renderer: Draws with gradients, by the rules by which the scene will be seen.
        steps: How many; 0 gives back the input.
        settings: Rates and limits.
        progress: Told how far it has come; may raise to cancel.

    Raises:
        ValueError: for a negative number of steps, or cameras that do not match the photos.
    """
    if steps < 0:
        raise ValueError(f"Expected at least 0 refinement steps, got {steps}.")
    if cameras.batch_shape != images.shape[:2]:
        raise ValueError(
            f"Expected one camera per photo, {tuple(images.shape[:2])}, got cameras of shape "
            f"{tuple(cameras.batch_shape)}."
        )
    if steps == 0:
        return gaussians
    with torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
        changes = _Changes(gaussians.detach(), settings)
        optimizer = torch.optim.Adam(
            changes.parameter_groups(), betas=(0.9, 0.99), eps=settings.least_gradient
        )
        for step in range(steps):
            if progress is not None:
                progress("refining the scene", step / steps)
            optimizer.zero_grad()
            drawn = renderer(changes.applied(), cameras, (images.shape[-2], images.shape[-1])).color
            error_in_pixels(drawn - images, settings.error_floor).backward()
            optimizer.step()
    return changes.applied().detach()


def error_in_pixels(
    difference: Float[Tensor, "batch view 3 height width"], floor: float
) -> Float[Tensor, ""]:
    """Sum over all pixels of the mean over colours of sqrt(d^2 + floor^2) - floor (Charbonnier)."""
    return ((difference.square() + floor**2).sqrt() - floor).mean(dim=2).sum()


class _Changes:
    """What is added to a scene, zero at first."""

    def __init__(self, start: Gaussians, settings: RefinementSettings):
        self.start, self.settings = start, settings
        self.start_logits = torch.logit(start.opacities, eps=1e-6)
        self.opacity = torch.zeros_like(start.opacities).requires_grad_()
        self.scale = torch.zeros_like(start.opacities).requires_grad_()
        self.color = torch.zeros_like(start.harmonics[..., 0, :]).requires_grad_()

    def parameter_groups(self) -> list[dict[str, object]]:
        """Those that have a rate, as optimisers take them."""
        s = self.settings
        rates = (
            (self.opacity, s.opacity_rate),
            (self.scale, s.scale_rate),
            (self.color, s.color_rate),
        )
        return [{"params": [values], "lr": rate} for values, rate in rates if rate > 0]

    def applied(self) -> Gaussians:
        """The changed scene."""
        limit = math.log(self.settings.scale_limit)
        factor = self.scale.clamp(-limit, limit).exp()
        base = self.start.harmonics[..., :1, :] + (self.color / SH_C0)[..., None, :]
        return replace(
            self.start,
            opacities=torch.sigmoid(self.start_logits + self.opacity),
            scales=self.start.scales * factor[..., None],
            harmonics=torch.cat([base, self.start.harmonics[..., 1:, :]], dim=-2),
        )
