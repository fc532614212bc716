"""What HiSplat's parts cost, counted without computing anything.

The matcher and the renderer are not counted: they have no weights, and compression leaves them as
they are.
"""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ...network import HiSplat
from ..budgets import Budget, Cost, flop_cost, parameter_cost
from ..groups import ChannelGroup
from .layers import run_layers
from .parts import PREFIXES, Part, parts_of


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


def layer_flops(network: HiSplat, size: tuple[int, int]) -> int:
    """Operations of all layers of all parts of a network, whole or slim."""
    counted = copy.deepcopy(network).to("meta")
    images = torch.empty(1, 2, 3, *size, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run_layers(counted, images)
    return counter.get_total_flops()


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
    budgets = []
    if keep_flops:
        flops = part_flops(network, groups, parts_of(network), size)
        for parts, keep in keep_flops.items():
            budgets.append(Budget(flops.within(_modules(parts)), keep))
    for parts, keep in keep_parameters.items():
        budgets.append(Budget(part_parameters(network, groups, parts), keep))
    return budgets


def _modules(parts: Sequence[Part]) -> list[str]:
    return [PREFIXES[part].removesuffix(".") for part in parts]


class _Counted(HiSplat):
    """A network whose forward runs all layers of its parts and nothing else."""

    def forward(self, images: Tensor) -> list[Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Some output of every layer."""
        return run_layers(self, images)
