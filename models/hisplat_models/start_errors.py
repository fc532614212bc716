"""What the scene would get wrong if the finest stage kept its analytic start.

HiSplat tells each stage what the coarser ones still get wrong (Error Aware Module). Over a matching
prior the coarser stages are blurred backdrops: their error is the photo's own detail and tells
nothing about the surface. What decides how the finest Gaussians should blend is what those of
*all* photos make together, drawn from every photo's place: where a photo's pixel is spoilt by
another's Gaussians in front of it, and whether one's own spoil another photo.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .cameras import Cameras
from .gaussians import Gaussians
from .prior_maps import pooled_maps, squash
from .rendering import Renderer

START_ERROR_CHANNELS = 10


def start_errors(
    scene: Gaussians,
    inverse_depth: Float[Tensor, "batch view image_height image_width"],
    px: Float[Tensor, "batch view"],
    cameras: Cameras,
    images: Float[Tensor, "batch view 3 image_height image_width"],
    renderer: Renderer,
    stride: int,
) -> Float[Tensor, "batch view 10 height width"]:
    """Errors of a scene at each photo's pixels, in its own view and in the other photos'.

    Args:
        scene: The coarser stages' Gaussians with the finest stage's start.
        inverse_depth: 1 / z-depth of that start in each photo's own camera.
        px: Displacement between the photos, in pixels, per unit of inverse depth.
        cameras: Of the photos, (batch, view).
        images: RGB in [0, 1].
        renderer: Draws the scene.
        stride: Photo pixels per pixel of the result along each axis.

    Returns:
        Of the own view: photo minus render (3 channels), alpha, and how far what is drawn lies
        before (> 0) the pixel's own start, in squashed pixels of displacement. Of the other
        views, where they see the pixel's start (means over them, 0 where none does): photo minus
        render (3), how far what is drawn there lies before it, and the share that sees it.
    """
    photos = pooled_maps(images, stride)
    height, width = photos.shape[-2:]
    drawn = renderer(scene, cameras, (height, width))
    error = photos - drawn.color
    drawn_inverse = drawn.alpha / drawn.depth.clamp_min(1e-12)
    mine = pooled_maps(inverse_depth[:, :, None], stride)[:, :, 0]
    before = squash(drawn_inverse - mine, px)
    own = torch.cat([error, drawn.alpha[:, :, None], before[:, :, None]], dim=2)
    return torch.cat([own, _elsewhere(error, drawn_inverse, mine, cameras, px)], dim=2)


def _elsewhere(
    error: Float[Tensor, "batch view 3 height width"],
    drawn_inverse: Float[Tensor, "batch view height width"],
    mine: Float[Tensor, "batch view height width"],
    cameras: Cameras,
    px: Float[Tensor, "batch view"],
) -> Float[Tensor, "batch view 5 height width"]:
    """What the other views know of each pixel's start."""
    height, width = mine.shape[-2:]
    maps = torch.cat([error, drawn_inverse[:, :, None]], dim=2)
    points = cameras.positions[:, :, None, None] + cameras.rays(height, width) / mine[..., None]
    points = points.flatten(2, 3)
    known = []
    for view in range(mine.shape[1]):
        total = torch.zeros_like(mine[:, :1].expand(-1, 5, -1, -1))
        for other in range(mine.shape[1]):
            if other != view:
                seen = cameras[:, other].project(points[:, view])
                total = total + _seen(maps[:, other], seen, px[:, other])
        share = total[:, 4:]
        known.append(torch.cat([total[:, :4] / share.clamp_min(1), share], dim=1))
    others = max(mine.shape[1] - 1, 1)
    return torch.stack(known, dim=1) / error.new_tensor([1, 1, 1, 1, others])[:, None, None]


def _seen(
    maps: Float[Tensor, "batch 4 height width"],
    seen: Float[Tensor, "batch n 3"],
    px: Float[Tensor, "batch"],
) -> Float[Tensor, "batch 5 height width"]:
    """One view's maps at points that it sees, with a mask; 0 where it does not."""
    b, _, height, width = maps.shape
    x, y, depth = seen.unbind(-1)
    inside = (x > 0) & (x < 1) & (y > 0) & (y < 1) & (depth > 0)
    grid = torch.where(inside[..., None], seen[..., :2] * 2 - 1, 0.0)
    sampled = F.grid_sample(
        maps, grid[:, None], mode="bilinear", padding_mode="border", align_corners=False
    )[:, :, 0]
    inverse = 1 / depth.where(inside, depth.new_ones(()))
    before = squash((sampled[:, 3] - inverse)[:, None], px[:, None])
    told = torch.cat([sampled[:, :3], before, torch.ones_like(before)], dim=1) * inside[:, None]
    return told.reshape(b, 5, height, width)
