"""Maps with their channels innermost, for inference on CPUs: the same values, faster convolutions.

A layout of memory only (torch's ``channels_last``): shapes stay (n, channels, height, width). With
gradients, and on other devices, everything here leaves maps as they are and uses torch's own
operations.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_BLOCK_PIXELS = 1024
"""Pixels whose float32 sums are still exact to about 1e-6."""


def is_inference_on_cpu(maps: Tensor) -> bool:
    """Whether the functions here may reorder and overwrite maps."""
    return maps.device.type == "cpu" and not torch.is_grad_enabled()


def channels_last(maps: Float[Tensor, "n channels height width"]) -> Tensor:
    """The maps in the layout in which they are convolved fastest."""
    if is_inference_on_cpu(maps):
        return maps.contiguous(memory_format=torch.channels_last)
    return maps


def side_by_side(maps: Sequence[Float[Tensor, "n _ height width"]]) -> Tensor:
    """The maps' channels one after the other: (n, all channels, height, width)."""
    if not is_inference_on_cpu(maps[0]):
        return torch.cat(list(maps), dim=1)
    # torch.cat of maps would fall back to the other layout as soon as one has a single channel.
    pixels = [channels_last(some).permute(0, 2, 3, 1) for some in maps]
    return torch.cat(pixels, dim=-1).permute(0, 3, 1, 2)


def joined(maps: Sequence[Float[Tensor, "batch view _ height width"]]) -> Tensor:
    """The same for maps of views: (batch * view, all channels, height, width)."""
    return side_by_side([some.flatten(0, 1) for some in maps])


def relu(maps: Tensor) -> Tensor:
    """Rectified maps; overwrites them unless gradients are recorded."""
    return F.relu(maps, inplace=is_inference_on_cpu(maps))


def silu(maps: Tensor) -> Tensor:
    """SiLU of the maps; overwrites them unless gradients are recorded."""
    return F.silu(maps, inplace=is_inference_on_cpu(maps))


def added(maps: Tensor, others: Tensor) -> Tensor:
    """The sum; overwrites ``maps`` unless gradients are recorded."""
    if is_inference_on_cpu(maps) and maps.dtype == others.dtype:
        return maps.add_(others)
    return maps + others


def instance_norm(
    maps: Float[Tensor, "n channels height width"], eps: float = 1e-5
) -> Float[Tensor, "n channels height width"]:
    """Every channel of every map with zero mean and unit variance."""
    if not _stays_channels_last(maps):
        return F.instance_norm(maps, eps=eps)
    blocks = _blocks(maps)
    if blocks == 1:
        return F.group_norm(maps, maps.shape[1], eps=eps)
    return _normalised_in_blocks(maps, maps.shape[1], blocks, eps)


class Pointwise(nn.Conv2d):
    """A 1x1 convolution; torch's own is slow on channels-last maps with a single thread."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, bias: bool = True):
        super().__init__(in_channels, out_channels, 1, stride, bias=bias)

    def forward(self, input: Float[Tensor, "n c_in height width"]) -> Tensor:
        """Maps of (n, c_out, height / stride, width / stride), rounded up."""
        if not _stays_channels_last(input):
            return super().forward(input)
        rows, columns = self.stride
        pixels = input.permute(0, 2, 3, 1)[:, ::rows, ::columns]
        return F.linear(pixels, self.weight[:, :, 0, 0], self.bias).permute(0, 3, 1, 2)


class GroupNorm(nn.GroupNorm):
    """``nn.GroupNorm`` that keeps its precision on large maps in channels-last layout."""

    def forward(self, input: Float[Tensor, "n channels height width"]) -> Tensor:
        """Groups of channels with zero mean and unit variance, then scaled and shifted."""
        blocks = _blocks(input) if _stays_channels_last(input) else 1
        if blocks == 1:
            return super().forward(input)
        normalised = _normalised_in_blocks(input, self.num_groups, blocks, self.eps)
        return torch.addcmul(
            self.bias[:, None, None], normalised, self.weight[:, None, None], out=normalised
        )


def _stays_channels_last(maps: Tensor) -> bool:
    return (
        maps.dim() == 4
        and is_inference_on_cpu(maps)
        and maps.is_contiguous(memory_format=torch.channels_last)
    )


def _blocks(maps: Tensor) -> int:
    """Into how many equal blocks of rows maps are split to be normalised."""
    if maps.dtype != torch.float32 or torch.compiler.is_compiling():
        return 1  # compiled sums are pairwise; bfloat16 has no digits to lose
    height, width = maps.shape[-2:]
    wanted = max(1, height * width // _BLOCK_PIXELS)
    return max(count for count in range(1, wanted + 1) if height % count == 0)


def _normalised_in_blocks(maps: Tensor, groups: int, blocks: int, eps: float) -> Tensor:
    """Group norm without weights.

    Torch adds up all pixels of a channels-last map one after the other in float32, which costs
    four digits at 256 x 256. Here blocks of rows are normalised first; their statistics, joined
    in float64, then correct every block.
    """
    n, channels, height, width = maps.shape
    rows = height // blocks
    split = maps.permute(0, 2, 3, 1).reshape(n * blocks, rows, width, channels)
    normed, mean, rstd = torch.native_group_norm(
        split.permute(0, 3, 1, 2), None, None, n * blocks, channels, rows * width, groups, eps
    )
    mean, rstd = (x.double().view(n, blocks, groups) for x in (mean, rstd))
    center = mean.mean(dim=1, keepdim=True)
    variance = (rstd**-2 - eps + (mean - center) ** 2).mean(dim=1, keepdim=True)
    all_rstd = (variance + eps) ** -0.5
    scale, shift = (
        x.to(maps.dtype).flatten(0, 1).repeat_interleave(channels // groups, 1)[..., None, None]
        for x in (all_rstd / rstd, (mean - center) * all_rstd)
    )
    torch.addcmul(shift, normed, scale, out=normed)
    return normed.permute(0, 2, 3, 1).reshape(n, height, width, channels).permute(0, 3, 1, 2)
