"""Error Aware input and Modulating Fusion (HiSplat, ICLR 2025)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .cameras import Cameras
from .gaussians import Gaussians
from .rendering import Renderer

Maps = Float[Tensor, "batch view channels height width"]


def resize_maps(
    maps: Float[Tensor, "batch view channels rows cols"], height: int, width: int
) -> Maps:
    """Bilinear resize that keeps the corner samples in place (align_corners), as published."""
    if maps.shape[-2:] == (height, width):
        return maps
    resized = F.interpolate(
        maps.flatten(0, 1), (height, width), mode="bilinear", align_corners=True
    )
    return resized.unflatten(0, maps.shape[:2])


def render_error(
    gaussians: Gaussians,
    cameras: Cameras,
    images: Float[Tensor, "batch view 3 image_height image_width"],
    renderer: Renderer,
    stride: int = 1,
) -> Float[Tensor, "batch view 3 height width"]:
    """What the Gaussians so far still get wrong in their own photos: |photo - render|.

    Rendered at one ``stride``-th of the photos' resolution; gradients flow into the Gaussians.
    """
    photos = F.avg_pool2d(images.flatten(0, 1), stride) if stride > 1 else images.flatten(0, 1)
    photos = photos.unflatten(0, images.shape[:2])
    size = (photos.shape[-2], photos.shape[-1])
    return (photos - renderer(gaussians, cameras, size).color).abs()


def mean_error(
    error: Float[Tensor, "batch view 3 error_height error_width"], height: int, width: int
) -> Float[Tensor, "batch view 1 height width"]:
    """The error's mean over the channels, resized."""
    return resize_maps(error.mean(2, keepdim=True), height, width)


@dataclass(frozen=True)
class EarlierStage:
    """What Modulating Fusion knows of a stage before the current one.

    Attributes:
        gaussians: In the order (view, row, column) of ``raw``.
        raw: Raw channels without the image offset.
        padding: Grid cells of ``raw`` beyond the photo on each side.
    """

    gaussians: Gaussians
    raw: Float[Tensor, "batch view features rows cols"]
    padding: int

    def tokens(self, current: Maps, error: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, n, 2 * features + 2) Gaussians then and now, and (batch, n, 1) their errors."""
        opacity = self.gaussians.opacities[..., None]
        pair = [_tokens(self.raw), opacity, _tokens(self._on_grid(current))]
        mask = mean_error(error, *self._inner)
        return torch.cat(pair, dim=-1), _tokens(self._padded(mask))

    @property
    def _inner(self) -> tuple[int, int]:
        rows, cols = self.raw.shape[-2:]
        return rows - 2 * self.padding, cols - 2 * self.padding

    def _on_grid(self, maps: Tensor) -> Tensor:
        return self._padded(resize_maps(maps, *self._inner))

    def _padded(self, maps: Tensor) -> Tensor:
        if self.padding == 0:
            return maps
        padded = F.pad(maps.flatten(0, 1), [self.padding] * 4, mode="replicate")
        return padded.unflatten(0, maps.shape[:2])


def _tokens(maps: Maps) -> Float[Tensor, "batch n channels"]:
    return maps.permute(0, 1, 3, 4, 2).flatten(1, 3)


class SampleNorm(nn.Module):
    """Normalises each sample over all its tokens and channels at once, without parameters.

    The published code reaches this by applying an instance norm to (batch, tokens, channels).
    """

    def forward(self, x: Float[Tensor, "batch tokens channels"]) -> Tensor:
        """The same shape, zero mean and unit variance per sample."""
        return F.layer_norm(x, x.shape[1:])


class ModulatingFusion(nn.Module):
    """Re-weights the opacities of earlier stages where the newest stage sees them err.

    Args:
        raw_features: Raw channels that describe a Gaussian (all but the image offset).
        residual: Start from "leave the opacities alone" and shift them by a bounded amount in
            logit space, instead of multiplying them by a learned weight as published.
        width: Hidden width.
    """

    MAX_LOGIT_SHIFT = 3.0

    def __init__(self, raw_features: int, residual: bool, width: int = 32):
        super().__init__()
        self.residual = residual
        self.reduce = nn.Sequential(
            nn.Linear(2 * (raw_features + 1), width),
            SampleNorm(),
            nn.GELU(),
            nn.Linear(width, width),
            SampleNorm(),
            nn.GELU(),
        )
        self.weigh = nn.Sequential(
            SampleNorm(), nn.Linear(width, width), SampleNorm(), nn.GELU(), nn.Linear(width, 1)
        )
        if residual:
            last = self.weigh[-1]
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(
        self,
        earlier: Sequence[EarlierStage],
        current: Float[Tensor, "batch view now h w"],
        error: Float[Tensor, "batch view 3 error_height error_width"],
    ) -> list[Gaussians]:
        """The earlier stages' Gaussians with new opacities.

        Weights depend on all Gaussians given together, because the normalisation runs over them.

        Args:
            earlier: The stages whose Gaussians are weighed.
            current: The current stage's raw channels without the offset, then its opacities.
            error: What the Gaussians so far got wrong in the context views.
        """
        pairs, masks = zip(*(stage.tokens(current, error) for stage in earlier), strict=True)
        weight = self.weigh(self.reduce(torch.cat(pairs, dim=1)) * torch.cat(masks, dim=1))
        weights = weight[..., 0].split([stage.gaussians.count for stage in earlier], dim=1)
        return [
            replace(stage.gaussians, opacities=self._weighed(stage.gaussians.opacities, w))
            for stage, w in zip(earlier, weights, strict=True)
        ]

    def _weighed(self, opacities: Tensor, weight: Tensor) -> Tensor:
        if not self.residual:
            return opacities * weight.sigmoid()
        shift = self.MAX_LOGIT_SHIFT * torch.tanh(weight / self.MAX_LOGIT_SHIFT)
        return torch.sigmoid(torch.logit(opacities, eps=1e-4) + shift)
