"""Error Aware input and Modulating Fusion (HiSplat, ICLR 2025)."""

from dataclasses import replace

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
        earlier: Gaussians,
        earlier_raw: Float[Tensor, "batch view features rows cols"],
        current: Float[Tensor, "batch view now h w"],
        error: Float[Tensor, "batch view 3 error_height error_width"],
        padding: int,
    ) -> Gaussians:
        """The earlier stage's Gaussians with new opacities.

        Args:
            earlier: One stage's Gaussians, in the order (view, row, column) of ``earlier_raw``.
            earlier_raw: That stage's raw channels without the image offset.
            current: The current stage's raw channels without the offset, then its opacities.
            error: What the earlier Gaussians got wrong in the context views.
            padding: Grid cells of ``earlier_raw`` beyond the photo on each side.
        """
        rows, cols = earlier_raw.shape[-2:]
        inner = (rows - 2 * padding, cols - 2 * padding)

        def on_grid(maps: Tensor) -> Tensor:
            maps = resize_maps(maps, *inner).flatten(0, 1)
            maps = F.pad(maps, [padding] * 4, mode="replicate") if padding else maps
            return maps.unflatten(0, earlier_raw.shape[:2])

        def tokens(maps: Tensor) -> Tensor:
            return maps.permute(0, 1, 3, 4, 2).flatten(1, 3)

        mask = tokens(on_grid(error.mean(2, keepdim=True)))
        opacity = earlier.opacities[..., None]
        pair = torch.cat([tokens(earlier_raw), opacity, tokens(on_grid(current))], dim=-1)
        weight = self.weigh(self.reduce(pair) * mask)
        if not self.residual:
            return replace(earlier, opacities=(opacity * weight.sigmoid())[..., 0])
        shift = self.MAX_LOGIT_SHIFT * torch.tanh(weight / self.MAX_LOGIT_SHIFT)
        logit = torch.logit(opacity, eps=1e-4)
        return replace(earlier, opacities=torch.sigmoid(logit + shift)[..., 0])
