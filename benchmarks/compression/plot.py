"""Draws result files of ``report.py``: bars of modes, or frontiers of quality against cost.

Usage:
    python -m benchmarks.compression.plot bars --input docs/benchmarks/compression_e1.json \
        --keys main subnets worst --ylabel "accuracy, %" --output docs/images/compression/e1.svg
    python -m benchmarks.compression.plot frontier --input FILE.json --x flops --y accuracy \
        --by keep --output FILE.svg
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from .report import Run, runs_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLE: dict[Any, Any] = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.figsize": (7.0, 3.6),
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "hisplat",
}
"""Text stays text, and equal results make equal files."""


@dataclass(frozen=True)
class Bars:
    """A group of bars per mode, one bar per key; lines show the spread over seeds."""

    input: Path
    """Result file."""
    keys: tuple[str, ...]
    """Of numbers that every run has."""
    output: Path
    """.svg or .png."""
    labels: tuple[str, ...] = ()
    """What the legend says of the keys; the keys themselves if none are given."""
    modes: tuple[str, ...] = ()
    """Modes to draw, all by default."""
    ylabel: str = ""
    """What the numbers are."""
    bottom: float = 0.0
    """Where the axis starts."""

    def draw(self, axes: "Axes") -> None:
        """Draws them."""
        modes = _by(_chosen(runs_of(self.input), self.modes), "mode")
        width = 0.8 / len(self.keys)
        for place, key in enumerate(self.keys):
            numbers = [[run[key] for run in runs] for runs in modes.values()]
            axes.bar(
                [index + (place - (len(self.keys) - 1) / 2) * width for index in range(len(modes))],
                [statistics.mean(same) - self.bottom for same in numbers],
                width,
                bottom=self.bottom,
                yerr=[_spread(same) for same in numbers],
                label=(self.labels or self.keys)[place],
                error_kw={"elinewidth": 0.8},
            )
        axes.set_xticks(range(len(modes)), [_wrapped(mode) for mode in modes])
        axes.set_ylabel(self.ylabel)
        axes.legend(
            frameon=False, ncols=len(self.keys), loc="lower center", bbox_to_anchor=(0.5, 1)
        )


@dataclass(frozen=True)
class Frontier:
    """A line per mode: what is reached (y) at which cost (x); crosses show spreads over seeds."""

    input: Path
    """Result file."""
    x: str
    """Key of the cost."""
    y: str
    """Key of what is reached."""
    output: Path
    """.svg or .png."""
    by: str = "keep"
    """Key whose values make the points of a line, such as the budget; runs without it are one
    point."""
    modes: tuple[str, ...] = ()
    """Modes to draw, all by default."""
    xlabel: str = ""
    """The key if not given."""
    ylabel: str = ""
    """The key if not given."""

    def draw(self, axes: "Axes") -> None:
        """Draws them."""
        for mode, runs in _by(_chosen(runs_of(self.input), self.modes), "mode").items():
            points = [
                [[run[key] for run in same] for key in (self.x, self.y)]
                for same in _by(runs, self.by).values()
            ]
            points.sort(key=lambda point: statistics.mean(point[0]))
            axes.errorbar(
                [statistics.mean(x) for x, _ in points],
                [statistics.mean(y) for _, y in points],
                xerr=[_spread(x) for x, _ in points],
                yerr=[_spread(y) for _, y in points],
                marker="o",
                markersize=4,
                elinewidth=0.8,
                label=mode,
            )
        axes.set_xlabel(self.xlabel or self.x)
        axes.set_ylabel(self.ylabel or self.y)
        axes.legend(frameon=False)


def draw(figure: Bars | Frontier) -> None:
    """Writes the picture.

    Raises:
        ImportError: without matplotlib.
        ValueError: if the file has no such runs.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(
            'Figures are drawn by matplotlib: pip install "hisplat-app[dev]"'
        ) from error
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        picture = Figure(layout="constrained")
        figure.draw(picture.subplots())
        figure.output.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"Date": None} if figure.output.suffix == ".svg" else None
        picture.savefig(figure.output, dpi=110, metadata=metadata)


def _chosen(runs: Sequence[Run], modes: Sequence[str]) -> list[Run]:
    chosen = [run for run in runs if not modes or run["mode"] in modes]
    missing = set(modes) - {run["mode"] for run in chosen}
    if missing or not chosen:
        raise ValueError(f"Expected runs of {sorted(missing) or 'any mode'}, found none")
    return chosen


def _by(runs: Iterable[Run], key: str) -> dict[Any, list[Run]]:
    """Runs by their value of a key, in order of appearance."""
    found: dict[Any, list[Run]] = {}
    for run in runs:
        found.setdefault(run.get(key), []).append(run)
    return found


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _wrapped(text: str) -> str:
    """At most two words a line."""
    words = text.split()
    return "\n".join(" ".join(words[start : start + 2]) for start in range(0, len(words), 2))


if __name__ == "__main__":
    draw(tyro.extras.subcommand_cli_from_dict({"bars": Bars, "frontier": Frontier}))
