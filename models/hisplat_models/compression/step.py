"""The contract that all methods share, so that one loop trains with each of them."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

from torch import nn

from .subnet import Subnet

Batch = TypeVar("Batch", contravariant=True)


@runtime_checkable
class CompressionStep(Protocol[Batch]):
    """One method at work on one network.

    The loop clears gradients, calls ``step``, and makes one optimiser step over the network's
    parameters and ``extra_parameters``::

        for batch in batches:
            optimizer.zero_grad()
            losses = method.step(batch)
            optimizer.step()
            method.after_step()
    """

    def step(self, batch: Batch) -> Mapping[str, float]:
        """Accumulates gradients of all losses of one batch; returns the losses by name."""
        ...

    def after_step(self) -> None:
        """Called when the optimiser has stepped: progress of budgets, centring of masks."""
        ...

    def extra_parameters(self) -> Iterable[nn.Parameter]:
        """What is learned besides the network (masks); no weight decay belongs on it."""
        ...

    def result(self) -> Subnet:
        """The subnet that training has led to so far; the whole network if none was sought."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs: tensors, numbers, strings, lists and dicts of them."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up where ``state_dict`` was taken."""
        ...
