"""The best scene that needs no learning: three levels of Gaussians on top of matching.

The fine level holds one small Gaussian per pixel. Two coarse levels lie behind it, pushed back, and
show only where the fine one opens: behind edges (a quarter of the resolution) and beyond what
either photo saw (an eighth, padded beyond the photo).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, max_pool2d, pad

from .cameras import Cameras
from .gaussian_head import gaussians_from_raw, raw_of_colors
from .gaussians import Gaussians
from .matching import CANDIDATE_NAMES, MatchingPrior
from .other_photos import colors_in_other_photos, glimpses


@dataclass(frozen=True)
class LayeredSettings:
    """How the levels are laid out; sizes in pixels of each level."""

    fine_sigma_px: float = 0.2
    """Small, because renderers widen every Gaussian by the pixel's own footprint."""
    fine_opacity: float = 0.8
    """Opacity of a fine Gaussian without left-right agreement."""
    agreement_opacity: float = 0.19
    """Added for perfect agreement."""
    agreement_px: float = 1.5
    """Left-right error at which 1/e of it is left."""
    fine_sharpening: float = 0.4
    """Strength of the unsharp mask on the fine level's colours: drawing widens every Gaussian, and
    the mean of two photos is a little soft. At .3 to .5 photos gain 0.03 to 0.08 dB and 0.004 of
    SSIM."""
    sharpening_sigma_px: float = 0.7
    """Standard deviation of that mask."""
    middle_push: float = 0.92
    """Factor on the background's inverse depth, quarter resolution."""
    middle_sigma_px: float = 1.0
    """Standard deviation at quarter resolution."""
    middle_opacity: float = 0.97
    """Opacity at quarter resolution."""
    coarse_push: float = 0.3
    """Factor on the background's inverse depth, eighth resolution."""
    coarse_sigma_px: float = 1.0
    """Standard deviation at eighth resolution."""
    coarse_opacity: float = 0.97
    """Opacity at eighth resolution."""
    coarse_margin: float = 0.2
    """Width of the border around the coarsest level, share of the photo's long side."""
    color_tolerance: float = 0.05
    """Relative difference from the background's inverse depth at which a pixel's colour counts
    1/e as much for it."""
    color_radius_px: int = 16
    """Distance over which colours of the background are gathered."""
    own_color_weight: float = 5.0
    """Say of a cell's own pixels, where they lie no nearer than its background, against all
    that was gathered around it."""
    other_color_weight: float = 20.0
    """Say of another photo that sees the cell, against all that its own photo tells."""
    beyond_push: float = 0.6
    """Factor on the background's inverse depth where the coarsest level goes beyond all photos:
    nothing is known there that it could hide."""
    beyond_margin: float = 0.04
    """How far beyond, share of a photo's sides; Gaussians of that level reach some way in."""


@dataclass(frozen=True)
class LayeredStage:
    """Maps of one level, with everything a Gaussian head needs.

    Attributes:
        inverse_depth: 1 / z-depth, > 0.
        color: RGB in [0, 1].
        opacity: In [0, 1].
        sigma_px: Standard deviation in cells of this level.
        padding: Cells on every side that lie beyond the photo; the maps include them.
        stride: Photo pixels to a cell.
    """

    inverse_depth: Float[Tensor, "batch view height width"]
    color: Float[Tensor, "batch view 3 height width"]
    opacity: Float[Tensor, "batch view height width"]
    sigma_px: float
    padding: int
    stride: int


_DEFAULT = LayeredSettings()


