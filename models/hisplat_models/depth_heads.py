"""Where a stage puts its surface: one small module per rule (HiSplat, section 3.3)."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .cameras import Cameras
from .channels_last import Pointwise, joined, side_by_side
from .cost_volume import disparity_candidates, expected_disparity, plane_sweep_cost_volume
from .fusion import resize_maps
from .prior_maps import PriorMaps
from .refine_unet import RefineUNet, group_norm

Map = Float[Tensor, "batch view 1 height width"]


def zero_initialised(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with zero weights and biases, so that what it feeds starts unchanged."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def bounded(x: Tensor, limit: float | Tensor) -> Tensor:
    """A residual that is x near zero and never leaves (-limit, limit)."""
    return limit * torch.tanh(x / limit)


@dataclass(frozen=True)
class SurfaceEstimate:
    """A stage's surface.

    Attributes:
        inverse_depth: 1 / z-depth.
        confidence: Largest probability of the coarsest stage's candidates, in [0, 1].
        logits: Of those candidates, where the surface was made from them; else None.
    """

    inverse_depth: Map
    confidence: Map
    logits: Float[Tensor, "batch view candidates height width"] | None = None


class CostVolumeDepth(nn.Module):
    """Expected inverse depth of a plane sweep, regularised by a U-Net (HiSplat, section 3.2).

    With a matching prior its aggregated costs are the logits, and the learned ones are a
    zero-initialised residual on top.

    Args:
        features: Channels of the transformer's features.
        candidates: Planes, evenly spaced in inverse depth.
        width: Channels of the regulariser.
        levels: Its resolutions.
        attention: Its downsampling rate at which the views attend to each other.
        prior: Whether a matching prior gives the first logits.
    """

    PRIOR_SHARPNESS = 20.0  # logits per unit of the prior's normalised cost

    def __init__(
        self, features: int, candidates: int, width: int, levels: int, attention: int, prior: bool
    ):
        super().__init__()
        self.candidates = candidates
        self.prior = prior
        self.stem = nn.Conv2d(features + candidates, width, 3, padding=1)
        self.stem_norm = group_norm(width)
        self.unet = RefineUNet(width, levels, attention)
        self.out = nn.Conv2d(width, width, 3, padding=1)
        self.shortcut = Pointwise(features + candidates, width)
        self.hidden = nn.Conv2d(width, 2 * candidates, 3, padding=1)
        self.logits = nn.Conv2d(2 * candidates, candidates, 3, padding=1)
        if prior:
            zero_initialised(self.logits)

    def forward(
        self,
        features: Float[Tensor, "batch view channels height width"],
        cameras: Cameras,
        prior: PriorMaps | None,
    ) -> SurfaceEstimate:
        """The surface at the features' resolution."""
        batch_view = features.shape[:2]
        planes = disparity_candidates(cameras.near, cameras.far, self.candidates)
        # The published network samples through pixel corners; only its weights expect that.
        volume = plane_sweep_cost_volume(features, cameras, planes, pixel_centers=self.prior)
        x = joined([volume, features])
        y = F.gelu(self.stem_norm(self.stem(x))).unflatten(0, batch_view)
        y = self.out(self.unet(y).flatten(0, 1)) + self.shortcut(x)
        logits = self.logits(F.gelu(self.hidden(y))).unflatten(0, batch_view)
        if prior is not None:
            logits = logits - self.PRIOR_SHARPNESS * prior.coarse_cost
        inverse_depth, confidence = expected_disparity(logits, planes)
        return SurfaceEstimate(inverse_depth, confidence, logits)


class ResidualDepth(nn.Module):
    """The previous stage's inverse depth plus a residual, kept in the scene's range."""

    def forward(self, coarse: Map, delta: Map, nearest: Tensor, farthest: Tensor) -> Map:
        """``nearest`` and ``farthest`` are inverse depths that broadcast against the maps."""
        return torch.minimum(torch.maximum(coarse + delta, farthest), nearest)


