"""A polite stop: the step in hand is finished and kept before the process ends."""

import signal
import threading
from types import FrameType, TracebackType


class StopSignal:
    """Notes SIGTERM instead of dying from it, while open; signals reach the main thread only.

    Attributes:
        received: Whether it came.
    """

    def __init__(self) -> None:
        self.received = False
        self._previous = None

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = True
