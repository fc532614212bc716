"""The loop that all methods train in: stochastic gradient descent, Nesterov, cosine to zero."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from hisplat_models.compression.groups import ChannelGroup
from hisplat_models.compression.statistics import reestimated_statistics
from hisplat_models.compression.step import CompressionStep
from hisplat_models.compression.subnet import Subnet

from .tasks import Classification, ImageBatch, accuracy, mean_losses, parts

STATISTICS_IMAGES = 2000
"""Training images from which norms' statistics are taken again; at least so many is published."""


@dataclass(frozen=True)
class TrainingSettings:
    """How long and how fast."""

    epochs: int = 60
    """Passes over the training images."""
    batch_size: int = 64
    """Images per step; the last batch of an epoch may be smaller."""
    learning_rate: float = 0.1
    """At the start; falls to zero along half a cosine, step by step."""
    momentum: float = 0.9
    """Of Nesterov's kind."""
    weight_decay: float = 5e-4
    """Of the network's weights, not of what a method learns besides."""
    extra_learning_rate: float = 0.1
    """For what a method learns besides the network (masks)."""
    shift_px: int = 1
    """Images are shifted by up to so much, at random."""


SomeSamples = TypeVar("SomeSamples", bound="Samples")


class Samples(Protocol):
    """What can be trained on: inputs with their targets."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self: SomeSamples, chosen: Int64[Tensor, " chosen"], /) -> SomeSamples:
        """Some of them."""
        ...

    def moved(self: SomeSamples, most_px: int, generator: torch.Generator) -> SomeSamples:
        """Each shifted by up to so many pixels, at random."""
        ...


def train(
    network: nn.Module,
    method: CompressionStep[SomeSamples],
    samples: SomeSamples,
    settings: TrainingSettings,
    seed: int,
    on_epoch: Callable[[int, Mapping[str, float]], None] = lambda epoch, losses: None,
) -> dict[str, float]:
    """Trains in place; the order and shifts of images follow the seed.

    Args:
        network: Weights and statistics are changed.
        method: Accumulates gradients.
        samples: What is trained on.
        settings: Length and speed.
        seed: Of order and shifts, nothing else.
        on_epoch: Called after each epoch with its number from 0 and its mean losses.

    Returns:
        Mean losses of the last epoch.
    """
    generator = torch.Generator().manual_seed(seed)
    steps = settings.epochs * math.ceil(len(samples) / settings.batch_size)
    optimizer = optimizer_of(network, method, settings)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    means: dict[str, float] = {}
    for epoch in range(settings.epochs):
        network.train()
        order = torch.randperm(len(samples), generator=generator)
        losses = []
        for chosen in order.split(settings.batch_size):
            batch = samples[chosen].moved(settings.shift_px, generator)
            optimizer.zero_grad()
            losses.append(method.step(batch))
            optimizer.step()
            schedule.step()
            method.after_step()
        means = mean_losses(losses)
        on_epoch(epoch, means)
    return means


def optimizer_of(
    network: nn.Module, method: CompressionStep[SomeSamples], settings: TrainingSettings
) -> torch.optim.SGD:
    """Over the network's parameters and, at their own speed and without decay, the method's."""
    groups: list[dict[str, object]] = [
        {"params": list(network.parameters()), "weight_decay": settings.weight_decay}
    ]
    extra = list(method.extra_parameters())
    if extra:
        groups.append({"params": extra, "lr": settings.extra_learning_rate})
    return torch.optim.SGD(
        groups, settings.learning_rate, settings.momentum, nesterov=settings.momentum > 0
    )


def subnet_accuracy(
    network: nn.Module,
    groups: Sequence[ChannelGroup],
    subnet: Subnet,
    train: ImageBatch,
    test: ImageBatch,
) -> float:
    """Percent of test images a subnet gets right, its norms' statistics taken again for it.

    The network itself is left as it was.
    """
    network = copy.deepcopy(network)
    task = Classification()
    with subnet.active(network, groups):
        calibration = parts(train[slice(STATISTICS_IMAGES)], 500)
        reestimated_statistics(network, calibration, task.predict)
        return accuracy(network, test)
