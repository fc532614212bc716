"""How long each step of a longer job took, told while it goes on."""

import time
from collections.abc import Callable

Progress = Callable[[str, float], None]
"""Called with the name of the step that begins and the share of the job done, in [0, 1]."""


def ignore_progress(step: str, fraction: float) -> None:
    """A ``Progress`` for those who don't want to know."""


class StepClock:
    """Times steps by the moments they begin, and passes the news on.

    Args:
        progress: Told about each step; may raise to cancel the job.
    """

    def __init__(self, progress: Progress = ignore_progress) -> None:
        self._progress = progress
        self._seconds: dict[str, float] = {}
        self._current: tuple[str, float] | None = None

    def begin(self, step: str, fraction: float) -> None:
        """Ends the step before and begins another; a step may come back."""
        self._end()
        self._current = (step, time.perf_counter())
        self._progress(step, fraction)

    def part(self, low: float, high: float) -> Progress:
        """A ``Progress`` for a part of the job, whose fractions lie between these of the whole."""

        def begin(step: str, fraction: float) -> None:
            if fraction < 1:
                self.begin(step, low + (high - low) * fraction)

        return begin

    def finish(self) -> dict[str, float]:
        """Seconds by step, in the order they began."""
        self._end()
        self._progress("done", 1.0)
        return dict(self._seconds)

    def _end(self) -> None:
        if self._current is not None:
            step, since = self._current
            spent = time.perf_counter() - since
            self._seconds[step] = self._seconds.get(step, 0.0) + spent
        self._current = None
