"""Which blocks to skip for a budget: those that the network knows best to do without.

Subnets of ST and GKT may have any depth; nothing public says which to take for a budget. Our
choice: blocks are skipped from the ends of their stages, in the order of the loss that skipping
each costs for what it saves.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import nn

from .budgets import Budget
from .distillation import detached
from .groups import ChannelGroup
from .spaces import Depths, DepthSpace
from .task import CompressionTask

Batch = TypeVar("Batch")


def depths_by_loss(
    space: DepthSpace, budget: Budget, loss: Callable[[Depths], float]
) -> Iterator[Depths]:
    """Ever smaller depths, from the whole to the least, one block at a time.

    The block comes next whose loss is smallest for its share of the cost; its loss is what a
    network costs that lacks this block and those behind it in its stage, and nothing else.
    """
    full = space.full
    alone: dict[tuple[int, int], float] = {}
    for stage, (most, least) in enumerate(zip(full, space.minimum, strict=True)):
        for kept in range(least, most):
            depths = _with(full, stage, kept)
            saved = 1 - budget.share({}, space.subnet(depths).skipped)
            alone[stage, kept] = loss(depths) / max(saved, 1e-9)
    now = full
    yield now
    while now != space.minimum:
        stages = [i for i, kept in enumerate(now) if kept > space.minimum[i]]
        stage = min(stages, key=lambda i: alone[i, now[i] - 1])
        now = _with(now, stage, now[stage] - 1)
        yield now


def depths_within(space: DepthSpace, budget: Budget, order: Iterator[Depths]) -> Depths:
    """The first of these depths that the budget allows.

    Raises:
        ValueError: if none is; says what the least is.
    """
    least = 1.0
    for depths in order:
        least = budget.share({}, space.subnet(depths).skipped)
        if least <= budget.keep:
            return depths
    raise ValueError(
        f"Skipping all blocks that may be skipped keeps {least:.3f} of the cost, more than "
        f"{budget.keep}; keep more, or take a method that narrows: stp, s2h."
    )


def check_reachable(space: DepthSpace, budget: Budget) -> None:
    """Refuses a budget that no depth of the space meets.

    Raises:
        ValueError: says what the least is.
    """
    depths_within(space, budget, iter([space.minimum]))


class LossOfDepths:
    """How far a network of other depths is from the whole one, mean over some batches.

    Args:
        network: In evaluation mode.
        groups: As ``Subnet.active`` wants them.
        space: Of the depths.
        task: Its work.
        batches: Some.
    """

    def __init__(
        self,
        network: nn.Module,
        groups: Sequence[ChannelGroup],
        space: DepthSpace,
        task: CompressionTask[Batch],
        batches: list[Batch],
    ):
        self._network, self._groups, self._space = network, groups, space
        self._task, self._batches = task, batches
        with torch.no_grad():
            self._teachers = [detached(task.predict(network, b).knowledge) for b in batches]

    @torch.no_grad()
    def __call__(self, depths: Depths) -> float:
        """The mean distance."""
        with self._space.subnet(depths).active(self._network, self._groups):
            losses = [
                self._task.distillation_loss(
                    teacher, self._task.predict(self._network, batch).knowledge
                ).item()
                for teacher, batch in zip(self._teachers, self._batches, strict=True)
            ]
        return sum(losses) / len(losses)


def _with(depths: Depths, stage: int, kept: int) -> Depths:
    return (*depths[:stage], kept, *depths[stage + 1 :])
