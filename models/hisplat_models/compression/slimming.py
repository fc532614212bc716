"""Smaller networks for good, cut out of a network, and the JSON that says what was kept."""

import copy
import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from ..model_sources import CheckpointError, shown
from .groups import ChannelGroup
from .narrowing import Cut, Size
from .subnet import Subnet
from .swapping import named_tensors, places


class PassThrough(nn.Module):
    """What stands where a block was: returns its first argument."""

    def forward(self, x: Any, *_: Any, **__: Any) -> Any:
        """The first argument."""
        return x


def slimmed(network: nn.Module, groups: Sequence[ChannelGroup], subnet: Subnet) -> nn.Module:
    """A smaller network of its own, which computes what the active subnet does.

    Raises:
        ValueError: for blocks, groups or channels that the network does not have.
    """
    slim = copy.deepcopy(network)
    cut_down(slim, subnet.cut(slim, groups))
    return slim


def cut_down(network: nn.Module, cut: Cut) -> None:
    """Makes a network smaller in place; what is left keeps its values and names."""
    attributes = cut.attributes(network)
    for place, name, value in places(network, cut.tensors(network)):
        before, value = place[name], value.detach()
        if isinstance(before, nn.Parameter):
            value = nn.Parameter(value, before.requires_grad)
        place[name] = value
    for module, name, value in attributes:
        setattr(module, name, value)
    for name in cut.skipped:
        parent, _, own_name = name.rpartition(".")
        setattr(network.get_submodule(parent), own_name, PassThrough())


def cut_to_json(cut: Cut) -> str:
    """The cut as text."""
    return json.dumps(
        {
            "kept": {
                tensor: {str(axis): entries.tolist() for axis, entries in axes.items()}
                for tensor, axes in cut.entries.items()
            },
            "sizes": cut.sizes,
            "skipped": sorted(cut.skipped),
        }
    )


def cut_from_json(text: str, network: nn.Module) -> Cut:
    """The cut that a text of anybody's describes, if it fits the whole network.

    Raises:
        CheckpointError: if the text is no such description, or one of another network.
    """
    try:
        values = json.loads(text)
        tensors = named_tensors(network)
        entries = {
            tensor: {int(axis): _entries(tensors[tensor], int(axis), some) for axis, some in axes}
            for tensor, axes in ((name, axes.items()) for name, axes in values["kept"].items())
        }
        sizes = {
            module: {name: _size(network, module, name, size) for name, size in some.items()}
            for module, some in values["sizes"].items()
        }
        skipped = frozenset(values["skipped"])
        if not skipped <= {name for name, _ in network.named_modules() if name}:
            raise ValueError(f"no such blocks: {shown(repr(sorted(skipped)))}")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise CheckpointError(
            f"The file's cut does not fit the network: {shown(error)}."
        ) from error
    return Cut(entries, sizes, skipped)


def _entries(tensor: Tensor, axis: int, values: list[int]) -> Int64[Tensor, " entry"]:
    """Ascending entries along an axis of a tensor."""
    length = tensor.shape[axis]
    if not all(type(value) is int for value in values):
        raise ValueError(f"expected whole numbers, got {shown(repr(values))}")
    ascending = all(before < after for before, after in pairwise(values))
    if not values or not ascending or values[0] < 0 or values[-1] >= length or axis < 0:
        raise ValueError(f"expected some of {length} entries in ascending order")
    return torch.tensor(values)


def _size(network: nn.Module, module: str, attribute: str, size: Any) -> Size:
    """A size no larger than the one that the module has."""
    before = getattr(network.get_submodule(module), attribute)
    after = tuple(size) if isinstance(size, list) else size
    numbers = [list(value) if isinstance(value, tuple) else [value] for value in (before, after)]
    if not all(type(number) is int for some in numbers for number in some):
        raise ValueError(f"{module}.{attribute} is no size")
    if type(before) is not type(after) or not all(
        0 < new <= old for old, new in zip(*numbers, strict=True)
    ):
        raise ValueError(f"expected {module}.{attribute} of at most {before}, got {size}")
    return after
