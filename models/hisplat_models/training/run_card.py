"""RUN_DIR/card.json: what made these weights, so that it can be said and done again."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch


@dataclass
class RunCard:
    """The card of one run, across its resumes.

    Attributes:
        path: Where it is kept.
        facts: What holds for the whole run: settings, network, data, ...
        sessions: One entry per start of the program: command, versions, commit, machine.
        curve: Points along the run: step, hours, losses, quality on held-back examples.
    """

    path: Path
    facts: dict[str, Any]
    sessions: list[dict[str, Any]] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)

    def take_up(self, step: int) -> None:
        """Goes on with the card that is there, without what came after a resumed step."""
        if not self.path.is_file() or step == 0:
            return
        before = json.loads(self.path.read_text(encoding="utf-8"))
        self.sessions = before["sessions"] + self.sessions
        self.curve = [point for point in before["curve"] if point["step"] <= step]

    def write(self, step: int, hours: float) -> None:
        """Replaces the file; the numbers say how far the run is."""
        document = {
            **self.facts,
            "step": step,
            "hours": round(hours, 4),
            "sessions": self.sessions,
            "curve": self.curve,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(document, indent=1, default=str) + "\n", encoding="utf-8")
        os.replace(partial, self.path)


def session_facts(device: torch.device, processes: int, first_step: int) -> dict[str, Any]:
    """What is known about this start of the program."""
    return {
        "first_step": first_step,
        "command": sys.argv,
        "commit": commit_of(Path(__file__)),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "processes": processes,
        "threads": torch.get_num_threads(),
    }


def commit_of(file: Path) -> str | None:
    """The commit of the git tree that holds a file, marked where the tree was changed since.

    None without git, or if the file is in no tree or not part of it (an installed package).
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(file.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.name)
        changed = git("status", "--porcelain", "--untracked-files=no", ":/")
        return git("rev-parse", "HEAD") + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def mean_terms(records: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each loss term over the records that have it."""
    names = dict.fromkeys(name for record in records for name in record)
    having = {name: [r[name] for r in records if name in r] for name in names}
    return {name: sum(values) / len(values) for name, values in having.items()}
