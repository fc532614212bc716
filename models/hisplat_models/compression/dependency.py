"""Channel groups of a network, found by tracing which channels meet in sums and products.

Tracing is torch-pruning's ``DependencyGraph`` (Fang et al., "DepGraph", CVPR 2023). What it
offers is tried out: a group stays only if the network runs without some of its channels and its
output keeps its shape.
"""

import copy
import dataclasses
import logging
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from .groups import ChannelGroup, GroupMember, GroupSize
from .subnet import Subnet
from .swapping import named_tensors

logger = logging.getLogger(__name__)

_Role = Literal["produced", "consumed"]


def find_groups(
    network: nn.Module,
    example_inputs: tuple[Any, ...],
    ignored: Sequence[str] = (),
    divisors: Mapping[str, int] | int = 1,
) -> list[ChannelGroup]:
    """All channel groups that can be narrowed, in the order of their first producers.

    Left out, and logged, are groups that the network cannot run narrowed (its code counts on their
    number), interfaces (narrowing changes the output's shape), and channels of grouped
    convolutions. What runs under ``torch.no_grad`` is not seen.

    Args:
        network: Not changed. A copy is traced, in evaluation mode.
        example_inputs: Arguments of its forward; small ones trace faster. What comes out may be
            tensors in any nesting of dataclasses, mappings and sequences.
        ignored: Names of modules whose own channels stay, with all inside them; each saves time,
            which grows with the square of a residual stream's length.
        divisors: What numbers of kept channels must be multiples of: one for all, or per name of a
            group. Where a norm joins channels, a multiple of its groups is kept in any case.

    Raises:
        ImportError: without torch-pruning.
        ValueError: for names that the network or its groups do not have.
    """
    _check_modules(network, ignored)
    traced = copy.deepcopy(network).eval().requires_grad_(True)
    groups = [
        group
        for group in _traced_groups(traced, example_inputs, ignored)
        if not any(_is_inside(name, ignored) for name in _producers(group))
    ]
    groups = _ordered(traced, groups)
    if not isinstance(divisors, int):
        _check_names(divisors, groups)
    groups = [
        dataclasses.replace(
            group,
            divisor=math.lcm(
                group.divisor,
                divisors if isinstance(divisors, int) else divisors.get(group.name, 1),
            ),
        )
        for group in groups
    ]
    whole = _output_shapes(traced, example_inputs)
    return [group for group in groups if _can_be_narrowed(traced, example_inputs, group, whole)]


def tensors_in(output: Any) -> list[Tensor]:
    """All tensors of nested dataclasses, mappings and sequences, in order."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        return [tensor for value in output.values() for tensor in tensors_in(value)]
    if isinstance(output, (list, tuple)):
        return [tensor for value in output for tensor in tensors_in(value)]
    if dataclasses.is_dataclass(output):
        values = (getattr(output, field.name) for field in dataclasses.fields(output))
        return [tensor for value in values for tensor in tensors_in(value)]
    return []


def _traced_groups(
    network: nn.Module, example_inputs: tuple[Any, ...], ignored: Sequence[str]
) -> Iterator[ChannelGroup]:
    try:
        import torch_pruning
    except ImportError as error:
        raise ImportError(
            'Finding channel groups needs torch-pruning: pip install "hisplat-app[compress]"'
        ) from error
    with torch.enable_grad():
        graph = torch_pruning.DependencyGraph().build_dependency(
            network,
            example_inputs,
            forward_fn=lambda module, inputs: module(*inputs),
            output_transform=lambda output: [
                tensor for tensor in tensors_in(output) if tensor.grad_fn is not None
            ],
            verbose=False,
        )
    names = {id(module): name for name, module in network.named_modules()}
    names |= {id(parameter): name for name, parameter in network.named_parameters()}
    stay = [module for name, module in network.named_modules() if _is_inside(name, ignored)]
    for found in graph.get_all_groups(ignored_layers=stay):
        items = [
            _Item(
                name=names[id(item.dep.target.module)],
                target=item.dep.target.module,
                produces=graph.is_out_channel_pruning_fn(item.dep.handler),
                axis=item.dep.target.pruning_dim,
                entries=item.idxs,
                channels=item.root_idxs,
            )
            for item in found.items
            if id(item.dep.target.module) in names
        ]
        group = _as_group(items)
        if group is not None:
            yield group


@dataclasses.dataclass(frozen=True)
class _Item:
    """What the graph says of one module or bare parameter: entry k belongs to channel k."""

    name: str
    target: nn.Module | nn.Parameter
    produces: bool
    axis: int
    entries: list[int]
    channels: list[int]

    def positions(self) -> Int64[Tensor, "channel repeat"] | None:
        """Entries per channel; None if channels have different numbers of them."""
        by_channel: dict[int, list[int]] = defaultdict(list)
        for channel, entry in zip(self.channels, self.entries, strict=True):
            by_channel[channel].append(entry)
        if len({len(entries) for entries in by_channel.values()}) != 1:
            return None
        return torch.tensor([sorted(by_channel[channel]) for channel in sorted(by_channel)])

    def axes(self) -> list[tuple[str, int]]:
        """Tensors, by their names, and axes along which its channels run."""
        if isinstance(self.target, nn.Parameter):
            return [(self.name, self.axis % self.target.dim())]
        return [
            (f"{self.name}.{own}" if self.name else own, axis)
            for own, axis in _own_axes(self.target, self.produces)
        ]


def _own_axes(module: nn.Module, produces: bool) -> list[tuple[str, int]]:
    """Tensors of one of torch's modules, and axes, that belong to its output or input channels."""
    if isinstance(module, (_ConvNd, nn.Linear)):
        is_turned = isinstance(module, _ConvTransposeNd) and module.groups == 1
        if not produces:
            return [("weight", 0 if is_turned else 1)]
        return [("weight", 1 if is_turned else 0), *_if_there(module, "bias")]
    if isinstance(module, nn.Embedding):
        return [("weight", 1)]
    return [
        each
        for own in ("weight", "bias", "running_mean", "running_var")
        for each in _if_there(module, own)
    ]


