"""Statistics of batch norms, taken again for the subnet at hand.

While subnets are trained, all of them write to the same running statistics, which then fit none.
Published for ST (NeurIPS 2022; repository Sunshine-Ye/NIPS22-ST): before a network or subnet is
evaluated, the mean over batches of batch means and of biased batch variances is written to the
buffers, from at least 2,000 training images.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

Batch = TypeVar("Batch")


def reestimated_statistics(
    network: nn.Module,
    batches: Iterable[Batch],
    predict: Callable[[nn.Module, Batch], object],
) -> int:
    """Writes means and variances of these batches to all batch norms that they pass through.

    Nothing else of the network changes: neither weights nor the modes of its modules. Norms that
    no batch passes through, as in skipped blocks, keep their statistics. Batches count by the
    number of values that they bring to a norm.

    Args:
        network: Whole, or with a subnet active.
        batches: At least one.
        predict: Runs the network on a batch, as ``CompressionTask.predict`` does.

    Returns:
        How many norms were written to.

    Raises:
        ValueError: without a batch.
    """
    seen = {norm: _Mean() for norm in network.modules() if _keeps_statistics(norm)}
    count = 0
    with _only_norms_in_training(network, seen), _watching(seen), torch.no_grad():
        for batch in batches:
            predict(network, batch)
            count += 1
    if count == 0:
        raise ValueError("Expected at least one batch to take statistics from")
    return sum(mean.write(norm) for norm, mean in seen.items())


class _Mean:
    """Mean of means and of variances so far, and the number of values per channel behind it."""

    def __init__(self) -> None:
        self._values = 0
        self._statistics = torch.zeros(())

    def watch(self, norm: nn.Module, arguments: tuple[Any, ...]) -> None:
        """Takes in a norm's input, (batch, channel, ...)."""
        (x,) = arguments
        x = x.transpose(0, 1).flatten(1).float()
        new = torch.stack([x.mean(1), x.var(1, correction=0)])
        self._values += x.shape[1]
        share = x.shape[1] / self._values
        self._statistics = self._statistics.to(new) + share * (new - self._statistics.to(new))

    def write(self, norm: nn.Module) -> bool:
        """Sets the norm's statistics if it was passed through; whether it was."""
        if self._values == 0:
            return False
        mean, variance = self._statistics
        norm.get_buffer("running_mean").copy_(mean)
        norm.get_buffer("running_var").copy_(variance)
        return True


def _keeps_statistics(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.running_mean is not None


@contextmanager
def _watching(seen: Mapping[nn.Module, _Mean]) -> Iterator[None]:
    handles = [norm.register_forward_pre_hook(mean.watch) for norm, mean in seen.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _only_norms_in_training(network: nn.Module, norms: Iterable[nn.Module]) -> Iterator[None]:
    """Norms use statistics of the batch; what is random in training (dropout) is not."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    for norm in norms:
        norm.training = True
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
