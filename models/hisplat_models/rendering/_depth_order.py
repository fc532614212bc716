"""By which depths Gaussians are sorted."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..cameras import Cameras
from .settings import RasterizationSettings


@torch.no_grad()
def sorting_depths(
    means: Float[Tensor, "batch n 3"], cameras: Cameras, settings: RasterizationSettings
) -> Float[Tensor, "batch view n"] | None:
    """The z-depths to sort by (float32), or None for the renderer's own.

    Sums are written out, so that no library's order of additions decides.
    """
    if settings.depth_order == "exact":
        return None
    third_row = torch.linalg.inv(cameras.camera_to_world.float())[..., 2, :, None]
    x, y, z = means.float()[:, None].unbind(-1)
    a, b, c, d = third_row.unbind(-2)
    return x * a + y * b + z * c + d
