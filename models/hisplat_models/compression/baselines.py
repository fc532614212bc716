"""What STP and S2HPruner are judged against: cuts by norm, a penalty on groups, a fixed subnet."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

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
        norms = [channel_norms(tensors, group) for group in self.groups]
        penalty = torch.cat([(count**0.5) * norm for norm, count in norms]).sum()
        (self.strength * penalty).backward()
        return {"task": loss, "penalty": penalty.item()}

    def result(self) -> Subnet:
        """As many of the largest norms as the budget allows; each group keeps a few."""
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


def channel_norms(
    tensors: Mapping[str, Tensor], group: ChannelGroup
) -> tuple[Float[Tensor, " channel"], int]:
    """Euclidean norm of each channel's filters in all layers, and how many weights it is over."""
    squares: Any = 0.0
    count = 0
    for member in group.members:
        tensor = tensors[member.tensor]
        if member.role == "produced" and tensor.dim() > 1:
            per_entry = tensor.square().transpose(0, member.axis).flatten(1).sum(1)
            positions = member.positions.to(tensor.device)
            squares = squares + per_entry[positions].sum(1)
            count += positions.shape[1] * tensor.numel() // tensor.shape[member.axis]
    return (squares + _SMALL).sqrt(), count


@torch.no_grad()
def largest_norms(network: nn.Module, groups: Sequence[ChannelGroup], budget: Budget) -> Subnet:
    """Channels whose root mean square weight exceeds the lowest threshold that meets the budget."""
    tensors = named_tensors(network)
    means = {}
    for group in groups:
        norms, count = channel_norms(tensors, group)
        means[group.name] = norms / count**0.5
    thresholds = torch.cat(list(means.values())).sort().values.tolist()
    low, high = 0, len(thresholds) - 1
    while low < high:
        middle = (low + high) // 2
        sizes = _sizes_above(means, groups, thresholds[middle])
        if budget.share(sizes) <= budget.keep:
            high = middle
        else:
            low = middle + 1
    sizes = _sizes_above(means, groups, thresholds[low])
    orders = {name: mean.argsort(descending=True, stable=True) for name, mean in means.items()}
    return Subnet(kept=most_important(orders, sizes))


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
    means: Mapping[str, Float[Tensor, " channel"]],
    groups: Sequence[ChannelGroup],
    threshold: float,
) -> dict[str, int]:
    """Per group the number of channels above, rounded up to its divisor, at least that."""
    sizes = {}
    for group in groups:
        above = int((means[group.name] > threshold).sum())
        steps = max(1, -(-above // group.divisor))
        sizes[group.name] = min(group.channels, steps * group.divisor)
    return sizes
