"""Small residual networks for the experiments: a stem, stages of basic blocks, a linear head.

images (B, C, H, W) -> stem -> stage 0 -> stage 1, half the size -> ... -> mean -> logits (B, K)
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hisplat_models.compression.spaces import DepthSpace

Norm = Literal["batch", "instance"]
NORMS: dict[Norm, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "instance": lambda channels: nn.InstanceNorm2d(channels, affine=True),
}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut; the shortcut is learned where shapes change."""

    def __init__(self, channels_in: int, channels: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.norm1 = NORMS[norm](channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = NORMS[norm](channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), NORMS[norm](channels)
            )

    def forward(
        self, x: Float[Tensor, "batch channels_in height width"]
    ) -> Float[Tensor, "batch channels height2 width2"]:
        """Features of the next block."""
        inner = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))


class ResidualNet(nn.Module):
    """A classifier whose blocks may be skipped, all but the first of each stage.

    Attributes:
        stages: Per stage its blocks, named ``stages.0.0``, ``stages.0.1`` ...
    """

    def __init__(
        self,
        classes: int,
        widths: tuple[int, ...] = (12, 24, 48),
        blocks: tuple[int, ...] = (3, 3, 3),
        norm: Norm = "batch",
        image_channels: int = 1,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(image_channels, widths[0], 3, padding=1, bias=False),
            NORMS[norm](widths[0]),
            nn.ReLU(),
        )
        self.stages = nn.ModuleList()
        before = widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            strides = [1 if stage == 0 else 2] + [1] * (count - 1)
            inputs = [before] + [width] * (count - 1)
            self.stages.append(
                nn.Sequential(
                    *(
                        BasicBlock(channels_in, width, stride, norm)
                        for channels_in, stride in zip(inputs, strides, strict=True)
                    )
                )
            )
            before = width
        self.head = nn.Linear(before, classes)

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        """Logits; any size of image."""
        x = self.stem(images)
        for stage in self.stages:
            x = stage(x)
        return self.head(x.mean(dim=(2, 3)))


def depth_space(network: ResidualNet) -> DepthSpace:
    """Every stage may be shortened from its end; its first block changes shapes and stays."""
    counts = [len(stage) for stage in network.stages if isinstance(stage, nn.Sequential)]
    return DepthSpace(
        blocks=tuple(
            tuple(f"stages.{stage}.{block}" for block in range(count))
            for stage, count in enumerate(counts)
        ),
        minimum=(1,) * len(counts),
    )
