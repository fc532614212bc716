"""Raw per-pixel channels to Gaussians (HiSplat, Gaussian adapter; no parameters of its own).

The parametrisation is the published one: raw channels are
[image offset 2 | scale 3 | quaternion (x, y, z, w) 4 | harmonics 3 x K, channel-major].
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .cameras import Cameras
from .gaussians import SH_C0, Gaussians, matrix_to_quaternion, multiply_quaternions
from .published_colors import published_rotation, published_to_standard
from .spherical_harmonics import MAX_DEGREE, rotation_of_harmonics

SCALE_MIN, SCALE_MAX = 0.5, 15.0  # in units of a tenth of the sum of both pixel sides
OFFSETS, SCALES, QUATERNIONS = slice(0, 2), slice(2, 5), slice(5, 9)
HARMONICS_START = 9


def raw_channels(sh_degree: int) -> int:
    """Number of raw channels a stage predicts: 84 for degree 4, 12 for degree 0."""
    return HARMONICS_START + 3 * (sh_degree + 1) ** 2


def scale_logit(sigma_px: float) -> float:
    """The raw scale channel of a Gaussian whose standard deviation is ``sigma_px`` stage pixels.

    Raises:
        ValueError: outside the range that the parametrisation reaches, 0.1 to 3 pixels.
    """
    fraction = (5 * sigma_px - SCALE_MIN) / (SCALE_MAX - SCALE_MIN)
    if not 0 < fraction < 1:
        raise ValueError(f"Expected a standard deviation in (0.1, 3) stage pixels, got {sigma_px}.")
    return math.log(fraction / (1 - fraction))


def raw_of_colors(
    colors: Float[Tensor, "batch view 3 height width"], sigma_px: float, sh_degree: int
) -> Float[Tensor, "batch view raw height width"]:
    """Raw channels of round, plainly coloured Gaussians at the pixel centres."""
    b, v, _, h, w = colors.shape
    raw = colors.new_zeros(b, v, raw_channels(sh_degree), h, w)
    raw[:, :, SCALES] = scale_logit(sigma_px)
    raw[:, :, QUATERNIONS.stop - 1] = 1
    per_channel = (sh_degree + 1) ** 2
    raw[:, :, HARMONICS_START::per_channel] = (colors - 0.5) / SH_C0
    return raw


def image_grid(
    cameras: Cameras, height: int, width: int, padding: int
) -> Float[Tensor, "height_padded width_padded 2"]:
    """Normalised image coordinates of a grid that reaches ``padding`` cells beyond the photo."""
    like = cameras.near
    x = torch.arange(-padding, width + padding, device=like.device, dtype=like.dtype)
    y = torch.arange(-padding, height + padding, device=like.device, dtype=like.dtype)
    return torch.stack(torch.meshgrid((x + 0.5) / width, (y + 0.5) / height, indexing="xy"), -1)


def gaussians_from_raw(
    raw: Float[Tensor, "batch view raw rows cols"],
    opacities: Float[Tensor, "batch view rows cols"],
    inverse_depth: Float[Tensor, "batch view rows cols"],
    cameras: Cameras,
    level: int,
    padding: int = 0,
    published: bool = False,
) -> Gaussians:
    """One Gaussian per view and grid cell, in the order (view, row, column).

    Args:
        raw: Channels as in the module docstring.
        opacities: In [0, 1].
        inverse_depth: 1 / z-depth in the view's own camera, > 0.
        cameras: Shape (batch, view).
        level: Stage that made them.
        padding: Grid cells beyond the photo on each side; rows = stage height + 2 padding.
        published: Colours and rounding as published; see ``HiSplatConfig.published_adapter``.
    """
    # Positions and sizes need full precision whatever the network computes in.
    with torch.autocast(raw.device.type, enabled=False):
        raw, opacities, inverse_depth = (_widened(x) for x in (raw, opacities, inverse_depth))
        return _gaussians(raw, opacities, inverse_depth, cameras, level, padding, published)


def _widened(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _gaussians(
    raw: Tensor,
    opacities: Tensor,
    inverse_depth: Tensor,
    cameras: Cameras,
    level: int,
    padding: int,
    published: bool,
) -> Gaussians:
    b, v, _, rows, cols = raw.shape
    height, width = rows - 2 * padding, cols - 2 * padding
    pixels = raw.permute(0, 1, 3, 4, 2)
    size = raw.new_tensor([width, height])
    depth = 1 / inverse_depth

    xy = image_grid(cameras, height, width, padding) + (pixels[..., OFFSETS].sigmoid() - 0.5) / size
    homogeneous = F.pad(xy, (0, 1), value=1.0)
    inverse_intrinsics = torch.linalg.inv(cameras.intrinsics)
    to_camera = torch.einsum("bvij,bvhwj->bvhwi", inverse_intrinsics, homogeneous)
    rotation = cameras.camera_to_world[..., :3, :3]
    place = _offsets_as_published if published else _offsets
    means = cameras.positions[:, :, None, None] + place(to_camera, rotation, depth)

    pixel_side = 0.1 * (inverse_intrinsics[..., :2, :2] @ (1 / size)).sum(-1)
    scales = SCALE_MIN + (SCALE_MAX - SCALE_MIN) * pixels[..., SCALES].sigmoid()
    scales = scales * (depth * pixel_side[:, :, None, None])[..., None]

    camera_quaternion = matrix_to_quaternion(rotation)[:, :, None, None]
    local = F.normalize(pixels[..., QUATERNIONS], dim=-1, eps=1e-8).roll(1, dims=-1)
    quaternions = multiply_quaternions(camera_quaternion.expand_as(local), local)

    harmonics = pixels[..., HARMONICS_START:].unflatten(-1, (3, -1)).mT
    return Gaussians(
        means=means.reshape(b, -1, 3),
        scales=scales.reshape(b, -1, 3),
        quaternions_wxyz=quaternions.reshape(b, -1, 4),
        opacities=opacities.reshape(b, -1),
        harmonics=_world_harmonics(harmonics, rotation, published).flatten(1, 3),
        level=torch.full((b, v * rows * cols), level, device=raw.device),
    )


def _offsets(
    to_camera: Float[Tensor, "batch view rows cols 3"],
    rotation: Float[Tensor, "batch view 3 3"],
    depth: Float[Tensor, "batch view rows cols"],
) -> Float[Tensor, "batch view rows cols 3"]:
    """From the camera's centre to the means, along rays of unit z-depth in camera axes."""
    return torch.einsum("bvij,bvhwj->bvhwi", rotation, to_camera * depth[..., None])


