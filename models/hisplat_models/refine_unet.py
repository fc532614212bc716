"""A U-Net of constant width in which the views attend to each other at one resolution.

The "U-Net with cross-view attention" of MVSplat (Chen et al., ECCV 2024), section 3.2, which
HiSplat (ICLR 2025), section 3.3, uses to refine the cost volume and the features of each stage.
"""

import math

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .channels_last import GroupNorm, Pointwise, added, channels_last, side_by_side, silu

_HEAD_CHANNELS = 32


def group_norm(channels: int, groups: int = 8) -> GroupNorm:
    """Group norm with at most ``groups`` groups, as many as divide both numbers."""
    return GroupNorm(math.gcd(groups, channels), channels)


class RefineUNet(nn.Module):
    """Refines maps of several views: same shape in and out.

    A fresh network is nearly a chain of convolutions: every residual branch ends in a group norm
    with zero weights and learns to contribute.

    Args:
        channels: Width of every level; heads of 32 channels each (one head below 64 channels).
        levels: Resolutions; each halves the sides.
        attention_downsample: The downsampling (1, 2, 4, ...) at which the pixels of all views
            attend to each other; None: nowhere.
    """

    def __init__(self, channels: int, levels: int, attention_downsample: int | None = None):
        super().__init__()
        rates = [2**level for level in range(levels)]
        if attention_downsample is not None and attention_downsample not in rates:
            raise ValueError(f"Expected attention at one of {rates}, got {attention_downsample}.")
        self.stem = nn.Conv2d(channels, channels, 3, padding=1)
        self.descents = nn.ModuleList(
            [
                _Descent(channels, attend=rate == attention_downsample, downsample=rate < rates[-1])
                for rate in rates
            ]
        )
        self.middle = nn.ModuleList([ResBlock(channels, channels) for _ in range(2)])
        self.ascents = nn.ModuleList(
            [
                _Ascent(channels, attend=rate == attention_downsample, upsample=rate > 1)
                for rate in reversed(rates)
            ]
        )
        self.out = nn.Conv2d(channels, channels, 3, padding=1)
        self.out_norm = group_norm(channels)

    def forward(
        self, x: Float[Tensor, "batch view c_in height width"]
    ) -> Float[Tensor, "batch view c_out height width"]:
        """Refined maps; sides that 2^(levels - 1) does not divide are rounded up inside.

        They have as many channels as the input, unless compression took some of either.
        """
        batch, views = x.shape[:2]
        h = self.stem(channels_last(x.flatten(0, 1)))
        skips = [h]
        for descent in self.descents:
            h = descent(h, views, skips)
        for block in self.middle:
            h = block(h)
        for ascent in self.ascents:
            h = ascent(h, views, skips)
        h = silu(self.out_norm(self.out(h)))
        return h.unflatten(0, (batch, views))


class _Descent(nn.Module):
    """One level on the way down; appends its maps to ``skips``."""

    def __init__(self, channels: int, attend: bool, downsample: bool):
        super().__init__()
        self.block = ResBlock(channels, channels)
        self.attention = CrossViewAttention(channels) if attend else None
        self.downsample = nn.Conv2d(channels, channels, 3, 2, padding=1) if downsample else None

    def forward(self, h: Tensor, views: int, skips: list[Tensor]) -> Tensor:
        h = self.block(h)
        if self.attention is not None:
            h = self.attention(h, views)
        skips.append(h)
        if self.downsample is not None:
            h = self.downsample(h)
            skips.append(h)
        return h


class _Ascent(nn.Module):
    """One level on the way up; takes two maps off the end of ``skips``."""

    def __init__(self, channels: int, attend: bool, upsample: bool):
        super().__init__()
        self.blocks = nn.ModuleList([ResBlock(2 * channels, channels) for _ in range(2)])
        self.attentions = nn.ModuleList()
        if attend:
            self.attentions.extend([CrossViewAttention(channels) for _ in range(2)])
        self.upsample = nn.Conv2d(channels, channels, 3, padding=1) if upsample else None

    def forward(self, h: Tensor, views: int, skips: list[Tensor]) -> Tensor:
        for index, block in enumerate(self.blocks):
            h = block(h, skips.pop())
            if len(self.attentions):
                h = self.attentions[index](h, views)
        if self.upsample is not None:
            h = self.upsample(F.interpolate(h, skips[-1].shape[-2:], mode="nearest"))
        return h


class ResBlock(nn.Module):
    """conv, norm, SiLU twice beside a shortcut; the branch starts at zero.

    With a second map both are read side by side, so that the first one, of the output's width, is
    what passes where a smaller network skips the block.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm1 = group_norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.norm2 = _zero_init(group_norm(out_channels))
        self.shortcut = None
        if in_channels != out_channels:
            self.shortcut = Pointwise(in_channels, out_channels)

    def forward(self, x: Tensor, beside: Tensor | None = None) -> Tensor:
        """Maps of the output's width."""
        x = x if beside is None else side_by_side([x, beside])
        branch = silu(self.norm1(self.conv1(x)))
        branch = silu(self.norm2(self.conv2(branch)))
        return added(branch, x if self.shortcut is None else self.shortcut(x))


class CrossViewAttention(nn.Module):
    """Every pixel attends to all pixels of all views of its scene; the branch starts at zero."""

    def __init__(self, channels: int):
        super().__init__()
        self.heads = max(1, channels // _HEAD_CHANNELS)
        if channels % self.heads:
            raise ValueError(f"{channels} channels don't split into {self.heads} attention heads.")
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.projection = nn.Conv1d(channels, channels, 1)
        self.norm = _zero_init(group_norm(channels))

    def forward(self, x: Tensor, views: int) -> Tensor:
        """Maps of the same shape; those of one scene's views lie behind each other."""
        _, channels, height, width = x.shape
        tokens = x.reshape(-1, views, channels, height * width).transpose(1, 2).flatten(2)
        # Queries, keys and values lie side by side within each head.
        qkv = self.qkv(tokens).unflatten(1, (self.heads, 3, -1)).mT
        # Only of contiguous ones does torch avoid the matrix of all pairs of pixels on CPUs.
        query, key, value = (x.contiguous() for x in qkv.unbind(2))
        message = F.scaled_dot_product_attention(query, key, value)
        message = self.projection(message.mT.flatten(1, 2))
        message = message.unflatten(2, (views, height, width)).transpose(1, 2)
        return x + self.norm(message.reshape(x.shape))


def _zero_init(norm: GroupNorm) -> GroupNorm:
    nn.init.zeros_(norm.weight)
    nn.init.zeros_(norm.bias)
    return norm