def _if_there(module: nn.Module, own: str) -> list[tuple[str, int]]:
    tensor = getattr(module, own, None)
    return [] if tensor is None or tensor.numel() == 1 else [(own, tensor.dim() - 1)]


def _as_group(items: list[_Item]) -> ChannelGroup | None:
    """A group named after its first item, or None if it cannot be narrowed channel by channel."""
    name, channels = items[0].name, len(set(items[0].channels))
    members, sizes, divisor = [], [], 1
    for item in items:
        positions = item.positions()
        if positions is None or len(positions) != channels or _is_grouped(item.target):
            logger.info("Channels of %s stay: they do not map one to one to %s", name, item.name)
            return None
        role: _Role = "produced" if item.produces else "consumed"
        members += [GroupMember(tensor, axis, positions, role) for tensor, axis in item.axes()]
        sizes += _sizes_of_bare_norm(item, positions.shape[1])
        if isinstance(item.target, nn.GroupNorm):
            divisor = math.lcm(divisor, item.target.num_groups)
    return ChannelGroup(name, channels, divisor, tuple(members), tuple(sizes))


def _is_grouped(module: nn.Module | nn.Parameter) -> bool:
    """Whether it is a convolution in groups other than depthwise."""
    return isinstance(module, _ConvNd) and 1 < module.groups != module.in_channels


def _sizes_of_bare_norm(item: _Item, per_channel: int) -> list[GroupSize]:
    """What a norm stores of its channels and cannot be read off parameters: it has none."""
    module = item.target
    if getattr(module, "weight", None) is not None:
        return []
    if isinstance(module, _NormBase):
        return [GroupSize(item.name, "num_features", per_channel)]
    if isinstance(module, nn.GroupNorm):
        return [GroupSize(item.name, "num_channels", per_channel)]
    if isinstance(module, nn.LayerNorm):
        return [GroupSize(item.name, "normalized_shape", per_channel)]
    return []


def _producers(group: ChannelGroup) -> list[str]:
    """Names of the modules that make the group's channels."""
    return [
        member.tensor.rpartition(".")[0] for member in group.members if member.role == "produced"
    ]


def _ordered(network: nn.Module, groups: list[ChannelGroup]) -> list[ChannelGroup]:
    """Groups, and members inside, in the order of the network; each named after its first."""
    place = {name: index for index, name in enumerate(named_tensors(network))}
    ordered: dict[int, ChannelGroup] = {}
    for group in groups:
        members = sorted(group.members, key=lambda member: (place[member.tensor], member.role))
        first = next(
            member.tensor
            for member in members
            if member.role == "produced" and _makes_channels(network, member.tensor)
        )
        name = first.rpartition(".")[0]
        ordered[place[first]] = dataclasses.replace(group, name=name, members=tuple(members))
    return [ordered[index] for index in sorted(ordered)]


def _makes_channels(network: nn.Module, tensor: str) -> bool:
    module, _, own = tensor.rpartition(".")
    return own == "weight" and isinstance(network.get_submodule(module), (_ConvNd, nn.Linear))


def _can_be_narrowed(
    network: nn.Module,
    example_inputs: tuple[Any, ...],
    group: ChannelGroup,
    whole: list[torch.Size],
) -> bool:
    """Whether the network runs without the last channels and gives as large an output."""
    if group.channels <= group.divisor:
        return False
    kept = torch.arange(group.channels - group.divisor)
    try:
        with Subnet(kept={group.name: kept}).active(network, [group]):
            narrow = _output_shapes(network, example_inputs)
    except (RuntimeError, ValueError, IndexError) as error:
        logger.info("Channels of %s stay: the network cannot run narrower: %s", group.name, error)
        return False
    if narrow != whole:
        logger.info("Channels of %s stay: they are a part of the output", group.name)
    return narrow == whole


@torch.no_grad()
def _output_shapes(network: nn.Module, example_inputs: tuple[Any, ...]) -> list[torch.Size]:
    return [tensor.shape for tensor in tensors_in(network(*example_inputs))]


def _is_inside(name: str, modules: Sequence[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _check_modules(network: nn.Module, names: Sequence[str]) -> None:
    known = {name for name, _ in network.named_modules()}
    unknown = sorted(set(names) - known)
    if unknown:
        raise ValueError(f"Expected names of the network's modules to ignore, got {unknown}")


def _check_names(divisors: Mapping[str, int], groups: Sequence[ChannelGroup]) -> None:
    known = [group.name for group in groups]
    unknown = sorted(set(divisors) - set(known))
    if unknown:
        raise ValueError(f"Expected divisors of {known}, got those of {unknown}")