class LimitedDepth(nn.Module):
    """Between 0.9 and 1.1 times the previous stage's depth (HiSplat: depth offset eta = 0.1)."""

    def __init__(self, refined_channels: int, width: int = 64):
        super().__init__()
        self.features = nn.Conv2d(refined_channels, width, 3, padding=1)
        self.mix = Pointwise(width + 2, width)
        self.fraction = Pointwise(width, 1)

    def forward(
        self,
        refined: Float[Tensor, "batch view channels height width"],
        coarse: Map,
        cameras: Cameras,
    ) -> Map:
        """Inverse depth interpolated between both bounds."""
        near, far = (x[:, :, None, None, None] for x in (cameras.near, cameras.far))
        upper = 1 / torch.clamp(0.9 / coarse, near, far)
        lower = 1 / torch.clamp(1.1 / coarse, near, far)
        u = F.gelu(self.features(refined.flatten(0, 1)))
        known = side_by_side([u, upper.flatten(0, 1), lower.flatten(0, 1)])
        s = self.fraction(F.gelu(self.mix(known))).sigmoid()
        return lower + s.unflatten(0, coarse.shape[:2]) * (upper - lower)


class BackdropDepth(nn.Module):
    """The analytic backdrop's inverse depth times a bounded learned factor, one at the start."""

    LIMIT = math.log(1.5)

    def forward(self, backdrop: Tensor, delta: Tensor) -> Tensor:
        """Shapes must be equal; ``delta`` is the raw output of the stage's disparity head."""
        return backdrop * torch.exp(bounded(delta, self.LIMIT))


@dataclass(frozen=True)
class CandidateChoice:
    """The finest stage's choice among the matching prior's candidates.

    Attributes:
        inverse_depth: The chosen candidate, finely adjusted.
        logits: Of all candidates; the loss on them is what teaches the choice.
        opacity_logit: What full resolution adds to the opacities' logits.
    """

    inverse_depth: Float[Tensor, "batch view height width"]
    logits: Float[Tensor, "batch view candidates height width"]
    opacity_logit: Float[Tensor, "batch view height width"]


class CandidateDepth(nn.Module):
    """Picks one candidate per pixel and adjusts it by a fraction of a pixel.

    The pick is hard: a mean of two surfaces would float between them. At the start the residual
    logits are zero and the classical choice, which has a head start of one, wins everywhere.
    """

    HEAD_START = 1.0
    LIMIT_PX = 0.5

    def __init__(self, channels: int, candidates: int):
        super().__init__()
        self.residual = zero_initialised(nn.Conv2d(channels, candidates + 2, 1))

    def forward(
        self, hidden: Float[Tensor, "batch view channels height width"], prior: PriorMaps
    ) -> CandidateChoice:
        """Choice and adjustment from the Gaussian head's hidden features."""
        out = self.residual(hidden.flatten(0, 1)).unflatten(0, hidden.shape[:2])
        logits, adjustment, opacity = out[:, :, :-2], out[:, :, -2], out[:, :, -1]
        head_start = logits.new_zeros(logits.shape[2], 1, 1)
        head_start[0] = self.HEAD_START
        logits = logits + head_start
        chosen = prior.candidates.gather(2, logits.argmax(dim=2, keepdim=True))[:, :, 0]
        px = prior.pixels_per_inverse_depth[..., None, None]
        adjusted = chosen + bounded(adjustment, self.LIMIT_PX) / px
        # A fraction of a pixel may be more than all of a far surface's inverse depth.
        return CandidateChoice(torch.maximum(adjusted, 0.5 * chosen), logits, opacity)


def upsampled(estimate: SurfaceEstimate, height: int, width: int) -> SurfaceEstimate:
    """The estimate at a finer resolution, interpolated in depth as published."""
    depth = resize_maps(1 / estimate.inverse_depth, height, width)
    return SurfaceEstimate(1 / depth, resize_maps(estimate.confidence, height, width))
