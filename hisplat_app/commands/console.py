"""How commands speak to people: progress and news on stderr, so that stdout stays clean."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

console = Console(stderr=True, highlight=False)


@contextmanager
def progress_line() -> Iterator["StepLine"]:
    """A line that shows the current step; it vanishes when the work is done."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    hidden = not console.is_terminal  # log files have no use for it
    with Progress(*columns, console=console, transient=True, disable=hidden) as line:
        yield StepLine(line)


class StepLine:
    """Moves the bar of a progress line."""

    def __init__(self, line: Progress) -> None:
        self._line = line
        self._task = line.add_task("Starting", total=1.0)

    def __call__(self, step: str, fraction: float) -> None:
        """Shows the step that begins and the share of the work done."""
        self._line.update(self._task, description=step.capitalize(), completed=fraction)


def warn(message: str) -> None:
    """A line the user should read."""
    console.print(f"Warning: {message}", style="yellow", markup=False)


def complain(message: str) -> None:
    """Why the command gives up."""
    console.print(f"Error: {message}", style="red", markup=False)


def tell(message: str) -> None:
    """A line of news."""
    console.print(message, markup=False)
