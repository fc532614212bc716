import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from hisplat_app.session import Cancelled, Progress, Session, SessionFullError

WAIT_S = 20


@dataclass
class Recorder:
    """A listener that notes what it hears and can be waited for."""

    events: list[tuple] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def waiting(self, ahead: int) -> None:
        assert not self.events, "told its place after its turn had come"
        self.places.append(ahead)

    def progress(self, step: str, fraction: float) -> None:
        self.events.append(("progress", step, fraction))

    def finished(self, result: object) -> None:
        self._end("finished", result)

    def failed(self, error: Exception) -> None:
        self._end("failed", error)

    def cancelled(self) -> None:
        self._end("cancelled")

    def _end(self, *event: object) -> None:
        self.events.append(event)
        self.ended.set()

    @property
    def outcome(self) -> tuple:
        assert self.ended.wait(WAIT_S), "the listener heard nothing"
        return self.events[-1]


class Gate:
    """Work that reports when it starts, then waits until it is let through."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.started = threading.Semaphore(0)
        self.open = threading.Semaphore(0)

    def prepare(self) -> Callable[[str, Progress], str]:
        return self.work

    def work(self, request: str, progress: Progress) -> str:
        self.order.append(request)
        self.started.release()
        assert self.open.acquire(timeout=WAIT_S)
        progress("half way", 0.5)
        return request.upper()

    def wait_until_started(self) -> None:
        assert self.started.acquire(timeout=WAIT_S)

    def let_through(self, count: int = 1) -> None:
        self.open.release(count)


@pytest.fixture
def gate() -> Gate:
    return Gate()


def submitted(session: Session[str, str], client: str, request: str) -> Recorder:
    listener = Recorder()
    session.submit(client, request, listener)
    return listener


def test_a_request_is_answered_with_progress_and_result(gate: Gate) -> None:
    with Session(gate.prepare) as session:
        listener = submitted(session, "a", "photo")
        gate.let_through()
        assert listener.outcome == ("finished", "PHOTO")
        assert listener.events[0] == ("progress", "half way", 0.5)


def test_clients_are_served_in_the_order_they_came(gate: Gate) -> None:
    with Session(gate.prepare) as session:
        listeners = [submitted(session, client, client) for client in "abcd"]
        gate.let_through(4)
        assert [x.outcome for x in listeners] == [("finished", c.upper()) for c in "abcd"]
        assert gate.order == list("abcd")


def test_a_newer_request_replaces_the_waiting_one_and_keeps_its_place(gate: Gate) -> None:
    with Session(gate.prepare) as session:
        submitted(session, "a", "a1")
        gate.wait_until_started()
        old = submitted(session, "b", "b1")
        last = submitted(session, "c", "c1")
        new = submitted(session, "b", "b2")
        assert old.outcome == ("cancelled",)
        gate.let_through(3)
        assert new.outcome == ("finished", "B2")
        assert last.outcome == ("finished", "C1")
        assert gate.order == ["a1", "b2", "c1"]


def test_a_newer_request_cancels_the_running_one_and_waits_its_turn(gate: Gate) -> None:
    with Session(gate.prepare) as session:
        old = submitted(session, "a", "a1")
        gate.wait_until_started()
        other = submitted(session, "b", "b1")
        new = submitted(session, "a", "a2")
        gate.let_through(3)
        assert old.outcome == ("cancelled",)
        assert all(kind != "progress" for kind, *_ in old.events)
        assert (other.outcome, new.outcome) == (("finished", "B1"), ("finished", "A2"))
        assert gate.order == ["a1", "b1", "a2"]


def test_withdrawing_drops_waiting_and_running_requests(gate: Gate) -> None:
    with Session(gate.prepare) as session:
        running = submitted(session, "a", "a1")
        gate.wait_until_started()
        waiting = submitted(session, "b", "b1")
        session.withdraw("b")
        session.withdraw("a")
        gate.let_through()
        assert running.outcome == ("cancelled",)
        assert waiting.outcome == ("cancelled",)
        assert gate.order == ["a1"]


@pytest.mark.parametrize("error", [ValueError("too dark"), RuntimeError("a bug"), MemoryError()])
def test_an_error_reaches_its_listener_and_the_session_goes_on(error: Exception) -> None:
    def work(request: str, progress: Progress) -> str:
        if request == "bad":
            raise error
        return request

    with Session(lambda: work) as session:
        assert submitted(session, "a", "bad").outcome == ("failed", error)
        assert submitted(session, "a", "good").outcome == ("finished", "good")


def test_an_error_while_preparing_is_the_answer_to_every_request() -> None:
    error = OSError("no weights")

    def prepare() -> Callable[[str, Progress], str]:
        raise error

    with Session(prepare) as session:
        assert submitted(session, "a", "x").outcome == ("failed", error)
        assert submitted(session, "b", "y").outcome == ("failed", error)


def test_a_listener_that_raises_does_not_end_the_session(gate: Gate) -> None:
    class Broken(Recorder):
        def finished(self, result: object) -> None:
            raise RuntimeError("the page is gone")

        def failed(self, error: Exception) -> None:
            raise RuntimeError("still gone")

    with Session(gate.prepare) as session:
        session.submit("a", "a1", Broken())
        good = submitted(session, "b", "b1")
        gate.let_through(2)
        assert good.outcome == ("finished", "B1")


def test_closing_cancels_everything_and_ends_the_thread(gate: Gate) -> None:
    session = Session(gate.prepare)
    running, waiting = submitted(session, "a", "a1"), submitted(session, "b", "b1")
    gate.wait_until_started()
    gate.let_through()
    session.close()
    assert running.outcome in [("cancelled",), ("finished", "A1")]
    assert waiting.outcome == ("cancelled",)
    assert not any(t.name == "hisplat-session" and t.is_alive() for t in threading.enumerate())
    with pytest.raises(RuntimeError, match="closed"):
        session.submit("a", "a2", Recorder())


def test_run_returns_the_result_or_raises_the_error() -> None:
    def work(request: str, progress: Progress) -> str:
        progress("looking", 0.1)
        if not request:
            raise ValueError("nothing there")
        return request[::-1]

    heard = []
    with Session(lambda: work) as session:
        assert session.run("me", "abc", lambda *step: heard.append(step)) == "cba"
        assert heard == [("looking", 0.1)]
        with pytest.raises(ValueError, match="nothing there"):
            session.run("me", "", lambda *step: None)


def test_run_ends_when_its_request_is_replaced(gate: Gate) -> None:
    with Session(gate.prepare) as session:
        raised: list[BaseException] = []

        def wait() -> None:
            try:
                session.run("me", "old", lambda *step: None)
            except Cancelled as error:
                raised.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        gate.wait_until_started()
        new = submitted(session, "me", "new")
        gate.let_through(2)
        thread.join(WAIT_S)
        assert len(raised) == 1
        assert new.outcome == ("finished", "NEW")


def test_those_who_wait_see_their_place(gate: Gate) -> None:
    with Session(gate.prepare) as session:
        first = submitted(session, "a", "a1")
        gate.wait_until_started()
        second, third, fourth = (submitted(session, client, client) for client in "bcd")
        assert [x.places for x in (second, third, fourth)] == [[1], [2], [3]]
        session.withdraw("c")
        assert [x.places for x in (second, third, fourth)] == [[1], [2], [3, 2]]
        gate.let_through()
        assert first.outcome == ("finished", "A1")
        gate.wait_until_started()
        gate.let_through(2)
        assert fourth.outcome == ("finished", "D")
        assert fourth.places == [3, 2, 1]


def test_a_full_session_refuses_newcomers_but_not_those_who_wait(gate: Gate) -> None:
    with Session(gate.prepare, most_waiting=2) as session:
        submitted(session, "a", "a1")
        gate.wait_until_started()
        old, other = submitted(session, "b", "b1"), submitted(session, "c", "c1")
        with pytest.raises(SessionFullError, match="2 wait already"):
            submitted(session, "d", "d1")
        new = submitted(session, "b", "b2")
        assert old.outcome == ("cancelled",)
        gate.let_through(3)
        assert (new.outcome, other.outcome) == (("finished", "B2"), ("finished", "C1"))


def test_many_clients_at_once_all_get_their_own_answers() -> None:
    def work(request: str, progress: Progress) -> str:
        progress("working", 0.5)
        return request + "!"

    with Session(lambda: work) as session:
        answers: dict[str, str] = {}

        def ask(client: str) -> None:
            for i in range(20):
                answers[f"{client}{i}"] = session.run(client, f"{client}{i}", lambda *step: None)

        threads = [threading.Thread(target=ask, args=(f"client {i} ",)) for i in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_S)
        assert len(answers) == 200
        assert all(answer == request + "!" for request, answer in answers.items())
