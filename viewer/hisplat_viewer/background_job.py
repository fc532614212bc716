"""Slow work for one browser, on a thread of its own."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from .saving import Progress

logger = logging.getLogger(__name__)

Work = Callable[[Progress], bytes]
Ended = Callable[[bytes | Exception], None]


class Cancelled(Exception):
    """Raised inside work that nobody waits for any more."""


class BusyError(ValueError):
    """There is work already; one thing after another."""


class BackgroundJobs:
    """Does one piece of work at a time; a thread lives as long as its work.

    Args:
        name: Of the threads.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._job: _Job | None = None
        self._closed = False
        self._lock = threading.Lock()  # guards the two fields above

    def start(self, work: Work, told: Progress, ended: Ended) -> None:
        """Begins the work and returns at once.

        Args:
            work: Makes something; is cancelled by the ``Progress`` that it's given.
            told: Hears what the work says, on the work's thread.
            ended: Hears the result or why there is none (``Cancelled``, for one), on the same
                thread; hears nothing after ``close``.

        Raises:
            BusyError: if there is work already.
        """
        job = _Job(work, told, ended)
        with self._lock:
            if self._closed:
                return
            if self._job is not None:
                raise BusyError("One thing after another: wait, or cancel what is being made.")
            self._job = job
            job.thread = threading.Thread(
                target=self._run, args=(job,), name=self._name, daemon=True
            )
            job.thread.start()

    def cancel(self) -> None:
        """Calls the work off; it ends when it next reports progress."""
        with self._lock:
            if self._job is not None:
                self._job.cancelled.set()

    def close(self) -> None:
        """Calls the work off; nobody hears of it any more."""
        with self._lock:
            self._closed = True
            if self._job is not None:
                self._job.cancelled.set()

    def join(self) -> None:
        """Waits for the work's end."""
        with self._lock:
            thread = None if self._job is None else self._job.thread
        if thread is not None:
            thread.join()

    def _run(self, job: "_Job") -> None:
        outcome = _outcome(job)
        with self._lock:
            self._job = None
            heard = not self._closed
        if heard:
            job.ended(outcome)


@dataclass(eq=False)
class _Job:
    work: Work
    told: Progress
    ended: Ended
    cancelled: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def progress(self, step: str, fraction: float) -> None:
        if self.cancelled.is_set():
            raise Cancelled
        self.told(step, fraction)


def _outcome(job: _Job) -> bytes | Exception:
    try:
        content = job.work(job.progress)
    except Cancelled as error:
        return error
    except Exception as error:  # whoever waits hears of it
        if not isinstance(error, ValueError | OSError):
            logger.exception("Could not make a file")
        return error
    return Cancelled() if job.cancelled.is_set() else content
