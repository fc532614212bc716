"""STP: the whole network teaches a subnet that is narrowed during training, and loses nothing.

    loss = task(f(x)) + distance(f(x) detached, f_c(x)) + distance(f(x) detached, f_e(x))

c is a candidate, a depth with widths; e is drawn between c and the whole network. STP (Ye et al.,
"Enhanced Sparsification via Stimulative Training", ECCV 2024, arXiv 2403.06417): no penalty
shrinks the weights that are left out. They stay a part of the teacher, and what is kept grows
stronger by distillation. Three parts are named in the abstract: a space of depths and widths;
exploration led by distillation (``width_search``); expansion (f_e), which bridges the gap in
capacity. How they go together follows what can be inferred from public code of the same group.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import nn

from .budgets import Budget
from .common import WeightsOnlyStep
from .distillation import detached
from .groups import ChannelGroup
from .masks import subnet_of_sizes
from .samplers import uniform_depths, uniform_share, uniform_widths
from .spaces import DepthSpace
from .subnet import Subnet
from .task import CompressionTask, Knowledge
from .width_search import SearchSettings, WidthSearch

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class STPSettings:
    """How subnets are taught. The distance is the task's: KL- is our choice for classifiers."""

    search: SearchSettings = field(default_factory=SearchSettings)
    """How widths fall."""
    pool_size: int = 4
    """Depths that are narrowed side by side, the whole one among them; our choice."""
    expansion: bool = True
    """Whether a larger subnet is taught in each step, too; published."""
    distillation_weight: float = 1.0
    """Of each subnet's loss; our choice."""
    smallest_input: float = 1.0
    """Sides of subnets' inputs, as a share drawn between this and 1; our choice (public code draws
    among sizes for convolutional networks)."""


class STP(WeightsOnlyStep[Batch]):
    """The step of STP.

    Attributes:
        search: For the widths.
    """

    def __init__(
        self,
        network: nn.Module,
        groups: Sequence[ChannelGroup],
        task: CompressionTask[Batch],
        budgets: Sequence[Budget],
        total_steps: int,
        space: DepthSpace | None = None,
        settings: STPSettings = STPSettings(),
        seed: int = 0,
    ) -> None:
        """Candidates start whole.

        Args:
            network: Trained in place.
            groups: May be narrowed.
            task: The network's work.
            budgets: All are met; the first one's cost makes the ladders.
            total_steps: Of the training, by which the schedule goes.
            space: Depths, of which the pool is drawn; if None, all blocks are kept.
            settings: How subnets are taught and found.
            seed: Of all that is drawn.

        Raises:
            ValueError: if a depth with the narrowest widths exceeds a budget.
        """
        super().__init__(network, task, seed, groups)
        self.settings = settings
        self.total_steps = total_steps
        self._space = space or DepthSpace(blocks=(), minimum=())
        depths = self._drawn_depths()
        self.search = WidthSearch(groups, budgets, depths, settings.search, self.generator)

    def step(self, batch: Batch) -> dict[str, float]:
        """Gradients of the whole network's loss and of the subnets'; losses, kept share."""
        prediction, loss = self._task_step(batch)
        losses = {"task": loss, "candidate": 0.0, "expansion": 0.0, "keep_0": 1.0}
        if self.steps < self.settings.search.warm_up * self.total_steps:
            return losses
        teacher = detached(prediction.knowledge)
        candidate = self.search.drawn()
        sizes, group = self.search.proposed(candidate)
        losses["candidate"] = self._teach(teacher, sizes, candidate.skipped, batch)
        self.search.note(candidate, group, losses["candidate"])
        if self.settings.expansion:
            larger, skipped = self.expanded(sizes, candidate.skipped)
            losses["expansion"] = self._teach(teacher, larger, skipped, batch)
        losses["keep_0"] = self.search.shares(candidate)[0]
        return losses

    def after_step(self) -> None:
        """Counts, and lets the search go on."""
        super().after_step()
        self.search.advance(self.steps / self.total_steps)

    def result(self) -> Subnet:
        """The candidate of the lowest loss; it meets the budgets when their time is up."""
        best = self.search.best()
        return subnet_of_sizes(self.network, self.groups, best.sizes, best.skipped)

    def state_dict(self) -> dict[str, Any]:
        """The search, besides count and random numbers."""
        return {**super().state_dict(), "search": self.search.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up where ``state_dict`` was taken."""
        super().load_state_dict(state)
        self.search.load_state_dict(state["search"])

    def expanded(
        self, sizes: Mapping[str, int], skipped: frozenset[str]
    ) -> tuple[dict[str, int], frozenset[str]]:
        """Widths and skipped blocks drawn evenly between these and the whole network's."""
        kept = tuple(len(set(names) - skipped) for names in self._space.blocks)
        depths = uniform_depths(replace(self._space, minimum=kept), self.generator)
        widths = uniform_widths(self.groups, sizes, self.generator)
        return widths, self._space.subnet(depths).skipped

    def _teach(
        self,
        teacher: Knowledge,
        sizes: Mapping[str, int],
        skipped: frozenset[str],
        batch: Batch,
    ) -> float:
        share = uniform_share(self.settings.smallest_input, self.generator)
        inputs = self.task.resized(batch, share) if share < 1 else batch
        subnet = subnet_of_sizes(self.network, self.groups, sizes, skipped)
        with subnet.active(self.network, self.groups):
            student = self.task.predict(self.network, inputs)
            return self._distil(teacher, student, self.settings.distillation_weight)

    def _drawn_depths(self) -> list[frozenset[str]]:
        """What the whole depth and others, all different, skip."""
        full = self._space.full
        others = [depths for depths in self._space if depths != full]
        order = torch.randperm(len(others), generator=self.generator).tolist()
        chosen = [full, *(others[i] for i in order[: self.settings.pool_size - 1])]
        return [self._space.subnet(depths).skipped for depths in chosen]
