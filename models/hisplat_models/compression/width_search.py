"""Widths that fall during training to what budgets allow, where it costs the least knowledge.

The search of STP (ECCV 2024, arXiv 2403.06417), which its abstract calls led by distillation: each
channel group in turn is tried one step narrower; the groups whose loss stays lowest are narrowed.
Several depths are narrowed side by side, and the best of them is what is left. Ladders of steps
that save alike, circles, and one-sided budgets are inferred from public code of the same group;
the schedule is our choice.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from .budgets import Budget
from .groups import ChannelGroup


@dataclass(frozen=True)
class SearchSettings:
    """How fast and how far widths fall."""

    tolerance: float = 0.01
    """Share of a cost by which a budget may be exceeded; our choice."""
    step_share: float = 0.01
    """Share of the first budget's cost that one step of a ladder saves, if channels allow it; our
    choice."""
    minimum_share: float | None = None
    """Share of a group's channels that stay in any case. If None, half the square root of the first
    budget: with the root itself, as public code has it, budgets may be out of reach."""
    warm_up: float = 0.05
    """Share of the training before anything is narrowed; our choice."""
    budget_by: float = 0.5
    """Share of the training at which budgets are met, the allowed cost falling evenly until then,
    so that the rest is spent on what is left; our choice."""
    chosen_by: float = 0.75
    """Share of the training at which one depth is left; our choice."""
    memory: float = 0.95
    """Of the running mean of losses, by which depths are chosen; our choice."""

    def __post_init__(self) -> None:
        """Refuses an order of events that cannot be.

        Raises:
            ValueError: unless warm-up, budget and choice follow each other within the training.
        """
        if not 0 <= self.warm_up < self.budget_by <= self.chosen_by <= 1:
            raise ValueError(
                "Expected 0 <= warm_up < budget_by <= chosen_by <= 1, got "
                f"{self.warm_up}, {self.budget_by}, {self.chosen_by}"
            )


@dataclass
class Candidate:
    """A depth, the widths it has come to, and what was seen of it.

    Attributes:
        skipped: Blocks that it skips.
        sizes: Kept channels per group.
        loss: Running mean of its loss.
        untried: Groups that this circle has not tried narrower yet.
        tries: Loss of this circle with that group one step narrower.
    """

    skipped: frozenset[str]
    sizes: dict[str, int]
    loss: float = math.inf
    untried: list[str] = field(default_factory=list)
    tries: dict[str, float] = field(default_factory=dict)


class WidthSearch:
    """The search; whoever trains asks it for widths and tells it losses.

    Attributes:
        steps: Per group that can be narrowed, by how many channels at once.
        minimum: Per group the fewest channels.
        pool: Candidates that are left.
    """

    def __init__(
        self,
        groups: Sequence[ChannelGroup],
        budgets: Sequence[Budget],
        depths: Sequence[frozenset[str]],
        settings: SearchSettings,
        generator: torch.Generator,
    ) -> None:
        """All candidates start whole.

        Raises:
            ValueError: if a depth with the narrowest widths exceeds a budget.
        """
        self._groups = {group.name: group for group in groups}
        self._budgets = budgets
        self._settings = settings
        self._generator = generator
        self._depths = len(depths)
        self.steps = ladder_steps(groups, budgets[0], settings.step_share)
        least = fewest_channels(groups, budgets[0], settings.minimum_share)
        whole = {group.name: group.channels for group in groups}
        self.minimum = {name: least[name] if name in self.steps else whole[name] for name in whole}
        self.pool = [Candidate(skipped, dict(whole)) for skipped in depths]
        for candidate in self.pool:
            self._check_reachable(candidate)

    def drawn(self) -> Candidate:
        """One of the pool, each alike."""
        return self.pool[int(torch.randint(len(self.pool), (), generator=self._generator))]

    def proposed(self, candidate: Candidate) -> tuple[dict[str, int], str | None]:
        """Widths to train next, and which group is one step narrower; None if budgets are met."""
        sizes = dict(candidate.sizes)
        if self.is_met(candidate):
            return sizes, None
        if not candidate.untried and not candidate.tries:
            names = self.narrowable(candidate)
            order = torch.randperm(len(names), generator=self._generator).tolist()
            candidate.untried = [names[i] for i in order]
        if not candidate.untried:
            return sizes, None
        group = candidate.untried.pop()
        sizes[group] = self.narrower(candidate, group)
        return sizes, group

    def note(self, candidate: Candidate, group: str | None, loss: float) -> None:
        """Takes in the loss of widths that were proposed."""
        if group is not None:
            candidate.tries[group] = loss
        before = loss if math.isinf(candidate.loss) else candidate.loss
        candidate.loss = self._settings.memory * before + (1 - self._settings.memory) * loss

    def advance(self, progress: float) -> None:
        """Narrows candidates whose circle is complete, and thins out the pool.

        Args:
            progress: Share of the training that is done.
        """
        if progress < self._settings.warm_up:
            return
        late = progress >= self._settings.budget_by
        for candidate in self.pool:
            if late or (candidate.tries and not candidate.untried):
                self._narrow(candidate, progress)
        self.pool = sorted(self.pool, key=lambda candidate: candidate.loss)[: self._left(progress)]

    def best(self) -> Candidate:
        """That of the lowest loss, among those that meet the budgets if there are any."""
        met = [candidate for candidate in self.pool if self.is_met(candidate)]
        return min(met or self.pool, key=lambda candidate: candidate.loss)

    def shares(self, candidate: Candidate) -> list[float]:
        """How much of each budget's cost the candidate keeps."""
        return [budget.share(candidate.sizes, candidate.skipped) for budget in self._budgets]

    def is_met(self, candidate: Candidate) -> bool:
        """Whether no budget is exceeded by more than the tolerance."""
        return all(
            share <= budget.keep + self._settings.tolerance
            for share, budget in zip(self.shares(candidate), self._budgets, strict=True)
        )

    def narrowable(self, candidate: Candidate) -> list[str]:
        """Groups that have not come to the end of their ladder, and whose narrowing saves anything.

        It saves nothing where all of a group's layers are skipped.
        """
        return [
            name
            for name in self.steps
            if candidate.sizes[name] > self.minimum[name] and self._saves(candidate, name)
        ]

    def narrower(self, candidate: Candidate, group: str) -> int:
        """A group's next width, a multiple of its divisor."""
        divisor = self._groups[group].divisor
        wanted = candidate.sizes[group] - self.steps[group]
        return max(self.minimum[group], math.ceil(wanted / divisor) * divisor)

    def state_dict(self) -> dict[str, Any]:
        """The pool."""
        return {
            "pool": [
                {**vars(candidate), "skipped": sorted(candidate.skipped)} for candidate in self.pool
            ]
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up where ``state_dict`` was taken."""
        self.pool = [
            Candidate(**{**values, "skipped": frozenset(values["skipped"])})
            for values in state["pool"]
        ]

    def _saves(self, candidate: Candidate, group: str) -> bool:
        sizes = {**candidate.sizes, group: self.narrower(candidate, group)}
        return any(
            budget.cost.hard(sizes, candidate.skipped)
            < budget.cost.hard(candidate.sizes, candidate.skipped)
            for budget in self._budgets
        )

    def _narrow(self, candidate: Candidate, progress: float) -> None:
        """Takes steps in the order of the tries' losses until the schedule is kept.

        One step per circle in a long training; in a short one, several follow from one circle.
        """
        tried = sorted(candidate.tries, key=lambda name: candidate.tries[name])
        others = [name for name in self.steps if name not in candidate.tries]
        while not self._is_on_schedule(candidate, progress):
            possible = set(self.narrowable(candidate))
            for name in [*tried, *others]:
                if name in possible and not self._is_on_schedule(candidate, progress):
                    candidate.sizes[name] = self.narrower(candidate, name)
        candidate.tries, candidate.untried = {}, []

    def _is_on_schedule(self, candidate: Candidate, progress: float) -> bool:
        """Whether all costs have fallen as far as they should have by now."""
        start, end = self._settings.warm_up, self._settings.budget_by
        done = min((progress - start) / (end - start), 1.0)
        return all(
            share <= max(1 - done * (1 - budget.keep), budget.keep + self._settings.tolerance)
            for share, budget in zip(self.shares(candidate), self._budgets, strict=True)
        )

    def _check_reachable(self, candidate: Candidate) -> None:
        for budget in self._budgets:
            least = budget.share(self.minimum, candidate.skipped)
            if least > budget.keep + self._settings.tolerance:
                raise ValueError(
                    f"Expected a budget of at least {least:.3f} (skipping "
                    f"{sorted(candidate.skipped)}), got {budget.keep}; lower minimum_share or "
                    "allow more groups to be narrowed"
                )

    def _left(self, progress: float) -> int:
        """How many candidates stay: all until budgets are met, then ever fewer."""
        start, end = self._settings.budget_by, self._settings.chosen_by
        if progress < start:
            return self._depths
        if progress >= end:
            return 1
        return 1 + math.ceil((end - progress) / (end - start) * (self._depths - 1))


def fewest_channels(
    groups: Sequence[ChannelGroup], budget: Budget, share: float | None = None
) -> dict[str, int]:
    """Per group, how many channels it keeps in any case.

    Args:
        groups: Of the network.
        budget: Whose square root, halved, is the share if none is given.
        share: Of each group's channels.
    """
    if share is None:
        share = math.sqrt(budget.keep) / 2
    return {
        group.name: min(
            group.channels, max(1, round(share * group.channels / group.divisor)) * group.divisor
        )
        for group in groups
    }


def ladder_steps(
    groups: Sequence[ChannelGroup], budget: Budget, step_share: float
) -> dict[str, int]:
    """Per group, by how many channels it is narrowed at once, so that all steps save alike.

    The group whose smallest step saves most takes that; others take as many as save the same.
    """
    whole = budget.cost.of()
    saved = {
        group.name: whole - budget.cost.hard({group.name: group.channels - group.divisor})
        for group in groups
        if group.channels > group.divisor
    }
    wanted = max(step_share * whole, *saved.values())
    return {
        group.name: group.divisor * max(1, round(wanted / saved[group.name]))
        for group in groups
        if saved.get(group.name)
    }
