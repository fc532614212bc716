"""Which frames of a scene are given and which ones renders are compared with.

``BoundedSampler`` draws for training, ``IndexSampler`` follows an evaluation index, ``AllViews``
takes everything. Frames are counted from 0 in the order in which the scene stores them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch

from .posed_scene import UnusableScene


@dataclass(frozen=True)
class ViewChoice:
    """Frames of one scene: those to reconstruct from, in order of the scene, and the targets."""

    context: tuple[int, ...]
    target: tuple[int, ...]


@runtime_checkable
class ViewSampler(Protocol):
    """Chooses frames."""

    def names(self, key: str) -> Sequence[str]:
        """The names of the examples that a scene of this name gives, usually just its own."""
        ...

    def refusal(self, name: str) -> str | None:
        """Why an example is known beforehand to be impossible; None if it may be possible."""
        ...

    def choose(
        self, name: str, frames: int, generator: torch.Generator, step: int | None
    ) -> ViewChoice:
        """Frames of a scene.

        Args:
            name: Of the example.
            frames: How many the scene has.
            generator: The only source of chance.
            step: Global training step, for a curriculum; None means its end.

        Raises:
            UnusableScene: if the scene has no such frames.
        """
        ...


@dataclass(frozen=True)
class BoundedSampler:
    """Context frames a bounded number of frames apart, targets at random between them.

    The bounds grow linearly with the training step. The published configuration asks for a gap
    between a least and a greatest one, but the published code sets the greatest to the least: the
    gap is exactly 25 frames at first and 45 in the end. Scenes with fewer frames give nothing.

    Attributes:
        context_views: Those beyond two lie between the outer ones.
        target_views: Targets per example.
        least_gap: Between the outer context frames, at the first step and after the warm-up.
        greatest_gap: Likewise; not used as published.
        warm_up_steps: After so many steps the bounds stay; 0 to begin with the final ones.
        as_published: The gap is exactly the least one, and targets are drawn with replacement and
            may be the context frames themselves. Otherwise the gap is drawn between both bounds,
            and targets are different frames strictly between the outer ones, context left out, as
            long as there are enough.
    """

    context_views: int = 2
    target_views: int = 4
    least_gap: tuple[int, int] = (25, 45)
    greatest_gap: tuple[int, int] = (45, 192)
    warm_up_steps: int = 150_000
    as_published: bool = True

    def __post_init__(self) -> None:
        """Refuses impossible bounds.

        Raises:
            ValueError: naming them.
        """
        if self.context_views < 2 or self.target_views < 1 or self.warm_up_steps < 0:
            raise ValueError(
                "Expected at least 2 context views, 1 target and no negative warm-up, got "
                f"{self.context_views}, {self.target_views} and {self.warm_up_steps}."
            )
        if min(self.least_gap) < self.context_views - 1:
            raise ValueError(
                f"{self.context_views} different context views need a gap of at least "
                f"{self.context_views - 1} frames, got {self.least_gap}."
            )
        if any(low > high for low, high in zip(self.least_gap, self.greatest_gap, strict=True)):
            raise ValueError(
                f"Expected the least gap not above the greatest, got {self.least_gap} and "
                f"{self.greatest_gap}."
            )

    def gap_bounds(self, step: int | None) -> tuple[int, int]:
        """Least and greatest gap at a training step; None: after the warm-up."""
        least = self._scheduled(self.least_gap, step)
        return least, least if self.as_published else self._scheduled(self.greatest_gap, step)

    def names(self, key: str) -> Sequence[str]:
        """One example per scene, named like it."""
        return (key,)

    def refusal(self, name: str) -> str | None:
        """None: how many frames a scene has is known only when it is read."""
        return None

    def choose(
        self, name: str, frames: int, generator: torch.Generator, step: int | None
    ) -> ViewChoice:
        """Frames drawn at random.

        Raises:
            UnusableScene: if the scene has too few frames for the least gap.
        """
        least, greatest = self.gap_bounds(step)
        if frames <= least:
            raise UnusableScene(
                f"The scene {name} has {frames} frames; a gap of {least} needs {least + 1}."
            )
        gap = _random(least, min(greatest, frames - 1), generator)
        left = _random(0, frames - 1 - gap, generator)
        right = left + gap
        inner = torch.randperm(gap - 1, generator=generator)[: self.context_views - 2]
        context = (left, *sorted(left + 1 + int(i) for i in inner), right)
        return ViewChoice(context, self._targets(context, generator))

    def _targets(self, context: tuple[int, ...], generator: torch.Generator) -> tuple[int, ...]:
        candidates = list(range(context[0], context[-1] + 1))
        between = [i for i in candidates if i not in context]
        if not self.as_published and len(between) >= self.target_views:
            chosen = torch.randperm(len(between), generator=generator)[: self.target_views]
            return tuple(sorted(between[int(i)] for i in chosen))
        drawn = torch.randint(len(candidates), (self.target_views,), generator=generator)
        return tuple(candidates[int(i)] for i in drawn)

    def _scheduled(self, bounds: tuple[int, int], step: int | None) -> int:
        first, last = bounds
        if step is None or step >= self.warm_up_steps:
            return last
        return first + int((last - first) * step / self.warm_up_steps)


@dataclass(frozen=True)
class IndexSampler:
    """The frames an evaluation index names (``evaluation_index.read_index`` reads one).

    An entry is named like its scene; where a scene has several, as in the published indices of DTU
    and Replica, they are numbered: ``scan1_train_00``, ``scan1_train_01``, ….

    Attributes:
        entries: By name; None where the index says ``null``.
        context_views: How many to give. Where the index names more, the outer ones and those
            nearest to even steps between them are kept. Where it names fewer, frames are added
            that lie between the outer ones at even steps: for a third view the middle frame. An
            added frame is never a target, since that would measure what was given; the nearest
            other frame takes its place. None: as many as the index names.
    """

    entries: Mapping[str, ViewChoice | None]
    context_views: int | None = None

    @cached_property
    def _numbered(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in self.entries:
            if match := re.fullmatch(r"(.+)_\d+", name):
                found.setdefault(match[1], []).append(name)
        return found

    def names(self, key: str) -> Sequence[str]:
        """The scene's entry, or its numbered entries; its own name if there are none."""
        return [key] if key in self.entries else self._numbered.get(key, [key])

    def refusal(self, name: str) -> str | None:
        """For scenes without an entry, and those with ``null``."""
        if name not in self.entries:
            return "not in the evaluation index"
        return "null in the evaluation index" if self.entries[name] is None else None

    def choose(
        self, name: str, frames: int, generator: torch.Generator, step: int | None
    ) -> ViewChoice:
        """The frames of the index; nothing is drawn.

        Raises:
            UnusableScene: if it has none for this scene, or frames that the scene has not.
        """
        entry = self.entries.get(name)
        if entry is None:
            raise UnusableScene(f"The scene {name} cannot be used: {self.refusal(name)}.")
        beyond = [i for i in (*entry.context, *entry.target) if not 0 <= i < frames]
        if beyond:
            raise UnusableScene(
                f"The evaluation index names the frames {beyond} of the scene {name}, which has "
                f"only {frames}."
            )
        return ViewChoice(with_context_views(entry, self.context_views, name), entry.target)


