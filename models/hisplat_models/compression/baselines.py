"""What STP and S2HPruner are judged against: cuts by norm, a penalty on groups, a fixed subnet."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .budgets import Budget
from .common import WeightsOnlyStep
from .distillation import detached
from .groups import ChannelGroup
from .masks import most_important, subnet_of_sizes
from .subnet import Subnet
from .swapping import named_tensors
from .task import CompressionTask
from .width_search import fewest_channels

Batch = TypeVar("Batch")

_SMALL = 1e-12
"""Added under roots, whose gradients would be infinite at zero."""


class GroupLasso(WeightsOnlyStep[Batch]):
    """Training with a penalty on the norms of all channels, which drives some of them to zero.

    loss = task + strength * sum over groups g and channels c of sqrt(n_g) * |W_gc|_2, where W_gc
    are the n_g weights of the filters that make the channel (group sparsity, Wen et al., NeurIPS
    2016). Left are channels whose norm exceeds one threshold, the same for all groups.
    """

    def __init__(
        self,
        network: nn.Module,
        groups: Sequence[ChannelGroup],
        task: CompressionTask[Batch],
        budget: Budget,
        strength: float,
    ) -> None:
        super().__init__(network, task, groups=groups)
        self.budget = budget
        self.strength = strength

    def step(self, batch: Batch) -> dict[str, float]:
        """Gradients of task and penalty; both losses."""
        _, loss = self._task_step(batch)
        tensors = named_tensors(self.network)
        weights = [torch.cat(filters(tensors, group), dim=1) for group in self.groups]
        norms = [each.shape[1] ** 0.5 * (each.square().sum(1) + _SMALL).sqrt() for each in weights]
        penalty = torch.cat(norms).sum()
        (self.strength * penalty).backward()
        return {"task": loss, "penalty": penalty.item()}

    def result(self) -> Subnet:
        """As many of the largest norms as the budget allows; each group keeps some."""
        return largest_norms(self.network, self.groups, self.budget)


class SelfDistillation(WeightsOnlyStep[Batch]):
    """The whole network and one fixed subnet that it teaches: STP without any search."""

    def __init__(
        self,
        network: nn.Module,
        groups: Sequence[ChannelGroup],
        task: CompressionTask[Batch],
        sizes: Mapping[str, int],
        skipped: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(network, task, groups=groups)
        self.sizes = dict(sizes)
        self.skipped = skipped

    def step(self, batch: Batch) -> dict[str, float]:
        """Gradients of the whole network's loss and of the subnet's; both losses."""
        prediction, loss = self._task_step(batch)
        with self.result().active(self.network, self.groups):
            student = self.task.predict(self.network, batch)
            gap = self._distil(detached(prediction.knowledge), student, 1.0)
        return {"task": loss, "candidate": gap}

    def result(self) -> Subnet:
        """The subnet, of the channels that are most important now."""
        return subnet_of_sizes(self.network, self.groups, self.sizes, self.skipped)


def filters(tensors: Mapping[str, Tensor], group: ChannelGroup) -> list[Float[Tensor, "channel _"]]:
    """The weights that make each channel, one matrix per layer."""
    layers = []
    for member in group.members:
        tensor = tensors[member.tensor]
        if member.role == "produced" and tensor.dim() > 1:
            entries = tensor.transpose(0, member.axis).flatten(1)
            layers.append(entries[member.positions.to(tensor.device)].flatten(1))
    return layers


@torch.no_grad()
def largest_norms(network: nn.Module, groups: Sequence[ChannelGroup], budget: Budget) -> Subnet:
    """Channels whose filters' norm exceeds the lowest threshold that meets the budget.

    Norms are root mean squares over a group's layers; layers start with filters of equal norm.
    Every group keeps half the square root of the budget in any case, as in STP: else a threshold
    for all starves whole layers.

    Raises:
        ValueError: if that alone exceeds the budget.
    """
    tensors = named_tensors(network)
    norms = {}
    for group in groups:
        layers = filters(tensors, group)
        norms[group.name] = torch.cat(layers, dim=1).norm(dim=1) / len(layers) ** 0.5
    least = fewest_channels(groups, budget)
    thresholds = torch.cat(list(norms.values())).sort().values.tolist()
    lowest = bisect_left(
        thresholds,
        True,
        key=lambda threshold: (
            budget.share(_sizes_above(norms, groups, threshold, least)) <= budget.keep
        ),
    )
    if lowest == len(thresholds):
        raise ValueError(f"No width of all groups keeps as little as {budget.keep} of the cost")
    orders = {name: norm.argsort(descending=True, stable=True) for name, norm in norms.items()}
    return Subnet(
        kept=most_important(orders, _sizes_above(norms, groups, thresholds[lowest], least))
    )


def uniform_sizes(groups: Sequence[ChannelGroup], budget: Budget) -> dict[str, int]:
    """The same share of each group's channels, as large as the budget allows.

    Raises:
        ValueError: if not even the narrowest network meets the budget.
    """
    for percent in range(100, 0, -1):
        sizes = {
            group.name: min(
                group.channels,
                max(1, round(percent / 100 * group.channels / group.divisor)) * group.divisor,
            )
            for group in groups
        }
        if budget.share(sizes) <= budget.keep:
            return sizes
    raise ValueError(f"No width of all groups keeps as little as {budget.keep} of the cost")


def _sizes_above(
    norms: Mapping[str, Float[Tensor, " channel"]],
    groups: Sequence[ChannelGroup],
    threshold: float,
    least: Mapping[str, int],
) -> dict[str, int]:
    """Per group the number of channels above, rounded up to its divisor."""
    sizes = {}
    for group in groups:
        above = int((norms[group.name] > threshold).sum())
        rounded = min(group.channels, -(-above // group.divisor) * group.divisor)
        sizes[group.name] = max(least[group.name], rounded)
    return sizes
