"""E3: does S2HPruner close the gap between its soft and its hard network, and by which part?

Shapes (``shapes.py``) or digits-300 (``digits.py``), a residual net of 3x3 blocks, 15 % of its
FLOPs, widths only.

Usage: python -m benchmarks.compression.soft_to_hard --output docs/benchmarks/compression_e3.json
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from hisplat_models.compression.s2h import S2HPruner, S2HSettings

from .loop import subnet_accuracy, train
from .pruning import SETTINGS, Setting, pruning_problem, soft_accuracy
from .report import ResultFile, Run, table
from .tasks import Classification, Data

Gap = Literal["decoupled", "coupled", "one_way", "none"]
MODES: dict[str, Gap] = {
    "plain mask, cut at the end": "none",
    "S2HPruner (decoupled)": "decoupled",
    "not decoupled": "coupled",
    "one way": "one_way",
}
COLUMNS = {
    "soft": "soft, %",
    "hard": "hard, %",
    "gap": "gap",
    "keep_percent": "FLOPs kept, %",
    "seconds": "training, s",
}


@dataclass(frozen=True)
class Options:
    """Where results go, and how many there are."""

    output: Path
    """JSON file; runs that it holds are not made again."""
    data: Literal["shapes", "digits"] = "shapes"
    """Images and, with them, network and length of training; one file each."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """One run of every mode each."""
    table_only: bool = False
    """Print the table of the runs that there are and make none."""


def main(options: Options) -> None:
    """Makes all runs that are missing."""
    torch.set_num_threads(1)
    setting = SETTINGS[options.data]
    modes = {name: asdict(S2HSettings(gap=gap)) for name, gap in MODES.items()}
    settings = {"data": options.data, **setting.described(), "modes": modes}
    results = ResultFile(options.output, "E3: soft and hard network", settings)
    seeds = () if options.table_only else options.seeds
    missing = [(seed, mode) for seed in seeds for mode in MODES if not results.has(mode, seed)]
    data = setting.data() if missing else None
    for seed, mode in missing:
        assert data is not None
        results.add({"mode": mode, "seed": seed, **_measured(setting, data, MODES[mode], seed)})
    print(table(sorted(results.runs, key=lambda run: list(MODES).index(run["mode"])), COLUMNS))


def _measured(setting: Setting, data: Data, gap: Gap, seed: int) -> Run:
    problem = pruning_problem(setting, data, seed)
    method = S2HPruner(
        problem.network, problem.groups, Classification(), [problem.budget], S2HSettings(gap=gap)
    )
    start = time.perf_counter()
    train(problem.network, method, data.train, setting.training, seed)
    seconds = time.perf_counter() - start
    soft = soft_accuracy(problem, method, data)
    hard = subnet_accuracy(problem.network, problem.groups, method.result(), data.train, data.test)
    return {
        "soft": soft,
        "hard": hard,
        "gap": soft - hard,
        "keep_percent": 100 * method.shares()[0],
        "sizes": method.masks.hard_sizes(),
        "seconds": round(seconds, 1),
    }


if __name__ == "__main__":
    main(tyro.cli(Options))
