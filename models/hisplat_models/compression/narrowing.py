"""What is left of a network's tensors and sizes when channel groups keep some channels only."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from .groups import ChannelGroup
from .swapping import named_tensors

Kept = Mapping[str, Int64[Tensor, " kept"]]
"""Per channel group the kept channels, ascending; groups that are not named are whole."""


Size = int | tuple[int, ...]


@dataclass(frozen=True)
class Cut:
    """A part of a network, in terms of its tensors: groups are not needed to make it again.

    Attributes:
        entries: Per tensor and axis those that stay, ascending; what is not named is whole.
        sizes: Per module and attribute the values of numbers that cannot be read off tensors.
        skipped: Names of blocks that pass their input through.
    """

    entries: Mapping[str, Mapping[int, Int64[Tensor, " entry"]]]
    sizes: Mapping[str, Mapping[str, Size]]
    skipped: frozenset[str]

    def tensors(self, network: nn.Module) -> dict[str, Tensor]:
        """Slices of all tensors that become smaller, through which gradients flow back."""
        tensors = named_tensors(network)
        return {name: _sliced(tensors[name], axes) for name, axes in self.entries.items()}

    def attributes(self, network: nn.Module) -> list[tuple[nn.Module, str, Size]]:
        """Modules, attributes and values of all stored sizes that become smaller."""
        tensors = named_tensors(network)
        shapes: dict[str, dict[str, list[int]]] = defaultdict(dict)
        for name, axes in self.entries.items():
            module, _, own_name = name.rpartition(".")
            shape = list(tensors[name].shape)
            for axis, entries in axes.items():
                shape[axis] = len(entries)
            shapes[module][own_name] = shape
        sizes = {name: _own_sizes(network.get_submodule(name), own) for name, own in shapes.items()}
        return [
            (network.get_submodule(name), attribute, size)
            for some in (sizes, self.sizes)
            for name, attributes in some.items()
            for attribute, size in attributes.items()
        ]


def cut_by(
    network: nn.Module, groups: Sequence[ChannelGroup], kept: Kept, skipped: frozenset[str]
) -> Cut:
    """What is left of the network.

    Raises:
        ValueError: for blocks, groups or channels that the network does not have.
    """
    unknown = sorted(skipped - {name for name, _ in network.named_modules() if name})
    if unknown:
        raise ValueError(f"Expected names of the network's blocks to skip, got {unknown}")
    _check_kept(groups, kept)
    shapes = {name: tensor.shape for name, tensor in named_tensors(network).items()}
    return Cut(_kept_entries(groups, kept, shapes), _declared_sizes(network, groups, kept), skipped)


def _check_kept(groups: Sequence[ChannelGroup], kept: Kept) -> None:
    by_name = {group.name: group for group in groups}
    for name, channels in kept.items():
        if name not in by_name:
            raise ValueError(f"Expected channels of {sorted(by_name)}, got those of {name!r}")
        group, count = by_name[name], len(channels)
        ascending = bool((channels.diff() > 0).all())
        if not count or not ascending or channels[0] < 0 or channels[-1] >= group.channels:
            raise ValueError(
                f"Expected some of the {group.channels} channels of {name} in ascending order, "
                f"got {channels.tolist()}"
            )
        if count % group.divisor and count != group.channels:
            raise ValueError(
                f"Expected a multiple of {group.divisor} channels of {name}, got {count}"
            )


def _kept_entries(
    groups: Sequence[ChannelGroup], kept: Kept, shapes: Mapping[str, torch.Size]
) -> dict[str, dict[int, Int64[Tensor, " entry"]]]:
    """Per tensor and axis the entries that stay; whole axes and tensors are left out."""
    stays: dict[tuple[str, int], Tensor] = {}
    for group in groups:
        if group.name not in kept or len(kept[group.name]) == group.channels:
            continue
        leaves = torch.ones(group.channels, dtype=torch.bool)
        leaves[kept[group.name].cpu()] = False
        for member in group.members:
            if member.tensor not in shapes:
                raise ValueError(f"Group {group.name} runs along {member.tensor}, which is missing")
            length = shapes[member.tensor][member.axis]
            place = stays.setdefault(
                (member.tensor, member.axis), torch.ones(length, dtype=torch.bool)
            )
            place[member.positions[leaves].flatten()] = False
    entries: dict[str, dict[int, Tensor]] = defaultdict(dict)
    for (tensor, axis), mask in stays.items():
        entries[tensor][axis] = mask.nonzero()[:, 0]
    return dict(entries)


def _sliced(tensor: Tensor, axes: Mapping[int, Int64[Tensor, " entry"]]) -> Tensor:
    """A copy with these entries along these axes."""
    for axis, entries in axes.items():
        tensor = tensor.index_select(axis, entries.to(tensor.device))
    return tensor


def _own_sizes(module: nn.Module, shapes: Mapping[str, list[int]]) -> dict[str, Size]:
    """Sizes that torch's own modules store, given the new shapes of their tensors."""
    if isinstance(module, _ConvNd) and "weight" in shapes:
        first, second, *_ = shapes["weight"]
        groups = module.groups
        if groups == module.in_channels > 1:  # depthwise: as many groups as channels are left
            per_group = 1 if isinstance(module, _ConvTransposeNd) else module.out_channels // groups
            groups = first // per_group
        one, other = first, second * groups
        if isinstance(module, _ConvTransposeNd):
            one, other = other, one
        return {"out_channels": one, "in_channels": other, "groups": groups}
    if isinstance(module, nn.Linear) and "weight" in shapes:
        return dict(zip(("out_features", "in_features"), shapes["weight"], strict=True))
    length = next(iter(shapes.values()))
    if isinstance(module, _NormBase):
        return {"num_features": length[0]}
    if isinstance(module, nn.GroupNorm):
        return {"num_channels": length[0]}
    if isinstance(module, nn.LayerNorm):
        return {"normalized_shape": tuple(length)}
    return {}


def _declared_sizes(
    network: nn.Module, groups: Sequence[ChannelGroup], kept: Kept
) -> dict[str, dict[str, Size]]:
    """Sizes that groups declare; one size may shrink with several groups."""
    fewer: dict[tuple[str, str], int] = defaultdict(int)
    for group in groups:
        removed = group.channels - len(kept[group.name]) if group.name in kept else 0
        for size in group.sizes:
            fewer[size.module, size.attribute] += removed * size.per_channel
    sizes: dict[str, dict[str, Size]] = defaultdict(dict)
    for (name, attribute), by in fewer.items():
        if by:
            sizes[name][attribute] = _less(getattr(network.get_submodule(name), attribute), by)
    return dict(sizes)


def _less(size: Size, by: int) -> Size:
    if isinstance(size, tuple):
        return (*size[:-1], size[-1] - by)
    return size - by
