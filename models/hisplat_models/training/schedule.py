"""The learning rate as a function of the step alone, so that nothing of it needs to be saved."""

import math

from .settings import TrainSettings

ONE_CYCLE_RISE = 0.01
ONE_CYCLE_START = 1 / 25
ONE_CYCLE_END = ONE_CYCLE_START / 1e4
ONE_CYCLE_EXTRA_STEPS = 10
"""The published schedule is this much longer than the training."""


def learning_rate_share(settings: TrainSettings, step: int) -> float:
    """The share of the peak learning rate at a step, counted from 0."""
    if settings.schedule == "one_cycle":
        return _one_cycle(settings.steps, step)
    return _warmup_cosine(settings.steps, settings.warmup_steps, step)


def _warmup_cosine(steps: int, warmup: int, step: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    fraction = min(1.0, (step - warmup) / max(1, steps - warmup))
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * fraction))


def _one_cycle(steps: int, step: int) -> float:
    """Smith & Topin's one cycle as torch's OneCycleLR has it, with cosines both ways."""
    last = steps + ONE_CYCLE_EXTRA_STEPS - 1
    top = ONE_CYCLE_RISE * (last + 1) - 1
    if step <= top:
        return _cosine(ONE_CYCLE_START, 1.0, step / top)
    return _cosine(1.0, ONE_CYCLE_END, (step - top) / (last - top))


def _cosine(start: float, end: float, fraction: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * fraction))
