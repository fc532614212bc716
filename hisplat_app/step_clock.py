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


class Forecast:
    """Passes the news on, and says once how long the rest will take if that is long.

    Args:
        progress: Told about each step.
        since: Share of the job after which its shares take equally long.
        tell: Gets the seconds left, once another step has begun after that.
        clock: Seconds.
    """

    def __init__(
        self,
        progress: Progress,
        since: float,
        tell: Callable[[float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress, self._since, self._tell, self._clock = progress, since, tell, clock
        self._begin: float | None = None
        self._told = False

    def __call__(self, step: str, fraction: float) -> None:
        """The step that begins, and the share of the job that is done."""
        self._progress(step, fraction)
        if fraction == self._since:
            self._begin = self._clock()
        elif fraction > self._since and self._begin is not None and not self._told:
            self._told = True
            spent = self._clock() - self._begin
            self._tell(spent / (fraction - self._since) * (1 - fraction))
