"""Where a stage's Gaussians lie in their own views, and how large their pixels are there."""

import torch
from jaxtyping import Float
from torch import Tensor

from hisplat_models.cameras import Cameras
from hisplat_models.stage import StageOutput


def stage_depths(stage: StageOutput, cameras: Cameras) -> Float[Tensor, "view rows columns"]:
    """The z-depths in their own views of the first scene's Gaussians, on the padded grid, > 0.

    Args:
        stage: Of one scene or more.
        cameras: Of the first one's views, shape (view,), on the CPU.
    """
    views, (rows, columns) = len(cameras.near), stage.raw.shape[-2:]
    means = stage.gaussians.means[0].cpu().unflatten(0, (views, rows * columns))
    depth = torch.stack([cameras[view].project(means[view])[:, 2] for view in range(views)])
    return depth.clamp_min(1e-6).unflatten(1, (rows, columns))


def footprints(
    depth: Float[Tensor, "view rows columns"], stage: StageOutput, cameras: Cameras
) -> Float[Tensor, "n"]:
    """How wide a cell of the stage's grid is on the surface, world units, in Gaussians' order."""
    cell = depth / cameras.intrinsics[:, 0, 0, None, None] / stage.opacities.shape[-1]
    return cell.flatten()


def without_padding(
    depth: Float[Tensor, "view rows columns"], padding: int
) -> Float[Tensor, "view h w"]:
    """The part of a padded grid that lies in the photo."""
    rows, columns = depth.shape[-2:]
    return depth[:, padding : rows - padding, padding : columns - padding]
