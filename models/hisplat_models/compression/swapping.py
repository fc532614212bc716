"""Other tensors and attributes in a network for a while, under the same names."""

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakSet

from torch import Tensor, nn

_changed: WeakSet[nn.Module] = WeakSet()
"""Modules of networks that are changed right now, so that changes cannot pile up unseen."""


@contextmanager
def swapped(
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    attributes: Sequence[tuple[nn.Module, str, Any]] = (),
) -> Iterator[None]:
    """While entered, the network has these tensors and attributes; then its own again.

    Args:
        network: Changed in place, also where one tensor is registered under several names.
        tensors: By name in its ``state_dict``; they need not be leaves or of the same shape.
        attributes: Module, name, value.

    Raises:
        RuntimeError: if any part of the network is changed so already.
    """
    modules = set(network.modules())
    if not _changed.isdisjoint(modules):
        raise RuntimeError("Expected a whole network, but a subnet or masks are active in it")
    with ExitStack() as undo:
        undo.callback(_changed.difference_update, modules)
        _changed.update(modules)
        for module, name, value in attributes:
            undo.callback(_restore, module, name, module.__dict__.get(name, _ABSENT))
            module.__dict__[name] = value
        for place, name, value in places(network, tensors):
            undo.callback(place.__setitem__, name, place[name])
            place[name] = value
        yield


_ABSENT = object()


def _restore(module: nn.Module, name: str, value: Any) -> None:
    if value is _ABSENT:
        del module.__dict__[name]
    else:
        module.__dict__[name] = value


def places(
    network: nn.Module, tensors: Mapping[str, Tensor]
) -> list[tuple[MutableMapping[str, Any], str, Tensor]]:
    """Every registration of the named tensors: a module's dict, the name in it, what goes there."""
    named = named_tensors(network)
    instead = {id(named[name]): value for name, value in tensors.items()}
    return [
        (registered, name, instead[id(tensor)])
        for module in network.modules()
        for registered in (module._parameters, module._buffers)
        for name, tensor in registered.items()
        if id(tensor) in instead
    ]


def named_tensors(network: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers by name, also those that have several names."""
    return {
        **dict(network.named_parameters(remove_duplicate=False)),
        **dict(network.named_buffers(remove_duplicate=False)),
    }
