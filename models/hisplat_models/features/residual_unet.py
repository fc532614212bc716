"""Convolutional features of each photo at every stride: a residual U-Net with instance norm.

HiSplat (Tang et al., ICLR 2025), section 3.2 "shared U-Net backbone"; the encoder follows the
residual encoder of UniMatch / MVSplat. The map of a monocular vision transformer may be added at
every decoder level.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..channels_last import Pointwise, added, channels_last, instance_norm, relu, side_by_side


def imagenet_normalised(
    images: Float[Tensor, "*batch 3 height width"],
) -> Float[Tensor, "*batch 3 height width"]:
    """Images in [0, 1], shifted and scaled by the channel statistics of ImageNet."""
    mean = images.new_tensor([0.485, 0.456, 0.406])[:, None, None]
    std = images.new_tensor([0.229, 0.224, 0.225])[:, None, None]
    return (images - mean) / std


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance norm beside a shortcut; ``stride`` divides the size."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = Pointwise(in_channels, out_channels, stride)

    def forward(self, x: Float[Tensor, "n c_in h w"]) -> Float[Tensor, "n c_out h_out w_out"]:
        """``relu(shortcut(x) + branch(x))``."""
        branch = relu(instance_norm(self.conv1(x)))
        branch = relu(instance_norm(self.conv2(branch)))
        if self.shortcut is not None:
            x = instance_norm(self.shortcut(x))
        return relu(added(branch, x))


class ResidualUNet(nn.Module):
    """Features of single images at strides 2^(L-1), ..., 2, 1 for L = len(widths) levels.

    Args:
        widths: Channels per level, finest (stride 1) first; published: (32, 64, 128).
        injected_channels: Channels of a map that is added at every decoder level; None: no map.
        stem_stride: Stride of the first convolution; all strides above are multiplied by it.
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128),
        injected_channels: int | None = None,
        stem_stride: int = 1,
    ):
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"Expected at least two levels, got widths {tuple(widths)}.")
        self.stem = nn.Conv2d(3, widths[0], 7, stem_stride, padding=3, bias=False)
        self.encoder = nn.ModuleList([_two_blocks(widths[0], widths[0], widths[0])])
        for finer, coarser in pairwise(widths):
            self.encoder.append(_two_blocks(finer, coarser, coarser, stride=2))

        coarsest_first = list(reversed(widths))
        deepest = coarsest_first[0]
        self.bottleneck = _two_blocks(deepest, deepest, deepest)
        self.bottleneck_projection = Pointwise(deepest, deepest)
        self.heads = nn.ModuleList([_two_blocks(2 * c, c, c) for c in coarsest_first])
        self.ascents = nn.ModuleList(
            [_two_blocks(2 * c, c, finer) for c, finer in pairwise(coarsest_first)]
        )
        self.injections = None
        if injected_channels is not None:
            self.injections = nn.ModuleList(
                [Pointwise(injected_channels, c, bias=False) for c in coarsest_first]
            )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def encode(self, images: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n _ _ _"]]:
        """Encoder maps at strides 1, 2, ..., 2^(L-1), and last the bottleneck at 2^(L-1)."""
        x = relu(instance_norm(self.stem(channels_last(images))))
        maps = []
        for level in self.encoder:
            x = level(x)
            maps.append(x)
        return [*maps, self.bottleneck_projection(self.bottleneck(x))]

    def decode(
        self,
        maps: list[Float[Tensor, "n _ _ _"]],
        injected: Float[Tensor, "n c_inj h_inj w_inj"] | None = None,
    ) -> list[Float[Tensor, "n _ _ _"]]:
        """Decoder features, coarsest first, from the maps of ``encode``."""
        *skips, x = maps
        features = []
        for level, skip in enumerate(reversed(skips)):
            if level > 0:
                x = self.ascents[level - 1](x)
                x = F.interpolate(x, skip.shape[-2:], mode="bilinear", align_corners=True)
            if self.injections is not None:
                assert injected is not None
                resized = F.interpolate(channels_last(injected), skip.shape[-2:], mode="bilinear")
                x = added(self.injections[level](resized), x)
            x = side_by_side([x, skip])
            features.append(self.heads[level](x))
        return features

    def forward(
        self,
        images: Float[Tensor, "n 3 h w"],
        injected: Float[Tensor, "n c_inj h_inj w_inj"] | None = None,
    ) -> list[Float[Tensor, "n _ _ _"]]:
        """Features (n, widths[L-1-i], h / 2^(L-1-i), w / 2^(L-1-i)) for i = 0 ... L-1.

        Sides that 2^(L-1) does not divide give maps rounded up. ``images`` are normalised
        (see ``imagenet_normalised``); ``injected`` may have any size.

        Raises:
            ValueError: if a map is injected into a network built without, or the reverse.
        """
        if (injected is None) != (self.injections is None):
            wanted = "no injected map" if self.injections is None else "an injected map"
            raise ValueError(f"Expected {wanted}: it must match injected_channels.")
        return self.decode(self.encode(images), injected)


def _two_blocks(c_in: int, c_mid: int, c_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(ResidualBlock(c_in, c_mid, stride), ResidualBlock(c_mid, c_out))
