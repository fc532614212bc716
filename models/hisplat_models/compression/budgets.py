"""What a part of a network costs: FLOPs and parameters as functions of its channels and blocks.

Two operations per multiply and add, counted as ``torch.utils.flop_counter`` does. Weights of a
convolution or linear layer cost in proportion to their number, so both costs are sums of products
of axis lengths, and lengths are linear in the numbers of kept channels. What other modules compute
(attention) is taken as linear in each group and measured. The sums are whole numbers for whole
sizes, and have gradients for soft ones.
"""

import copy
import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from .groups import ChannelGroup
from .subnet import Subnet

Number = int | Tensor


@dataclass(frozen=True)
class _Axis:
    """A length: what no group shortens, and per group the entries of one channel."""

    fixed: int
    per_channel: Mapping[str, int]

    def length(self, sizes: Mapping[str, Number]) -> Any:
        """For these numbers of channels, whole or soft."""
        return self.fixed + sum(count * sizes[name] for name, count in self.per_channel.items())


@dataclass(frozen=True)
class _Term:
    """A product of a number and lengths, which vanishes if its module's block is skipped."""

    module: str
    factor: int
    axes: tuple[_Axis, ...] = ()


@dataclass(frozen=True)
class Cost:
    """A cost of a network as a function of what is kept of it.

    Attributes:
        channels: Per group, how many there are.
        terms: Whose sum it is.
    """

    channels: Mapping[str, int]
    terms: tuple[_Term, ...]

    @cached_property
    def whole(self) -> int:
        """Of the whole network."""
        return self.hard({})

    def of(self, subnet: Subnet | None = None) -> int:
        """Of a subnet; of the whole network if none is given."""
        if subnet is None:
            return self.whole
        sizes = {name: len(kept) for name, kept in subnet.kept.items()}
        return self.hard(sizes, subnet.skipped)

    def hard(self, sizes: Mapping[str, int], skipped: frozenset[str] = frozenset()) -> int:
        """For numbers of kept channels; groups that are not named are whole."""
        return sum(self._values({**self.channels, **sizes}, skipped))

    def soft(
        self, sizes: Mapping[str, Float[Tensor, ""]], skipped: frozenset[str] = frozenset()
    ) -> Float[Tensor, ""]:
        """For sizes with gradients, in float64; groups that are not named are whole."""
        soft = {name: size.double() for name, size in sizes.items()}
        like = next(iter(soft.values()), torch.zeros((), dtype=torch.float64))
        whole = {name: like.new_tensor(count) for name, count in self.channels.items()}
        return sum(self._values({**whole, **soft}, skipped), start=like.new_zeros(()))

    def within(self, modules: Sequence[str]) -> "Cost":
        """The share of these modules and all inside them.

        Raises:
            ValueError: if nothing in one of them costs anything.
        """
        for module in modules:
            if not any(_is_inside(term.module, {module}) for term in self.terms):
                raise ValueError(f"Expected modules with a cost, got {module!r}")
        terms = tuple(term for term in self.terms if _is_inside(term.module, set(modules)))
        return dataclasses.replace(self, terms=terms)

    def _values(self, sizes: Mapping[str, Number], skipped: frozenset[str]) -> Iterator[Any]:
        for term in self.terms:
            if not _is_inside(term.module, skipped):
                lengths = (axis.length(sizes) for axis in term.axes)
                yield math.prod(lengths, start=term.factor)


@dataclass(frozen=True)
class Budget:
    """How much of a cost may be kept."""

    cost: Cost
    keep: float

    def __post_init__(self) -> None:
        """Refuses what is no share.

        Raises:
            ValueError: unless it is in (0, 1].
        """
        if not 0 < self.keep <= 1:
            raise ValueError(f"Expected a share to keep in (0, 1], got {self.keep}")

    def share(self, sizes: Mapping[str, int], skipped: frozenset[str] = frozenset()) -> float:
        """How much of the cost these sizes keep."""
        return self.cost.hard(sizes, skipped) / self.cost.whole

    def soft_share(self, sizes: Mapping[str, Float[Tensor, ""]]) -> Float[Tensor, ""]:
        """The same with gradients."""
        return self.cost.soft(sizes) / self.cost.whole


def parameter_cost(network: nn.Module, groups: Sequence[ChannelGroup]) -> Cost:
    """How many parameters are left."""
    terms = [
        _Term(name.rpartition(".")[0], 1, _axes(name, parameter, groups))
        for name, parameter in network.named_parameters()
    ]
    return Cost(_channels(groups), tuple(terms))


