"""What several methods need of one pair, made once, with times as if each had made it itself."""

import time
from collections.abc import Callable, Hashable
from typing import TypeVar, cast

T = TypeVar("T")


class SharedWork:
    """The parts that are done for a pair, and how long each took.

    Whoever takes what another one made saves time; ``timed`` counts what was saved as well, so
    that seconds do not depend on who came first.
    """

    def __init__(self):
        self._made: dict[Hashable, tuple[object, float]] = {}
        self._saved = 0.0

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What the first ``make`` of this key returned, which may use other parts in turn."""
        if key not in self._made:
            self._made[key] = self.timed(make)
            return cast("T", self._made[key][0])
        made, seconds = self._made[key]
        self._saved += seconds
        return cast("T", made)

    def timed(self, work: Callable[[], T]) -> tuple[T, float]:
        """What it returns and the seconds it would have taken with nothing made before."""
        saved, start = self._saved, time.perf_counter()
        result = work()
        return result, time.perf_counter() - start + self._saved - saved
