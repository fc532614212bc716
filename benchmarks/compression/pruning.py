"""What experiments on widths share: network, channel groups, budget, and what is measured."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from hisplat_models.compression.budgets import Budget, flop_cost
from hisplat_models.compression.dependency import find_groups
from hisplat_models.compression.groups import ChannelGroup
from hisplat_models.compression.masks import importance
from hisplat_models.compression.s2h import S2HPruner
from hisplat_models.compression.statistics import reestimated_statistics
from hisplat_models.compression.subnet import Subnet
from hisplat_models.compression.swapping import named_tensors

from .digits import digits
from .loop import STATISTICS_IMAGES, TrainingSettings, subnet_accuracy
from .networks import ResidualNet
from .report import Run
from .shapes import shapes
from .tasks import Classification, Data, accuracy, parts


@dataclass(frozen=True)
class Setting:
    """Data, network and training that all modes of an experiment share."""

    data: Callable[[], Data]
    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    training: TrainingSettings
    keep_flops: float = 0.15

    def described(self) -> dict[str, Any]:
        """What the result file says of it."""
        return {
            "widths": self.widths,
            "blocks": self.blocks,
            "keep_flops": self.keep_flops,
            "training": asdict(self.training),
        }


SETTINGS = {
    "shapes": Setting(shapes, (8, 16, 32), (2, 2, 2), TrainingSettings(epochs=10)),
    "digits": Setting(digits, (12, 24), (2, 2), TrainingSettings(epochs=40)),
}


@dataclass(frozen=True)
class PruningProblem:
    """A network to be made smaller.

    Attributes:
        network: As initialised with a seed.
        groups: All that can be narrowed.
        budget: Of its FLOPs at the data's size of image.
    """

    network: ResidualNet
    groups: list[ChannelGroup]
    budget: Budget


def pruning_problem(setting: Setting, data: Data, seed: int) -> PruningProblem:
    """The network that a seed gives."""
    torch.manual_seed(seed)
    network = ResidualNet(data.classes, setting.widths, setting.blocks)
    inputs = (data.train.images[:1],)
    groups = find_groups(network, inputs)
    budget = Budget(flop_cost(network, groups, inputs), setting.keep_flops)
    # A layout of memory only, in which small convolutions take a quarter less time.
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return PruningProblem(network, groups, budget)


def measured_subnet(problem: PruningProblem, subnet: Subnet, data: Data) -> Run:
    """Percents of the whole network and of a subnet, what it keeps, and its filters' norms."""
    network, groups, cost = problem.network, problem.groups, problem.budget.cost
    return {
        "whole": subnet_accuracy(network, groups, Subnet(), data.train, data.test),
        "pruned": subnet_accuracy(network, groups, subnet, data.train, data.test),
        "keep_percent": 100 * cost.of(subnet) / cost.of(),
        **filter_norms(network, groups, subnet),
        "skipped": sorted(subnet.skipped),
        "sizes": {group.name: _size(subnet, group) for group in groups},
    }


def filter_norms(
    network: torch.nn.Module, groups: Sequence[ChannelGroup], subnet: Subnet
) -> Mapping[str, float]:
    """Mean L1 norm of the filters of kept channels and of dropped ones."""
    tensors = named_tensors(network)
    kept, dropped = [], []
    for group in groups:
        norms = importance(tensors, group)
        stays = torch.zeros(group.channels, dtype=torch.bool)
        stays[subnet.kept.get(group.name, torch.arange(group.channels))] = True
        kept.append(norms[stays])
        dropped.append(norms[~stays])
    return {
        "kept_norm": torch.cat(kept).mean().item(),
        "dropped_norm": torch.cat(dropped).mean().item() if any(map(len, dropped)) else 0.0,
    }


def soft_accuracy(problem: PruningProblem, method: S2HPruner, data: Data) -> float:
    """Percent of test images that the soft network gets right, with statistics of its own."""
    network, task = copy.deepcopy(problem.network), Classification()
    with method.soft_masks_active(network):
        calibration = parts(data.train[slice(STATISTICS_IMAGES)], 500)
        reestimated_statistics(network, calibration, task.predict)
        return accuracy(network, data.test)


def _size(subnet: Subnet, group: ChannelGroup) -> int:
    return len(subnet.kept[group.name]) if group.name in subnet.kept else group.channels
