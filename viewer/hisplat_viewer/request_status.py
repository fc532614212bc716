"""What a browser sees of its request: a bar, the step, the steps before and their times."""

import time
from collections.abc import Sequence

import viser

from .paragraphs import ERROR_COLOR, WARNING_COLOR, paragraph

LEAST_SECONDS = 0.05
"""Steps that took less are not worth a word."""


class RequestStatus:
    """A progress bar and some lines of text; its callers hold the page's lock.

    Args:
        client: The browser.
        text: What to say at first.
    """

    def __init__(self, client: viser.ClientHandle, text: str) -> None:
        self._bar = client.gui.add_progress_bar(0.0, visible=False)
        self._text = client.gui.add_html(paragraph(text))
        self._steps: dict[str, float] = {}
        self._step = ""
        self._since = 0.0

    def say(self, text: str, warnings: Sequence[str] = ()) -> None:
        """Replaces the text."""
        doubts = [paragraph(warning, WARNING_COLOR) for warning in warnings]
        self._text.content = "".join([paragraph(text), *doubts])

    def complain(self, message: str) -> None:
        """Replaces the text by an error; nothing goes on any more."""
        self._bar.visible = False
        self._text.content = paragraph(message, ERROR_COLOR)

    def wait(self, ahead: int) -> None:
        """A request is queued."""
        self._steps = {}
        self._step = ""
        self._bar.value = 0.0
        self._bar.visible = True
        self.say(f"Waiting: {ahead} before you …" if ahead else "Starting …")

    def go_on(self, step: str, fraction: float) -> None:
        """A step begins."""
        self._end_step()
        self._step, self._since = step, time.perf_counter()
        self._bar.value = 100.0 * min(max(fraction, 0.0), 1.0)
        done = [paragraph(f"{name}: {seconds:.1f} s") for name, seconds in self._steps.items()]
        self._text.content = "".join([*done, paragraph(f"{step[:1].upper()}{step[1:]} …")])

    def finish(self) -> str:
        """The request is done; how long each step took."""
        self._end_step()
        self._bar.visible = False
        told = {name: s for name, s in self._steps.items() if s >= LEAST_SECONDS}
        return ", ".join(f"{name} {seconds:.1f} s" for name, seconds in told.items())

    def _end_step(self) -> None:
        if self._step:
            taken = time.perf_counter() - self._since
            self._steps[self._step] = self._steps.get(self._step, 0.0) + taken
            self._step = ""
