"""Masks that are soft for learning and hard for use: how many channels a group keeps.

S2HPruner (NeurIPS 2024, arXiv 2410.07046): a softmax over the sizes that a group may have gives,
summed from the largest down, the weight of each channel by rank, and by its expectation the number
of channels that are kept. Ranks are those of the filters' L1 norms, so masks decide how many and
weights which.

A mask acts after norm and activation, where the next layers read the channels: it scales their
weights. Before a norm it would be divided out again. Where channels are summed (a residual stream
behind ReLUs) this equals masking each summand.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from .groups import ChannelGroup
from .subnet import Subnet
from .swapping import named_tensors, swapped

ROUNDING = 1e-3
"""Channels by which an expected size may exceed a whole number and still count as that number."""


class SizeMasks(nn.Module):
    """One learned distribution over sizes for each channel group.

    A size is a multiple of the group's divisor, or the whole group.

    Attributes:
        groups: The groups.
        logits: Per group those of its sizes, smallest first.
    """

    def __init__(self, groups: Sequence[ChannelGroup], temperature: float = 1.0) -> None:
        """Starts with nearly all channels kept: the whole size has probability (C - q) / C.

        Raises:
            ValueError: for a group whose channels nothing reads, since a mask would change nothing.
        """
        super().__init__()
        for group in groups:
            if not any(member.role == "consumed" for member in group.members):
                raise ValueError(f"Expected channels that a layer reads, got group {group.name}")
        self.groups = tuple(groups)
        self.temperature = temperature
        self.logits = nn.ParameterList(_nearly_whole(group, temperature) for group in groups)

    def by_rank(self) -> dict[str, Float[Tensor, " channel"]]:
        """Per group the weights of its channels, the most important first; they never rise."""
        return {
            group.name: _by_rank(probabilities, group)
            for group, probabilities in zip(self.groups, self._probabilities(), strict=True)
        }

    def expected_sizes(self) -> dict[str, Float[Tensor, ""]]:
        """Per group the mean of its size."""
        return {
            group.name: (probabilities * _sizes(group).to(probabilities)).sum()
            for group, probabilities in zip(self.groups, self._probabilities(), strict=True)
        }

    def straight_through_sizes(self) -> dict[str, Float[Tensor, ""]]:
        """Per group its hard size, with the gradient of the expected one."""
        return {
            group.name: expected + (hard_size(expected.item(), group) - expected).detach()
            for group, expected in zip(self.groups, self.expected_sizes().values(), strict=True)
        }

    def hard_sizes(self) -> dict[str, int]:
        """Per group the smallest size that is not below the expected one."""
        return {
            group.name: hard_size(expected.item(), group)
            for group, expected in zip(self.groups, self.expected_sizes().values(), strict=True)
        }

    @torch.no_grad()
    def centre(self) -> None:
        """Takes from each group's logits their mean, of which nothing depends."""
        for logits in self.logits:
            logits -= logits.mean()

    def _probabilities(self) -> list[Float[Tensor, " size"]]:
        return [(logits / self.temperature).softmax(0) for logits in self.logits]


def hard_size(expected: float, group: ChannelGroup) -> int:
    """The smallest size of a group that is not below the expected one."""
    steps = math.ceil((expected - ROUNDING) / group.divisor)
    return min(group.channels, max(1, steps) * group.divisor)


@torch.no_grad()
def importance_order(
    network: nn.Module, groups: Sequence[ChannelGroup]
) -> dict[str, Int64[Tensor, " channel"]]:
    """Per group its channels by descending L1 norm of their filters, mean over its layers."""
    tensors = named_tensors(network)
    return {
        group.name: importance(tensors, group).argsort(descending=True, stable=True)
        for group in groups
    }


def importance(tensors: Mapping[str, Tensor], group: ChannelGroup) -> Float[Tensor, " channel"]:
    """L1 norm of each channel's filter, mean over the layers that make the channels."""
    norms = []
    for member in group.members:
        tensor = tensors[member.tensor].detach()
        if member.role == "produced" and tensor.dim() > 1:
            per_entry = tensor.abs().transpose(0, member.axis).flatten(1).sum(1)
            norms.append(per_entry[member.positions.to(tensor.device)].sum(1))
    return torch.stack(norms).mean(0)


