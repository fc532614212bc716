"""One worker thread owns the network; the newest request of each client wins.

Clients wait in the order they came, each with at most one request, and are told their place.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Generic, Protocol, TypeVar, runtime_checkable

logger = logging.getLogger(__name__)

RequestT = TypeVar("RequestT")
ResultT = TypeVar("ResultT")
SelfT = TypeVar("SelfT", bound="Session")
ResultT_contra = TypeVar("ResultT_contra", contravariant=True)

MOST_WAITING = 50

Progress = Callable[[str, float], None]
Work = Callable[[RequestT, Progress], ResultT]


class Cancelled(Exception):
    """Raised inside the work when nobody waits for its result any more."""


class SessionFullError(ValueError):
    """There are as many requests waiting as are allowed."""


@runtime_checkable
class Listener(Protocol[ResultT_contra]):
    """Hears about one request: ``waiting``, then ``progress``, then exactly one of the others.

    ``progress``, ``finished`` and ``failed`` come from the worker thread, the others from any
    thread. A listener must not wait for somebody who is calling the session.
    """

    def waiting(self, ahead: int) -> None:
        """As many requests come first as ``ahead``; told again as it changes."""
        ...

    def progress(self, step: str, fraction: float) -> None:
        """The step just begun and the share of the work done, in [0, 1]."""
        ...

    def finished(self, result: ResultT_contra) -> None:
        """The work is done."""
        ...

    def failed(self, error: Exception) -> None:
        """The work raised ``error``; ValueError and OSError speak to the user."""
        ...

    def cancelled(self) -> None:
        """The request was replaced or withdrawn, or the session was closed."""
        ...


@dataclass(frozen=True, eq=False)
class _Job(Generic[RequestT, ResultT]):
    client: str
    request: RequestT
    listener: Listener[ResultT]
    cancelled: threading.Event = field(default_factory=threading.Event)
    told: list[int] = field(default_factory=list)  # the place its listener heard of last, if any

    def progress(self, step: str, fraction: float) -> None:
        if self.cancelled.is_set():
            raise Cancelled
        self.listener.progress(step, fraction)


class Session(Generic[RequestT, ResultT]):
    """Does requests one at a time, clients in turn.

    A client has at most one request: a newer one takes the place of its waiting one, or cancels
    its running one and goes to the end of the queue.

    Args:
        prepare: Called once, on the worker thread, as soon as the session starts; makes the
            function that does the work, e.g. by loading a network. If it raises, every request
            fails with its error.
        most_waiting: How many clients may wait at a time, besides the one being served.
    """

    def __init__(
        self, prepare: Callable[[], Work[RequestT, ResultT]], most_waiting: int = MOST_WAITING
    ) -> None:
        self._prepare = prepare
        self._most_waiting = most_waiting
        self._waiting: OrderedDict[str, _Job[RequestT, ResultT]] = OrderedDict()
        self._running: _Job[RequestT, ResultT] | None = None
        self._closed = False
        self._changed = threading.Condition()  # guards the three fields above
        self._telling = threading.Lock()  # held while places are told, so that they come in order
        self._thread = threading.Thread(target=self._serve, name="hisplat-session", daemon=True)
        self._thread.start()

    def submit(self, client: str, request: RequestT, listener: Listener[ResultT]) -> None:
        """Queues a request and returns at once; drops what ``client`` asked for before.

        Raises:
            RuntimeError: if the session is closed.
            SessionFullError: if too many others wait; what was asked for before stays.
        """
        job = _Job(client, request, listener)
        with self._changed:
            if self._closed:
                raise RuntimeError("The session is closed.")
            if client not in self._waiting and len(self._waiting) >= self._most_waiting:
                raise SessionFullError(
                    f"The queue is full: {len(self._waiting)} wait already. "
                    "Try again in some minutes."
                )
            self._cancel_running(client)
            replaced = self._waiting.get(client)
            self._waiting[client] = job  # keeps the place in the queue if one is waiting
            self._changed.notify()
        _tell_cancelled(replaced)
        self._tell_places()

    def withdraw(self, client: str) -> None:
        """Drops whatever ``client`` asked for."""
        with self._changed:
            self._cancel_running(client)
            withdrawn = self._waiting.pop(client, None)
        _tell_cancelled(withdrawn)
        self._tell_places()

    def run(self, client: str, request: RequestT, progress: Progress) -> ResultT:
        """Does a request for a caller who waits.

        Raises:
            Cancelled: if it is replaced or withdrawn, or the session is closed.
            Exception: whatever the work raises.
        """
        waiter: _Waiter[ResultT] = _Waiter(progress)
        self.submit(client, request, waiter)
        return waiter.future.result()

    def close(self) -> None:
        """Cancels everything and waits for the worker to end."""
        with self._changed:
            self._closed = True
            left = list(self._waiting.values())
            self._waiting.clear()
            if self._running is not None:
                self._running.cancelled.set()
            self._changed.notify()
        for job in left:
            _tell_cancelled(job)
        self._thread.join()

    def __enter__(self: SelfT) -> SelfT:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _cancel_running(self, client: str) -> None:
        if self._running is not None and self._running.client == client:
            self._running.cancelled.set()

    def _serve(self) -> None:
        try:
            work = self._prepare()
        except Exception as error:  # every request is answered with it
            logger.error("Nothing can be done: %s", error)
            work = _always_raise(error)
        while (job := self._next()) is not None:
            self._tell_places()  # also waits until nobody tells this job's listener an old place
            try:
                _answer(job, work)
            except Exception:  # a listener's error must not end the worker
                logger.exception("Could not answer %s", job.client)

    def _next(self) -> _Job[RequestT, ResultT] | None:
        """The next job, once there is one; None when the session is closed."""
        with self._changed:
            self._running = None
            self._changed.wait_for(lambda: self._closed or self._waiting)
            if self._closed:
                return None
            _, self._running = self._waiting.popitem(last=False)
            return self._running

    def _tell_places(self) -> None:
        """Tells everybody who waits how many come first, if that is news."""
        with self._telling:
            with self._changed:
                served = int(self._running is not None)
                places = [(job, served + i) for i, job in enumerate(self._waiting.values())]
            for job, ahead in places:
                if job.told[-1:] != [ahead]:
                    job.told[:] = [ahead]
                    try:
                        job.listener.waiting(ahead)
                    except Exception:  # the others are told all the same
                        logger.exception("Could not tell %s its place", job.client)


class _Waiter(Generic[ResultT]):
    """A listener for one who waits."""

    def __init__(self, progress: Progress) -> None:
        self.future: Future[ResultT] = Future()
        self._progress = progress

    def waiting(self, ahead: int) -> None:
        """The caller waits anyway."""

    def progress(self, step: str, fraction: float) -> None:
        self._progress(step, fraction)

    def finished(self, result: ResultT) -> None:
        self.future.set_result(result)

    def failed(self, error: Exception) -> None:
        self.future.set_exception(error)

    def cancelled(self) -> None:
        self.future.set_exception(Cancelled())


def _answer(job: _Job[RequestT, ResultT], work: Work[RequestT, ResultT]) -> None:
    """Does the job and tells its listener."""
    try:
        result = work(job.request, job.progress)
        if job.cancelled.is_set():
            raise Cancelled
        job.listener.finished(result)
    except Cancelled:
        job.listener.cancelled()
    except Exception as error:
        if not isinstance(error, ValueError | OSError):
            logger.exception("A request of %s failed", job.client)
        job.listener.failed(error)


def _tell_cancelled(job: _Job[RequestT, ResultT] | None) -> None:
    if job is not None:
        job.listener.cancelled()


def _always_raise(error: Exception) -> Work[RequestT, ResultT]:
    def work(request: RequestT, progress: Progress) -> ResultT:
        raise error

    return work
