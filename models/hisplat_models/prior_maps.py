"""The matching prior as the network sees it: where each stage starts, and how sure the matcher is.

Everything is scale-free (differences of inverse depth are turned into pixels of displacement
between the photos), holds no colour and no position, so that a network trained on synthetic
scenes cannot learn how such scenes are laid out.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .cameras import Cameras
from .gaussian_head import raw_of_colors
from .layered import LayeredStage, layered_stages
from .matching import CANDIDATE_NAMES, EVIDENCE_NAMES, MatchingPrior

CANDIDATES = len(CANDIDATE_NAMES)
EVIDENCE_CHANNELS = len(EVIDENCE_NAMES) + 2 * CANDIDATES
BACKDROP_CHANNELS = 1
SQUASH_PX = 8.0  # displacements are seen through tanh(d / SQUASH_PX)


@dataclass(frozen=True)
class StagePrior:
    """Where one stage starts.

    Attributes:
        inverse_depth: Of the stage's Gaussians, 1 / z-depth, on the padded grid.
        color: RGB of the analytic Gaussians, on the padded grid.
        sigma_px: Their standard deviation in cells.
        opacity_logit: Of the analytic Gaussians, on the padded grid.
        evidence: What the matcher knows, on the stage's grid without padding.
        padding: Cells of the padded grid beyond the photo on each side.
    """

    inverse_depth: Float[Tensor, "batch view rows cols"]
    color: Float[Tensor, "batch view 3 rows cols"]
    sigma_px: float
    opacity_logit: Float[Tensor, "batch view rows cols"]
    evidence: Float[Tensor, "batch view evidence h w"]
    padding: int

    def raw(self, sh_degree: int) -> Float[Tensor, "batch view raw rows cols"]:
        """Raw channels of the analytic Gaussians; made when asked for, most are constants."""
        return raw_of_colors(self.color, self.sigma_px, sh_degree)


@dataclass(frozen=True)
class PriorMaps:
    """The matching prior, prepared for the three stages.

    Attributes:
        stages: Coarsest first.
        candidates: Inverse depths the finest stage chooses from; the classical choice is first.
        pixels_per_inverse_depth: Displacement in the other photo per unit of inverse depth.
        coarse_cost: Aggregated matching cost at the coarsest stage, per plane, about [0, 1].
    """

    stages: tuple[StagePrior, StagePrior, StagePrior]
    candidates: Float[Tensor, "batch view candidates height width"]
    pixels_per_inverse_depth: Float[Tensor, "batch view"]
    coarse_cost: Float[Tensor, "batch view planes h w"]


def pixels_per_inverse_depth(
    cameras: Cameras, height: int, width: int
) -> Float[Tensor, "batch view"]:
    """How far the image centre's match moves in the nearest other view, per unit inverse depth.

    Measured between the two ends of each view's depth range, in pixels of a (height, width)
    image; averaged over a 3x3 grid of image points so that forward motion, whose epipole may
    be at the centre, gets a fair figure too.
    """
    rays = cameras.rays(3, 3).flatten(2, 3)
    ends = []
    for depth in (cameras.near, cameras.far):
        points = cameras.positions[:, :, None] + rays * depth[..., None, None]
        v = points.shape[1]
        everywhere = points[:, :, None].expand(-1, -1, v, -1, -1)  # batch, from, to, n, 3
        targets = Cameras(
            *(
                x[:, None].expand(-1, v, *x.shape[1:])
                for x in (
                    cameras.camera_to_world, cameras.intrinsics, cameras.near, cameras.far
                )
            )
        )  # fmt: skip
        ends.append(targets.project(everywhere)[..., :2])
    moved = (ends[0] - ends[1]) * ends[0].new_tensor([width, height])
    distance = moved.norm(dim=-1).nanmedian(dim=-1).values
    own = torch.eye(distance.shape[1], dtype=torch.bool, device=distance.device)
    nearest = distance.masked_fill(own, math.inf).min(dim=-1).values
    return nearest.clamp_min(1e-3) / (1 / cameras.near - 1 / cameras.far)


def prepare_prior(
    prior: MatchingPrior,
    images: Float[Tensor, "batch view 3 height width"],
    cameras: Cameras,
) -> PriorMaps:
    """What the three stages need of the matcher's result."""
    height, width = images.shape[-2:]
    px = pixels_per_inverse_depth(cameras, height, width)
    layers = layered_stages(prior, images, cameras)
    evidence = _evidence(prior, px)
    coarse, middle, fine = (_stage_prior(layer, evidence, prior, px) for layer in layers)
    return PriorMaps((coarse, middle, fine), prior.candidates, px, prior.coarse_cost)


def squash(
    difference: Float[Tensor, "batch view *rest"], px: Float[Tensor, "batch view"]
) -> Float[Tensor, "batch view *rest"]:
    """Differences of inverse depth as displacements in (-1, 1)."""
    scale = px.reshape(*px.shape, *[1] * (difference.dim() - 2))
    return torch.tanh(difference * scale / SQUASH_PX)


def _evidence(prior: MatchingPrior, px: Tensor) -> Float[Tensor, "batch view evidence h w"]:
    offsets = squash(prior.candidates - prior.inverse_depth[:, :, None], px)
    return torch.cat([prior.evidence, prior.candidate_cost, offsets], dim=2)


def _stage_prior(
    layer: LayeredStage, evidence: Tensor, prior: MatchingPrior, px: Tensor
) -> StagePrior:
    inner = layer.inverse_depth
    if layer.padding:
        p = layer.padding
        inner = inner[..., p:-p, p:-p]
    pooled = pooled_maps(evidence, layer.stride)
    surface = pooled_maps(prior.inverse_depth[:, :, None], layer.stride)
    pushed = squash(inner[:, :, None] - surface, px)
    return StagePrior(
        inverse_depth=layer.inverse_depth,
        color=layer.color,
        sigma_px=layer.sigma_px,
        opacity_logit=torch.logit(layer.opacity, eps=1e-4),
        evidence=torch.cat([pooled, pushed], dim=2),
        padding=layer.padding,
    )


def pooled_maps(
    maps: Float[Tensor, "batch view channels height width"], stride: int
) -> Float[Tensor, "batch view channels rows cols"]:
    """Means over ``stride`` x ``stride`` pixels."""
    if stride == 1:
        return maps
    return F.avg_pool2d(maps.flatten(0, 1), stride).unflatten(0, maps.shape[:2])
