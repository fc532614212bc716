"""What JPEG loses, without the file: chroma at half the resolution, rounded cosine coefficients.

Baseline JPEG (ITU-T T.81) as photos are usually stored (JFIF colours, 4:2:0, the example tables of
Annex K scaled by the quality). Entropy coding loses nothing and is left out.
"""

import math

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

LUMA_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""T.81 table K.1."""
CHROMA_TABLE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
"""T.81 table K.2."""
TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
"""JFIF 1.02: luma and the two colour differences, the latter around zero."""

Channel = Float32[Tensor, "image height width"]


def through_jpeg(
    pictures: Float32[Tensor, "image height width 3"], qualities: Float32[Tensor, " image"]
) -> Float32[Tensor, "image height width 3"]:
    """Pictures in [0, 1] as they are read back after being stored with these qualities (1-100)."""
    height, width = pictures.shape[1:3]
    levels = (pictures.clamp(0, 1) * 255 + 0.5).floor().permute(0, 3, 1, 2)
    # Whole blocks of both resolutions.
    levels = pad(levels, (0, -width % 16, 0, -height % 16), "replicate")
    # Written out, as matrix units may round to 10 bits.
    luma, blue, red = (
        row[0] * levels[:, 0] + row[1] * levels[:, 1] + row[2] * levels[:, 2] for row in TO_YCC
    )
    luma = _quantised(torch.round(luma) - 128, LUMA_TABLE, qualities) + 128
    blue, red = (
        _enlarged(_quantised(_halved(channel), CHROMA_TABLE, qualities)) for channel in (blue, red)
    )
    colours = (luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue)
    read = torch.stack(colours, dim=-1).round().clamp(0, 255) / 255
    return read[:, :height, :width]


def _halved(channel: Channel) -> Float32[Tensor, "image half_height half_width"]:
    return avg_pool2d(channel.round(), 2).round()


def _enlarged(channel: Channel) -> Float32[Tensor, "image double_height double_width"]:
    """Twice the size: each value is 3/4 of the nearer and 1/4 of the farther one, both ways."""
    for axis in (1, 2):
        along = channel.movedim(axis, -1)
        sides = pad(along, (1, 1), "replicate")
        before, after = sides[..., :-2], sides[..., 2:]
        finer = torch.stack([0.75 * along + 0.25 * before, 0.75 * along + 0.25 * after], dim=-1)
        channel = finer.flatten(-2).movedim(-1, axis)
    return channel.round()


def _quantised(
    channel: Channel, table: tuple[tuple[int, ...], ...], qualities: Float32[Tensor, " image"]
) -> Channel:
    """A channel (around zero) whose 8x8 blocks went through rounded cosine coefficients."""
    steps = _steps(torch.tensor(table, device=channel.device), qualities)[:, None, None]
    cosines = _cosines(channel.device)
    blocks = channel.unflatten(2, (-1, 8)).unflatten(1, (-1, 8)).transpose(2, 3)
    coefficients = _transformed(blocks, cosines)
    restored = _transformed((coefficients / steps).round() * steps, cosines.T)
    return restored.round().clamp(-128, 127).transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _steps(table: Tensor, qualities: Float32[Tensor, " image"]) -> Float32[Tensor, "image 8 8"]:
    """Quantisation steps by quality, as the Independent JPEG Group scales them."""
    quality = qualities.clamp(1, 100)
    percent = torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality)
    return ((table * percent[:, None, None] + 50) / 100).floor().clamp(1, 255)


def _cosines(device: torch.device) -> Float32[Tensor, "8 8"]:
    """The orthonormal cosine transform of eight values."""
    place, frequency = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="xy")
    cosines = 0.5 * torch.cos(math.pi * (2 * place + 1) * frequency / 16)
    cosines[0] /= math.sqrt(2)
    return cosines.to(device)


def _transformed(
    blocks: Float32[Tensor, "*block 8 8"], matrix: Float32[Tensor, "8 8"]
) -> Float32[Tensor, "*block 8 8"]:
    """``matrix @ block @ matrix.T``, in full single precision whatever matrix units may do."""
    rows = (matrix[:, :, None] * blocks[..., None, :, :]).sum(dim=-2)
    return (rows[..., None, :] * matrix).sum(dim=-1)