def layered_stages(
    prior: MatchingPrior,
    images: Float[Tensor, "batch view 3 height width"],
    cameras: Cameras,
    settings: LayeredSettings = _DEFAULT,
) -> tuple[LayeredStage, LayeredStage, LayeredStage]:
    """The three levels, coarsest first: strides 8 (padded), 4 and 1.

    Args:
        prior: What ``match_views`` found for ``images``.
        images: RGB in [0, 1].
        cameras: Shape (batch, view).
        settings: Constants.
    """
    middle_depth = _background_behind_surfaces(prior, cameras, 4)
    middle_color = _color_behind(prior, cameras, middle_depth, 4, settings)
    coarse_depth = -max_pool2d(-middle_depth, 2)
    coarse_color = _cell_means(middle_color, 2)
    padding = -(-round(settings.coarse_margin * max(images.shape[-2:])) // 8)
    agreement = torch.exp(-((prior.consistency_px / settings.agreement_px) ** 2)) * prior.trusted
    return (
        LayeredStage(
            inverse_depth=_pushed_far_back(coarse_depth, cameras, padding, settings),
            color=_replicated(coarse_color, padding),
            opacity=_replicated(torch.full_like(coarse_depth, settings.coarse_opacity), padding),
            sigma_px=settings.coarse_sigma_px,
            padding=padding,
            stride=8,
        ),
        LayeredStage(
            inverse_depth=middle_depth * settings.middle_push,
            color=middle_color,
            opacity=torch.full_like(middle_depth, settings.middle_opacity),
            sigma_px=settings.middle_sigma_px,
            padding=0,
            stride=4,
        ),
        LayeredStage(
            inverse_depth=prior.inverse_depth,
            color=_sharpened(prior.color, settings),
            opacity=settings.fine_opacity + settings.agreement_opacity * agreement,
            sigma_px=settings.fine_sigma_px,
            padding=0,
            stride=1,
        ),
    )


def _background_behind_surfaces(
    prior: MatchingPrior, cameras: Cameras, cell: int
) -> Float[Tensor, "batch view rows columns"]:
    """Inverse depth of the background, a cell each; where no other photo looks, behind the surface.

    What only one photo sees has its depth from afar, and the background may come out nearer: a
    photo's own backdrop would then hide its finest Gaussians. Where another photo looks, that is
    left alone: it covers wrong depths, and refinement does well with it.
    """
    background = prior.candidates[:, :, CANDIDATE_NAMES.index("background"), ::cell, ::cell]
    surface = _cell_means(prior.inverse_depth[:, :, None], cell)[:, :, 0]
    elsewhere = torch.stack(
        [seen.inside().any(dim=1) for seen in glimpses(cameras, surface, padding=0)], dim=1
    )
    return torch.where(elsewhere, background, torch.minimum(background, surface))


def _pushed_far_back(
    depth: Float[Tensor, "batch view rows columns"],
    cameras: Cameras,
    padding: int,
    settings: LayeredSettings,
) -> Float[Tensor, "batch view rows_padded columns_padded"]:
    """Inverse depth of the coarsest level: far back, but less so where no photo looks."""
    background = _replicated(depth, padding)
    beyond = background * settings.beyond_push
    looked_at = torch.stack(
        [g.inside(settings.beyond_margin).any(dim=1) for g in glimpses(cameras, beyond, padding)],
        dim=1,
    )
    rows, columns = depth.shape[-2:]
    looked_at[..., padding : padding + rows, padding : padding + columns] = True
    return torch.where(looked_at, background * settings.coarse_push, beyond)


def _replicated(
    maps: Float[Tensor, "*batch height width"], padding: int
) -> Float[Tensor, "*batch height_padded width_padded"]:
    """The maps with their borders repeated."""
    flat = maps.flatten(0, -3)[:, None]
    return pad(flat, (padding,) * 4, mode="replicate")[:, 0].unflatten(0, maps.shape[:-2])


def _sharpened(
    color: Float[Tensor, "batch view 3 height width"], settings: LayeredSettings
) -> Float[Tensor, "batch view 3 height width"]:
    """The colours with an unsharp mask, still in [0, 1]."""
    reach = math.ceil(3 * settings.sharpening_sigma_px)
    x = torch.arange(-reach, reach + 1, dtype=color.dtype, device=color.device)
    kernel = torch.exp(-0.5 * (x / settings.sharpening_sigma_px) ** 2)
    kernel = kernel / kernel.sum()
    flat = pad(color.flatten(0, 2)[:, None], (reach,) * 4, mode="replicate")
    soft = conv2d(conv2d(flat, kernel[None, None, :, None]), kernel[None, None, None])
    soft = soft[:, 0].unflatten(0, color.shape[:3])
    return (color + settings.fine_sharpening * (color - soft)).clamp(0, 1)


def _color_behind(
    prior: MatchingPrior,
    cameras: Cameras,
    depth: Float[Tensor, "batch view rows columns"],
    cell: int,
    settings: LayeredSettings,
) -> Float[Tensor, "batch view 3 rows columns"]:
    """Colours of the middle level: what another photo sees there, else the background's.

    Without a background around it, a cell behind an object has the object's own colours; another
    photo may look past the object at the very place where the cell would show.
    """
    color = _background_color(prior, depth, cell, settings)
    other, count = colors_in_other_photos(
        prior, cameras, depth * settings.middle_push, cell, settings.color_tolerance
    )
    weight = settings.other_color_weight * count[:, :, None]
    return (color + weight * other) / (1 + weight)


def _background_color(
    prior: MatchingPrior,
    depth: Float[Tensor, "batch view rows columns"],
    cell: int,
    settings: LayeredSettings,
) -> Float[Tensor, "batch view 3 rows columns"]:
    """Colour of what lies at a cell's (background) depth.

    Trusted pixels around it that lie near that depth are gathered. The cell's own pixels, trusted
    or not, weigh more if they are background themselves: what was gathered around would smear into
    evenly coloured areas without a match, such as sky.
    """
    reach = settings.color_radius_px // cell
    known = prior.trusted[..., None, :, :]
    samples = torch.cat([prior.color, prior.inverse_depth[..., None, :, :], known], dim=2)
    own = _cell_means(prior.color, cell)
    rows, columns = depth.shape[-2:]
    weight_sum = torch.full_like(depth, 1e-3)
    color_sum = own * 1e-3
    for phase_y in range(cell // 4, cell, cell // 2):
        for phase_x in range(cell // 4, cell, cell // 2):
            lattice = samples[..., phase_y::cell, phase_x::cell]
            lattice = pad(lattice, (reach,) * 4)
            for dy in range(2 * reach + 1):
                for dx in range(2 * reach + 1):
                    window = lattice[..., dy : dy + rows, dx : dx + columns]
                    near_by = ((dy - reach) ** 2 + (dx - reach) ** 2) * (2.0 / reach**2)
                    off = (window[:, :, 3] / depth - 1) / settings.color_tolerance
                    weight = torch.exp(-off.square() - near_by) * window[:, :, 4]
                    weight_sum += weight
                    color_sum += weight[:, :, None] * window[:, :, :3]
    gathered = color_sum / weight_sum[:, :, None]
    surface = depth.repeat_interleave(cell, -2).repeat_interleave(cell, -1)
    nearer = (prior.inverse_depth / surface - 1).clamp_min(0) / settings.color_tolerance
    say = settings.own_color_weight * torch.exp(-nearer.square())[:, :, None]
    return (gathered + _cell_means(say * prior.color, cell)) / (1 + _cell_means(say, cell))


def _cell_means(
    maps: Float[Tensor, "batch view channel height width"], cell: int
) -> Float[Tensor, "batch view channel rows columns"]:
    return avg_pool2d(maps.flatten(0, 1), cell).unflatten(0, maps.shape[:2])


def layered_gaussians(stages: tuple[LayeredStage, ...], cameras: Cameras) -> Gaussians:
    """The analytic scene (batch, n): isotropic, plain colours, level = position in ``stages``."""
    return Gaussians.cat(
        [stage_gaussians(stage, cameras, level) for level, stage in enumerate(stages)]
    )


def stage_gaussians(stage: LayeredStage, cameras: Cameras, level: int) -> Gaussians:
    """One Gaussian per cell at its centre; order: view, row, column."""
    raw = raw_of_colors(stage.color, stage.sigma_px, sh_degree=0)
    return gaussians_from_raw(
        raw, stage.opacity, stage.inverse_depth, cameras, level, stage.padding
    )