def _offsets_as_published(
    to_camera: Float[Tensor, "batch view rows cols 3"],
    rotation: Float[Tensor, "batch view 3 3"],
    depth: Float[Tensor, "batch view rows cols"],
) -> Float[Tensor, "batch view rows cols 3"]:
    """The same by way of unit rays; the last bit decides between Gaussians at equal depth."""
    ray = to_camera / to_camera.norm(dim=-1, keepdim=True)
    x, y, z = ray.split(1, dim=-1)
    right, down, forward = rotation[:, :, None, None].unbind(-1)
    world_ray = right * x + down * y + forward * z
    return world_ray * depth[..., None] / (z.abs() + 1e-8)


def _world_harmonics(
    harmonics: Float[Tensor, "batch view rows cols sh 3"],
    rotation: Float[Tensor, "batch view 3 3"],
    published: bool,
) -> Float[Tensor, "batch view rows cols kept 3"]:
    """Coefficients damped by band and turned into the world; bands above 3 are never drawn."""
    degree = round(harmonics.shape[-2] ** 0.5) - 1
    if degree == 0:
        return harmonics
    kept = min(degree, MAX_DEGREE)
    if published:
        turn = published_rotation(rotation.double(), kept)
        turn = (published_to_standard(kept).to(turn) @ turn).to(rotation)
    else:
        turn = rotation_of_harmonics(rotation, kept)
    damped = damped_by_band(harmonics[..., : (kept + 1) ** 2, :])
    return torch.einsum("bvij,bvhwjc->bvhwic", turn, damped)


def damped_by_band(harmonics: Float[Tensor, "*n sh 3"]) -> Float[Tensor, "*n sh 3"]:
    """Coefficients as the heads predict them, view dependence held back by 0.1 / 4^band."""
    degree = round(harmonics.shape[-2] ** 0.5) - 1
    bands = torch.cat([torch.full((2 * n + 1,), float(n)) for n in range(degree + 1)])
    damping = torch.where(bands == 0, 1.0, 0.1 * 0.25**bands).to(harmonics)
    return harmonics * damping[:, None]
