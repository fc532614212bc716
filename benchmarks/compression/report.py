"""Result files of the experiments: runs are added one by one, so that work can be taken up."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hisplat_app.machine import machine

Run = dict[str, Any]


@dataclass(frozen=True)
class ExperimentOptions:
    """Where results go, and how many there are."""

    output: Path
    """JSON file; runs that it holds are not made again."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run of every mode each."""


class ResultFile:
    """A JSON document of the machine, the settings and the runs made so far.

    Attributes:
        runs: One dict per run; each holds at least "mode" and "seed".
    """

    def __init__(self, path: Path, experiment: str, settings: Mapping[str, Any]) -> None:
        """Takes up the file's runs if there is one.

        Raises:
            ValueError: if its runs were made with other settings.
        """
        self._path = path
        self._head = {"experiment": experiment, "settings": dict(settings)}
        self.runs: list[Run] = []
        if path.is_file():
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["settings"] != json.loads(json.dumps(self._head["settings"])):
                raise ValueError(f"{path} holds runs of other settings: move it or delete it")
            self.runs = document["runs"]

    def has(self, mode: str, seed: int) -> bool:
        """Whether this run was made."""
        return any(run["mode"] == mode and run["seed"] == seed for run in self.runs)

    def add(self, run: Run) -> None:
        """Appends a run and writes the file; a stop in between leaves the old file whole."""
        self.runs.append(run)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._path.with_suffix(".part")
        document = {**self._head, "machine": machine(), "runs": self.runs}
        unfinished.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        unfinished.replace(self._path)


def runs_of(path: Path) -> list[Run]:
    """The runs that a result file holds."""
    return json.loads(path.read_text(encoding="utf-8"))["runs"]


def mean_and_spread(values: Sequence[float], digits: int = 1) -> str:
    """Mean and sample standard deviation, as "95.3 ± 0.4"; the value alone if there is one."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def table(runs: Iterable[Run], columns: Mapping[str, str], digits: int = 1) -> str:
    """Markdown: a line per mode in order of appearance, means and spreads over seeds.

    Args:
        runs: With a number under every column's key.
        columns: Key -> heading.
        digits: After the point.
    """
    by_mode: dict[str, list[Run]] = {}
    for run in runs:
        by_mode.setdefault(run["mode"], []).append(run)
    lines = [
        f"| mode | seeds | {' | '.join(columns.values())} |",
        "|---" * (2 + len(columns)) + "|",
    ]
    for mode, same in by_mode.items():
        cells = [mean_and_spread([run[key] for run in same], digits) for key in columns]
        lines.append(f"| {mode} | {len(same)} | {' | '.join(cells)} |")
    return "\n".join(lines)
