"""What HiSplat's parts cost, counted without computing anything.

The matcher and the renderer are not counted: they have no weights, and compression leaves them as
they are.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ...depth_heads import CandidateDepth, CostVolumeDepth, LimitedDepth
from ...network import HiSplat
from ...refine_unet import RefineUNet
from ...stage import Stage
from ..budgets import Budget, Cost, flop_cost, parameter_cost
from ..groups import ChannelGroup
from .parts import PREFIXES, Part


def part_flops(
    network: HiSplat,
    groups: Sequence[ChannelGroup],
    parts: Sequence[Part],
    size: tuple[int, int],
) -> Cost:
    """Operations of these parts for two photos of (height, width)."""
    with torch.device("meta"):
        images, counted = torch.empty(1, 2, 3, *size), _Counted(network.config)
    return flop_cost(counted, groups, (images,)).within(_modules(parts))


def part_parameters(
    network: HiSplat, groups: Sequence[ChannelGroup], parts: Sequence[Part]
) -> Cost:
    """Parameters of these parts."""
    return parameter_cost(network, groups).within(_modules(parts))


def part_budgets(
    network: HiSplat,
    groups: Sequence[ChannelGroup],
    keep_flops: Mapping[tuple[Part, ...], float],
    keep_parameters: Mapping[tuple[Part, ...], float],
    size: tuple[int, int],
) -> list[Budget]:
    """A budget for each set of parts.

    Args:
        network: Whole.
        groups: Whose sizes may vary.
        keep_flops: Shares of operations to keep, of the parts together.
        keep_parameters: The same of parameters.
        size: (height, width) of the photos for which operations are counted.

    Raises:
        ValueError: for shares outside (0, 1].
    """
    every = tuple({part: None for parts in keep_flops for part in parts})
    flops = part_flops(network, groups, every, size) if every else None
    budgets = []
    for parts, keep in keep_flops.items():
        assert flops is not None
        budgets.append(Budget(flops.within(_modules(parts)), keep))
    for parts, keep in keep_parameters.items():
        budgets.append(Budget(part_parameters(network, groups, parts), keep))
    return budgets


def _modules(parts: Sequence[Part]) -> list[str]:
    return [PREFIXES[part].removesuffix(".") for part in parts]


class _Counted(HiSplat):
    """A whole network that runs every layer of its parts, on maps of no content.

    What lies between the layers, geometry above all, needs values and has no weights.
    """

    def forward(self, images: Tensor) -> list[Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Some output of every layer."""
        maps, transformer = self._features(images)
        outputs = [transformer]
        for index, stage in enumerate(self.stages):
            assert isinstance(stage, Stage)
            outputs += _stage_layers(stage, transformer, self._cnn_map(maps, index), images)
        return outputs


def _stage_layers(
    stage: Stage, transformer: Tensor, cnn: Tensor, images: Tensor
) -> list[Tensor]:
    b, v, _, rows, columns = transformer.shape
    coarse = (cnn.shape[-2], cnn.shape[-1])
    fine = (images.shape[-2], images.shape[-1]) if stage.refine_stride > 1 else coarse

    def run(layer: nn.Module | None, where: tuple[int, int]) -> Tensor:
        assert isinstance(layer, nn.Conv2d)
        return layer(transformer.new_zeros(b * v, layer.in_channels, *where))

    def run_unet(unet: RefineUNet, where: tuple[int, int]) -> Tensor:
        return unet(transformer.new_zeros(b, v, unet.stem.in_channels, *where))

    outputs = [run(x, coarse) for x in (stage.full, stage.projection, stage.refine_in)]
    outputs += [run_unet(stage.refine, coarse), run(stage.head_hidden, coarse)]
    outputs += [run(x, coarse) for x in (stage.disparity_hidden, stage.disparity_out)]
    outputs.append(run(stage.head_out, fine))
    if stage.head_fine is not None:
        outputs.append(run(stage.head_fine, fine))
    placement, surface = stage.placement, stage.surface
    if isinstance(placement, CandidateDepth):
        outputs.append(run(placement.residual, fine))
    if isinstance(placement, LimitedDepth):
        layers = (placement.features, placement.mix, placement.fraction)
        outputs += [run(layer, coarse) for layer in layers]
    if isinstance(surface, CostVolumeDepth):
        layers = (surface.stem, surface.out, surface.shortcut, surface.hidden, surface.logits)
        outputs += [run(layer, (rows, columns)) for layer in layers]
        outputs.append(run_unet(surface.unet, (rows, columns)))
    return outputs
