"""Maps with their channels innermost, for inference on CPUs: the same values, faster convolutions.

A layout of memory only (torch's ``channels_last``): shapes stay (n, channels, height, width). With
gradients, and on other devices, everything here leaves maps as they are and uses torch's own
operations.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_BLOCK_PIXELS = 1024
"""Pixels whose float32 sums are still exact to about 1e-6."""


def channels_last(maps: Float[Tensor, "n channels height width"]) -> Tensor:
    """The maps in the layout in which they are convolved fastest."""
    if maps.device.type == "cpu" and not torch.is_grad_enabled():
        return maps.contiguous(memory_format=torch.channels_last)
    return maps


def joined(maps: list[Float[Tensor, "batch view _ height width"]]) -> Tensor:
    """Maps side by side, one map per view: (batch * view, all channels, height, width)."""
    return torch.cat([channels_last(some.flatten(0, 1)) for some in maps], dim=1)


def relu(maps: Tensor) -> Tensor:
    """Rectified maps; overwrites them unless gradients are recorded."""
    return F.relu(maps, inplace=not torch.is_grad_enabled())


def silu(maps: Tensor) -> Tensor:
    """SiLU of the maps; overwrites them unless gradients are recorded."""
    return F.silu(maps, inplace=not torch.is_grad_enabled())


def added(maps: Tensor, others: Tensor) -> Tensor:
    """The sum; overwrites ``maps`` unless gradients are recorded."""
    return maps + others if torch.is_grad_enabled() else maps.add_(others)


def instance_norm(
    maps: Float[Tensor, "n channels height width"], eps: float = 1e-5
) -> Float[Tensor, "n channels height width"]:
    """Every channel of every map with zero mean and unit variance."""
    if not _stays_channels_last(maps):
        return F.instance_norm(maps, eps=eps)
    return _normalised(maps, maps.shape[1], eps)


class GroupNorm(nn.GroupNorm):
    """``nn.GroupNorm`` that keeps its precision on large maps in channels-last layout."""

    def forward(self, input: Float[Tensor, "n channels height width"]) -> Tensor:
        """Groups of channels with zero mean and unit variance, then scaled and shifted."""
        if not _stays_channels_last(input):
            return super().forward(input)
        normalised = _normalised(input, self.num_groups, self.eps)
        weight, bias = self.weight[:, None, None], self.bias[:, None, None]
        return torch.addcmul(bias.to(input.dtype), normalised, weight.to(input.dtype))


def _stays_channels_last(maps: Tensor) -> bool:
    return (
        maps.device.type == "cpu"
        and maps.dim() == 4
        and not torch.is_grad_enabled()
        and maps.is_contiguous(memory_format=torch.channels_last)
    )


def _normalised(maps: Tensor, groups: int, eps: float) -> Tensor:
    """Group norm without weights.

    Torch adds up all pixels of a channels-last map one after the other in float32, which costs
    four digits at 256 x 256. Here rows are normalised in blocks first; the statistics of the
    blocks, joined in float64, then correct every block.
    """
    n, channels, height, width = maps.shape
    blocks = _blocks(height, width) if maps.dtype == torch.float32 else 1
    if blocks == 1:
        return F.group_norm(maps, groups, eps=eps)
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


def _blocks(height: int, width: int) -> int:
    """Into how many equal blocks of rows a map is split; 1 if it is small or does not divide."""
    wanted = max(1, height * width // _BLOCK_PIXELS)
    return max(count for count in range(1, wanted + 1) if height % count == 0)