def flop_cost(
    network: nn.Module, groups: Sequence[ChannelGroup], example_inputs: tuple[Any, ...]
) -> Cost:
    """How many operations are left for inputs of this shape; nothing is computed (meta tensors).

    Args:
        network: Not changed. Its evaluation mode counts.
        groups: Whose sizes may vary.
        example_inputs: Arguments of its forward; tensors in them may be nested.

    Raises:
        ValueError: if the network's operations do not follow these rules, as a count of about
            half of all channels shows.
    """
    counted = copy.deepcopy(network).eval().to("meta")
    inputs = tree_map_only(Tensor, lambda tensor: tensor.to("meta"), example_inputs)
    whole = _operations(counted, inputs)
    terms, others = [], []
    for name, operations in whole.items():
        module = counted.get_submodule(name)
        weight = f"{name}.weight" if name else "weight"
        if isinstance(module, (_ConvNd, nn.Linear)) and operations % module.weight.numel() == 0:
            factor = operations // module.weight.numel()
            terms.append(_Term(name, factor, _axes(weight, module.weight, groups)))
        elif operations:
            others.append(name)
    if others:
        terms += _measured_terms(counted, groups, inputs, {name: whole[name] for name in others})
    cost = Cost(_channels(groups), tuple(terms))
    _check(cost, counted, groups, inputs)
    return cost


def _measured_terms(
    network: nn.Module,
    groups: Sequence[ChannelGroup],
    inputs: tuple[Any, ...],
    whole: Mapping[str, int],
) -> list[_Term]:
    """Terms linear in each group for modules that compute without a weight of their own.

    Groups that run through such a module are meant; the check of the whole cost finds others.
    """
    constant = dict(whole)
    terms = []
    for together in _apart(groups, whole):
        fewer = {group.name: group.channels - group.divisor for group, _ in together}
        with _narrowed(network, groups, fewer):
            narrow = _operations(network, inputs)
        for group, modules in together:
            for name in modules:
                slope = (whole[name] - narrow[name]) // group.divisor
                if slope:
                    terms.append(_Term(name, slope, (_Axis(0, {group.name: 1}),)))
                    constant[name] -= slope * group.channels
    return terms + [_Term(name, rest) for name, rest in constant.items() if rest]


def _apart(
    groups: Sequence[ChannelGroup], modules: Iterable[str]
) -> list[list[tuple[ChannelGroup, set[str]]]]:
    """Groups that run through modules, with these; no module twice in one list."""
    lists: list[list[tuple[ChannelGroup, set[str]]]] = []
    for group in groups:
        tensors = [member.tensor for member in group.members if group.channels > group.divisor]
        through = {name for name in modules if any(_is_inside(t, {name}) for t in tensors)}
        if not through:
            continue
        for some in lists:
            if all(through.isdisjoint(others) for _, others in some):
                some.append((group, through))
                break
        else:
            lists.append([(group, through)])
    return lists


def _check(
    cost: Cost, network: nn.Module, groups: Sequence[ChannelGroup], inputs: tuple[Any, ...]
) -> None:
    sizes = {
        group.name: max(1, group.channels // (2 * group.divisor)) * group.divisor
        for group in groups
    }
    with _narrowed(network, groups, sizes):
        counted = sum(_operations(network, inputs).values())
    if counted != cost.hard(sizes):
        raise ValueError(
            f"Half of the channels take {counted} operations, not the {cost.hard(sizes)} expected: "
            "a module computes products of several groups with no weight of its own"
        )


@contextmanager
def _narrowed(
    network: nn.Module, groups: Sequence[ChannelGroup], sizes: Mapping[str, int]
) -> Iterator[None]:
    with Subnet(kept={name: torch.arange(size) for name, size in sizes.items()}).active(
        network, groups
    ):
        yield


@torch.no_grad()
def _operations(network: nn.Module, inputs: tuple[Any, ...]) -> dict[str, int]:
    """Operations of each module, without those of modules that it calls."""
    counts = dict.fromkeys((name for name, _ in network.named_modules()), 0)
    counter = FlopCounterMode(display=False)
    running: list[tuple[str, int]] = []  # names, and the total when they were entered

    def enter(name: str) -> None:
        running.append((name, counter.get_total_flops()))

    def leave() -> None:
        name, before = running.pop()
        spent = counter.get_total_flops() - before
        counts[name] += spent
        if running:
            counts[running[-1][0]] -= spent

    with ExitStack() as hooks, counter:
        for name, module in network.named_modules():
            entering = module.register_forward_pre_hook(lambda *_, name=name: enter(name))
            hooks.callback(entering.remove)
            hooks.callback(module.register_forward_hook(lambda *_: leave()).remove)
        network(*inputs)
    return counts


def _axes(name: str, tensor: Tensor, groups: Sequence[ChannelGroup]) -> tuple[_Axis, ...]:
    """The lengths of a tensor."""
    axes = []
    for axis, length in enumerate(tensor.shape):
        per_channel: Counter[str] = Counter()
        for group in groups:
            for member in group.members:
                if (member.tensor, member.axis) == (name, axis):
                    per_channel[group.name] += member.positions.shape[1]
                    length -= member.positions.numel()
        axes.append(_Axis(length, per_channel))
    return tuple(axes)


def _channels(groups: Sequence[ChannelGroup]) -> dict[str, int]:
    return {group.name: group.channels for group in groups}


def _is_inside(module: str, blocks: frozenset[str] | set[str]) -> bool:
    """Whether a module is one of these or lies in one; all lie in the network, named ""."""
    if not blocks:
        return False
    parts = module.split(".")
    return any(".".join(parts[:count]) in blocks for count in range(len(parts) + 1))