@dataclass(frozen=True)
class AllViews:
    """Every frame of a scene is given, and every frame is a target."""

    def names(self, key: str) -> Sequence[str]:
        """One example per scene, named like it."""
        return (key,)

    def refusal(self, name: str) -> str | None:
        """None: every scene will do."""
        return None

    def choose(
        self, name: str, frames: int, generator: torch.Generator, step: int | None
    ) -> ViewChoice:
        """All frames in order; nothing is drawn."""
        return ViewChoice(tuple(range(frames)), tuple(range(frames)))


def with_context_views(entry: ViewChoice, count: int | None, key: str) -> tuple[int, ...]:
    """The context frames of an entry, reduced or completed to a number as IndexSampler says.

    Raises:
        UnusableScene: if there are too few frames that are no targets.
    """
    context = tuple(sorted(entry.context))
    if count is None or count == len(context):
        return entry.context
    left, right = context[0], context[-1]
    # Halves are rounded to even, as in the published index of three views of Replica.
    steps = [round(left + (right - left) * k / (count - 1)) for k in range(1, count - 1)]
    if count < len(context):
        kept = {left, right}
        pool = set(context) - kept
    else:
        kept = set(context)
        pool = set(range(left + 1, right)) - kept - set(entry.target)
    while len(kept) < count and pool:
        step = max(steps, key=lambda place: min(abs(place - frame) for frame in kept))
        nearest = min(pool, key=lambda frame: (abs(frame - step), frame))
        pool.remove(nearest)
        kept.add(nearest)
    if len(kept) < count:
        raise UnusableScene(
            f"The scene {key} has no {count} context views: between the frames {left} and {right} "
            "of the evaluation index all are targets."
        )
    return tuple(sorted(kept))


def _random(low: int, high: int, generator: torch.Generator) -> int:
    """A whole number from low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))