def most_important(
    orders: Mapping[str, Int64[Tensor, " channel"]], sizes: Mapping[str, int]
) -> dict[str, Int64[Tensor, " kept"]]:
    """Per group that many channels, the first of its order, ascending."""
    return {name: orders[name][:size].sort().values for name, size in sizes.items()}


@contextmanager
def masked(
    network: nn.Module,
    groups: Sequence[ChannelGroup],
    masks: Mapping[str, Float[Tensor, " channel"]],
) -> Iterator[None]:
    """While entered, channels are scaled where they are read; gradients reach masks and weights.

    Args:
        network: Changed in place, and restored in any case.
        groups: Those that ``masks`` may name.
        masks: Per group a factor for each channel.

    Raises:
        RuntimeError: if a subnet or masks are active already.
    """
    tensors = named_tensors(network)
    scaled: dict[str, Tensor] = {}
    for group in groups:
        if group.name not in masks:
            continue
        for member in group.members:
            if member.role == "consumed":
                tensor = scaled.get(member.tensor, tensors[member.tensor])
                factors = _along(tensor, member.axis, member.positions, masks[group.name])
                scaled[member.tensor] = tensor * factors
    with swapped(network, scaled):
        yield


def in_channel_order(
    by_rank: Mapping[str, Float[Tensor, " channel"]],
    orders: Mapping[str, Int64[Tensor, " channel"]],
) -> dict[str, Float[Tensor, " channel"]]:
    """Masks of ranks as masks of channels."""
    return {name: mask[orders[name].argsort().to(mask.device)] for name, mask in by_rank.items()}


def _along(
    tensor: Tensor,
    axis: int,
    positions: Int64[Tensor, "channel repeat"],
    mask: Float[Tensor, " channel"],
) -> Tensor:
    """Factors that broadcast against the tensor: the mask at its positions, 1 elsewhere."""
    positions = positions.to(tensor.device)
    factors = torch.ones(tensor.shape[axis], dtype=tensor.dtype, device=tensor.device)
    values = mask.to(factors)[:, None].expand(positions.shape)
    factors = factors.index_put((positions,), values)
    return factors.view([-1 if each == axis else 1 for each in range(tensor.dim())])


def _sizes(group: ChannelGroup) -> Int64[Tensor, " size"]:
    """Sizes that a group may have, ascending."""
    count = math.ceil(group.channels / group.divisor)
    return (torch.arange(1, count + 1) * group.divisor).clamp(max=group.channels)


def _by_rank(
    probabilities: Float[Tensor, " size"], group: ChannelGroup
) -> Float[Tensor, " channel"]:
    """For each rank the probability of a size that includes it."""
    # Summed from the largest size down; the first is 1 whatever the rounding of softmax.
    at_least = probabilities.flip(0).cumsum(0).flip(0)
    return (at_least / at_least[0]).repeat_interleave(group.divisor)[: group.channels]


def _nearly_whole(group: ChannelGroup, temperature: float) -> nn.Parameter:
    """Logits that leave (C - q) / C of the probability to the whole size; published."""
    count = len(_sizes(group))
    logits = torch.zeros(count)
    if count > 1:
        whole = (group.channels - group.divisor) / group.channels
        logits[-1] = temperature * math.log((count - 1) * whole / (1 - whole))
    return nn.Parameter(logits)


def subnet_of_sizes(
    network: nn.Module,
    groups: Sequence[ChannelGroup],
    sizes: Mapping[str, int],
    skipped: frozenset[str] = frozenset(),
) -> Subnet:
    """The subnet of the most important channels as the weights are now."""
    narrow = [group for group in groups if sizes.get(group.name, group.channels) < group.channels]
    orders = importance_order(network, narrow)
    kept = most_important(orders, {group.name: sizes[group.name] for group in narrow})
    return Subnet(skipped, kept)
