"""Scenes of more than two photos: what earlier photos show already is made fainter in later ones.

Two photos' Gaussians of one surface blur each other a little, those of four clearly: no two
estimates of a surface are in quite the same place, and a view shows some of each. So the first two
photos stand, and of every further one only what they do not show keeps its opacity. The rest stays,
faint: it fills where the earlier photos' Gaussians open, in views from the later one's side. The
coarsest level, a guess at what lies behind everything, goes beyond each photo's frame; where that
of an earlier photo goes, a later one's is a repetition too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import Gaussians
from hisplat_models.network import HiSplatOutput
from hisplat_models.refinement import photo_of_each
from hisplat_models.stage import StageOutput

from .capture_fusion import Fragment, FusionSettings, Surface, chosen, known
from .stage_depths import footprints, stage_depths, without_padding


@dataclass(frozen=True)
class OverlapSettings:
    """When a Gaussian is a repetition, and what becomes of it."""

    repeated_opacity: float = 0.2
    """Factor on the opacity of what an earlier photo shows."""
    fusion: FusionSettings = field(default_factory=FusionSettings)
    """When an earlier photo shows the same."""


DEFAULT = OverlapSettings()


def without_repetition(
    output: HiSplatOutput,
    images: Float[Tensor, "photo 3 height width"],
    cameras: Cameras,
    settings: OverlapSettings = DEFAULT,
) -> Gaussians:
    """The scene (1, n) with all Gaussians, those of the third photo on fainter where repeated.

    Scenes of two photos stay as they are; so do those of networks without matching, which have
    learned themselves how many photos' Gaussians go together.

    Args:
        output: Of one scene.
        images: RGB in [0, 1], as the network got them.
        cameras: Theirs, shape (photo,).
        settings: See there.
    """
    scene = output.gaussians
    if len(images) == 2 or output.prior is None:
        return scene
    repeated = _repeated(output, images.cpu(), cameras.to("cpu"), settings.fusion)
    factor = torch.where(repeated, settings.repeated_opacity, 1.0).to(scene.opacities)
    return replace(scene, opacities=scene.opacities * factor)


def _repeated(
    output: HiSplatOutput, images: Tensor, cameras: Cameras, settings: FusionSettings
) -> Bool[Tensor, "n"]:
    """Which Gaussians show what the photos before theirs, the first two or more, show as finely."""
    depths = [stage_depths(stage, cameras) for stage in output.stages]
    sizes = [
        footprints(depth, stage, cameras)
        for depth, stage in zip(depths, output.stages, strict=True)
    ]
    scene = Fragment(output.gaussians.to("cpu")[0], torch.cat(sizes))
    surfaces = _surfaces(without_padding(depths[-1], output.stages[-1].padding), images, cameras)
    photo = photo_of_each(scene.gaussians.level, len(images))
    reached = _reached(scene.gaussians, output.stages, cameras)
    repeated = torch.zeros(len(photo), dtype=torch.bool)
    for later in range(2, len(images)):
        own = photo == later
        told = known(chosen(scene, own), surfaces[:later], settings)
        repeated[own] = told | reached[:later, own].any(dim=0)
    return repeated


def _reached(
    gaussians: Gaussians, stages: Sequence[StageOutput], cameras: Cameras
) -> Bool[Tensor, "photo n"]:
    """Which Gaussians of a level that goes beyond its photo lie where each photo's level goes."""
    reached = torch.zeros(len(cameras.near), gaussians.count, dtype=torch.bool)
    for level, stage in enumerate(stages):
        if stage.padding == 0:
            continue
        rows, columns = stage.opacities.shape[-2:]
        right, below = 1 + stage.padding / columns, 1 + stage.padding / rows
        of_level = gaussians.level == level
        for photo, within in enumerate(reached):
            x, y, depth = cameras[photo].project(gaussians.means[of_level]).unbind(dim=-1)
            inside = (x > 1 - right) & (x < right) & (y > 1 - below) & (y < below)
            within[of_level] = inside & (depth > 0)
    return reached


def _surfaces(depth: Float[Tensor, "photo h w"], images: Tensor, cameras: Cameras) -> list[Surface]:
    """What each photo shows. Guesses count as well: two of one place are no better than one."""
    colors = F.adaptive_avg_pool2d(images, (depth.shape[-2], depth.shape[-1]))
    everywhere = torch.ones_like(depth[0], dtype=torch.bool)
    return [
        Surface(
            cameras[photo],
            (1 / depth[photo]).half(),
            everywhere,
            (colors[photo] * 255).round().to(torch.uint8),
        )
        for photo in range(len(images))
    ]
