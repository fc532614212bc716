"""Which part of a target view at least one photo sees."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import grid_sample

from hisplat_models.cameras import Cameras

TOLERANCE = 0.05
"""A point counts as seen up to this share of its depth behind the photo's surface."""


def seen_by_a_photo(
    target_depth: Float[Tensor, "target height width"],
    targets: Cameras,
    photo_depth: Float[Tensor, "photo photo_height photo_width"],
    photos: Cameras,
) -> Bool[Tensor, "target height width"]:
    """True where the target's surface lies in the frame of a photo and nothing hides it there.

    Depths are z-depths of one scene drawn at both sets of cameras, 0 where it has no surface.
    """
    points = targets.positions[:, None, None] + target_depth[..., None] * targets.rays(
        *target_depth.shape[-2:]
    )
    count, height, width = target_depth.shape
    projected = photos.project(points.reshape(1, -1, 3).expand(len(photo_depth), -1, -1))
    x, y, depth = projected.unbind(dim=-1)
    in_frame = (depth > 0) & (x >= 0) & (x <= 1) & (y >= 0) & (y <= 1)
    grid = torch.where(in_frame[..., None], projected[..., :2] * 2 - 1, -2.0)
    surface = grid_sample(
        photo_depth[:, None], grid[:, :, None], mode="nearest", align_corners=False
    )[:, 0, :, 0]
    visible = in_frame & (depth < surface * (1 + TOLERANCE))
    return visible.any(dim=0).view(count, height, width) & (target_depth > 0)
