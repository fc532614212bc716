"""What is left of a network's tensors and sizes when channel groups keep some channels only."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from .groups import ChannelGroup
from .swapping import named_tensors

Kept = Mapping[str, Int64[Tensor, " kept"]]
"""Per channel group the kept channels, ascending; groups that are not named are whole."""


def checked_kept(groups: Sequence[ChannelGroup], kept: Kept) -> Kept:
    """The same.

    Raises:
        ValueError: for unknown groups, and for channels that are none of the group's, out of
            order, or of a number that its divisor does not divide.
    """
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
    return kept


def kept_entries(
    groups: Sequence[ChannelGroup], kept: Kept, shapes: Mapping[str, torch.Size]
) -> dict[str, dict[int, Int64[Tensor, " entry"]]]:
    """Per tensor and axis the entries that stay, ascending; whole axes and tensors are left out.

    Args:
        groups: All groups.
        kept: Channels that stay.
        shapes: Of all tensors that groups run along.

    Raises:
        ValueError: if a group runs along a tensor that the network does not have.
    """
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


def narrowed_tensors(
    network: nn.Module, groups: Sequence[ChannelGroup], kept: Kept
) -> dict[str, Tensor]:
    """Slices of all tensors that become smaller, through which gradients flow back."""
    tensors = named_tensors(network)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    return {
        name: sliced(tensors[name], axes)
        for name, axes in kept_entries(groups, kept, shapes).items()
    }


def sliced(tensor: Tensor, axes: Mapping[int, Int64[Tensor, " entry"]]) -> Tensor:
    """A copy with these entries along these axes."""
    for axis, entries in axes.items():
        tensor = tensor.index_select(axis, entries.to(tensor.device))
    return tensor


def narrowed_sizes(
    network: nn.Module, groups: Sequence[ChannelGroup], kept: Kept
) -> list[tuple[nn.Module, str, Any]]:
    """Modules, attributes and values of all stored sizes that become smaller.

    Raises:
        ValueError: if a group names a module that the network does not have.
    """
    shapes = {name: tensor.shape for name, tensor in named_tensors(network).items()}
    lengths: dict[str, dict[str, list[int]]] = defaultdict(dict)
    for name, axes in kept_entries(groups, kept, shapes).items():
        shape = list(shapes[name])
        for axis, entries in axes.items():
            shape[axis] = len(entries)
        module, _, own_name = name.rpartition(".")
        lengths[module][own_name] = shape
    changes = []
    for name, own_shapes in lengths.items():
        module = network.get_submodule(name)
        changes += [(module, key, size) for key, size in _own_sizes(module, own_shapes).items()]
    return changes + _declared_sizes(network, groups, kept)


def _own_sizes(module: nn.Module, shapes: Mapping[str, list[int]]) -> dict[str, Any]:
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
) -> list[tuple[nn.Module, str, Any]]:
    """Sizes that groups declare; one size may shrink with several groups."""
    fewer: dict[tuple[str, str], int] = defaultdict(int)
    for group in groups:
        removed = group.channels - len(kept[group.name]) if group.name in kept else 0
        for size in group.sizes:
            fewer[size.module, size.attribute] += removed * size.per_channel
    return [
        (module := network.get_submodule(name), attribute, _less(getattr(module, attribute), by))
        for (name, attribute), by in fewer.items()
        if by
    ]


def _less(size: int | tuple[int, ...], by: int) -> int | tuple[int, ...]:
    if isinstance(size, tuple):
        return (*size[:-1], size[-1] - by)
    return size - by
