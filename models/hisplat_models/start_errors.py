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
from .other_photos import Glimpses, glimpses
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
    maps = torch.cat([error, drawn_inverse[:, :, None]], dim=2)
    known = []
    for seen in glimpses(cameras, mine, padding=0):
        total = _seen(maps, seen, px).sum(dim=1)
        share = total[:, 4:]
        known.append(torch.cat([total[:, :4] / share.clamp_min(1), share], dim=1))
    others = max(mine.shape[1] - 1, 1)
    return torch.stack(known, dim=1) / error.new_tensor([1, 1, 1, 1, others])[:, None, None]


def _seen(
    maps: Float[Tensor, "batch view 4 height width"],
    seen: Glimpses,
    px: Float[Tensor, "batch view"],
) -> Float[Tensor, "batch view 5 height width"]:
    """Each other view's maps at places that it sees, with a mask; 0 where it does not."""
    inside = seen.inside()
    grid = torch.where(inside[..., None], seen.xy * 2 - 1, 0.0).flatten(0, 1)
    sampled = F.grid_sample(
        maps.flatten(0, 1), grid, mode="bilinear", padding_mode="border", align_corners=False
    ).unflatten(0, inside.shape[:2])
    inverse = 1 / seen.depth.where(inside, seen.depth.new_ones(()))
    before = squash(sampled[:, :, 3] - inverse, px)[:, :, None]
    told = torch.cat([sampled[:, :, :3], before, torch.ones_like(before)], dim=2)
    return told * inside[:, :, None]
