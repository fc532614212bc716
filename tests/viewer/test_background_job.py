import threading

import pytest

from hisplat_viewer.background_job import BackgroundJobs, BusyError, Cancelled
from hisplat_viewer.saving import Progress

WAIT_S = 30


class Told:
    """What one who waits for a file hears."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, float]] = []
        self.outcomes: list[bytes | Exception] = []
        self.ended_event = threading.Event()

    def progress(self, step: str, fraction: float) -> None:
        self.steps.append((step, fraction))

    def ended(self, outcome: bytes | Exception) -> None:
        self.outcomes.append(outcome)
        self.ended_event.set()

    def wait(self) -> bytes | Exception:
        assert self.ended_event.wait(WAIT_S), "nobody said how it ended"
        (outcome,) = self.outcomes
        return outcome


class Slow:
    """Work that goes on until it's let go or cancelled."""

    def __init__(self) -> None:
        self.begun, self.go_on, self.left = (threading.Event() for _ in range(3))

    def __call__(self, progress: Progress) -> bytes:
        try:
            progress("first", 0.0)
            self.begun.set()
            assert self.go_on.wait(WAIT_S)
            progress("second", 0.5)
            return b"done"
        finally:
            self.left.set()


@pytest.fixture
def jobs() -> BackgroundJobs:
    return BackgroundJobs("test")


def test_result_and_progress_are_heard(jobs: BackgroundJobs):
    told, slow = Told(), Slow()
    slow.go_on.set()
    jobs.start(slow, told.progress, told.ended)
    assert told.wait() == b"done"
    assert told.steps == [("first", 0.0), ("second", 0.5)]


def test_one_thing_after_another(jobs: BackgroundJobs):
    told, slow = Told(), Slow()
    jobs.start(slow, told.progress, told.ended)
    other = Told()
    with pytest.raises(BusyError, match="One thing after another"):
        jobs.start(slow, other.progress, other.ended)
    slow.go_on.set()
    assert told.wait() == b"done"
    jobs.start(slow, other.progress, other.ended)
    assert other.wait() == b"done"


def test_cancelled_work_ends_at_its_next_step(jobs: BackgroundJobs):
    told, slow = Told(), Slow()
    jobs.start(slow, told.progress, told.ended)
    assert slow.begun.wait(WAIT_S)
    jobs.cancel()
    slow.go_on.set()
    assert isinstance(told.wait(), Cancelled)
    assert told.steps == [("first", 0.0)]


def test_work_that_never_looks_is_cancelled_all_the_same(jobs: BackgroundJobs):
    told, begun, go_on = Told(), threading.Event(), threading.Event()

    def work(progress: Progress) -> bytes:
        begun.set()
        assert go_on.wait(WAIT_S)
        return b"done"

    jobs.start(work, told.progress, told.ended)
    assert begun.wait(WAIT_S)
    jobs.cancel()
    go_on.set()
    assert isinstance(told.wait(), Cancelled)


def test_nobody_hears_anything_after_the_browser_has_left(jobs: BackgroundJobs):
    told, slow = Told(), Slow()
    jobs.start(slow, told.progress, told.ended)
    assert slow.begun.wait(WAIT_S)
    jobs.close()
    slow.go_on.set()
    assert slow.left.wait(WAIT_S)
    jobs.join()
    assert told.steps == [("first", 0.0)]
    assert told.outcomes == []
    jobs.start(slow, told.progress, told.ended)
    jobs.join()
    assert told.outcomes == []


@pytest.mark.parametrize("error", [ValueError("no keyframes"), OSError("disk full"), KeyError(1)])
def test_errors_are_heard_and_the_next_work_is_done(jobs: BackgroundJobs, error: Exception):
    def fail(progress: Progress) -> bytes:
        raise error

    told, after = Told(), Told()
    jobs.start(fail, told.progress, told.ended)
    assert told.wait() is error
    jobs.start(lambda _: b"fine", after.progress, after.ended)
    assert after.wait() == b"fine"
