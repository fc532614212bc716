"""Which intrinsics a renderer projects with."""

import torch
from jaxtyping import Float
from torch import Tensor

from ..cameras import Cameras
from .settings import RasterizationSettings


def projection_px(
    cameras: Cameras, image_size: tuple[int, int], settings: RasterizationSettings
) -> Float[Tensor, "*batch 3 3"]:
    """The intrinsics in pixels of an image of (height, width) that the settings ask for."""
    if settings.frustum == "symmetric":
        cameras = Cameras(
            cameras.camera_to_world,
            symmetric_intrinsics(cameras.intrinsics),
            cameras.near,
            cameras.far,
        )
    return cameras.intrinsics_px(*image_size)


def symmetric_intrinsics(intrinsics: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Normalised intrinsics of the same field of view about the image centre.

    The field of view is the angle between the rays through the middles of two opposite image
    borders. Equal to ``intrinsics`` where these have a central principal point and no skew.
    """
    k = intrinsics.double()
    borders = k.new_tensor([[0, 0.5, 1], [1, 0.5, 1], [0.5, 0, 1], [0.5, 1, 1]])
    left, right, top, bottom = (borders @ torch.linalg.inv(k).mT).unbind(-2)
    focal_x, focal_y = 0.5 / _tan_half_angle(left, right), 0.5 / _tan_half_angle(top, bottom)
    zero, one = torch.zeros_like(focal_x), torch.ones_like(focal_x)
    rows = [focal_x, zero, 0.5 * one, zero, focal_y, 0.5 * one, zero, zero, one]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3)).to(intrinsics)


def _tan_half_angle(
    a: Float[Tensor, "*batch 3"], b: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch"]:
    """tan(angle / 2) = sin / (1 + cos), which unlike an arccosine is exact for small angles."""
    sine = torch.linalg.cross(a, b).norm(dim=-1)
    return sine / (a.norm(dim=-1) * b.norm(dim=-1) + (a * b).sum(-1))
