"""Activations that are computed again in the backward pass instead of being kept."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from ..features.residual_unet import ResidualBlock
from ..network import HiSplat


def heavy_modules(model: HiSplat) -> list[nn.Module]:
    """The parts whose activations take most of the memory, none inside another.

    Batch norms are not among them: they would count every batch twice.
    """
    blocks = [m for m in model.cnn.modules() if isinstance(m, ResidualBlock)]
    return [*blocks, *model.transformer.layers, *model.stages]


@contextmanager
def recomputed(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Calls of these modules within it keep their inputs only; gradients are the same."""
    modules = list(modules)
    for module in modules:
        # No randomness in the network: no need to keep its state either.
        module.forward = partial(
            checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False
        )
    try:
        yield
    finally:
        for module in modules:
            del module.forward
