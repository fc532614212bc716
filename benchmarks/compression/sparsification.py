"""E4: strengthen what stays, or weaken what goes? STP against penalties and cuts.

Shapes (``shapes.py``) or digits-300 (``digits.py``), a residual net of 3x3 blocks, 15 % of its
FLOPs. Only "L1 cut, fine-tuned" is trained on after the cut, half as long again. "Small" networks
have the cut's widths from the start.

Usage: python -m benchmarks.compression.sparsification --output docs/benchmarks/compression_e4.json
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import tyro

from hisplat_models.compression.baselines import GroupLasso, SelfDistillation, uniform_sizes
from hisplat_models.compression.common import CommonTraining
from hisplat_models.compression.distillation import LogitDistillation
from hisplat_models.compression.masks import subnet_of_sizes
from hisplat_models.compression.s2h import S2HPruner
from hisplat_models.compression.slimming import slimmed
from hisplat_models.compression.step import CompressionStep
from hisplat_models.compression.stp import STP, STPSettings
from hisplat_models.compression.subnet import Subnet

from .loop import TrainingSettings, subnet_accuracy, train
from .networks import depth_space
from .pruning import SETTINGS, PruningProblem, measured_subnet, pruning_problem
from .report import ResultFile, Run, table
from .tasks import Classification, Data, ImageBatch

FINE_TUNING_EPOCHS, FINE_TUNING_RATE = 0.5, 0.02
"""Epochs as a share of those before the cut."""
TASK = Classification(LogitDistillation("kl_minus"))
STRENGTHS = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
"""Of the group lasso; the best is what counts."""
COLUMNS = {
    "whole": "whole network, %",
    "pruned": "pruned, %",
    "keep_percent": "FLOPs kept, %",
    "seconds": "training, s",
}
NORM_COLUMNS = {"kept_norm": "L1 norm of kept filters", "dropped_norm": "of dropped ones"}
Measure = Callable[[PruningProblem, Data, TrainingSettings, int], Run]


def trained_with(
    method: Callable[[PruningProblem, int, int], CompressionStep[ImageBatch]],
) -> Measure:
    """A mode that trains with a method (of problem, steps, seed) and takes what comes out."""

    def measure(problem: PruningProblem, data: Data, training: TrainingSettings, seed: int) -> Run:
        steps = training.epochs * math.ceil(len(data.train) / training.batch_size)
        step = method(problem, steps, seed)
        train(problem.network, step, data.train, training, seed)
        return measured_subnet(problem, step.result(), data)

    return measure


def stp(expansion: bool = True, deep: bool = True) -> Measure:
    """STP, without expansion, or with all blocks kept."""

    def method(problem: PruningProblem, steps: int, seed: int) -> CompressionStep[ImageBatch]:
        space = depth_space(problem.network) if deep else None
        settings = STPSettings(expansion=expansion)
        return STP(
            problem.network, problem.groups, TASK, [problem.budget], steps, space, settings, seed
        )

    return trained_with(method)


def lasso(strength: float) -> Measure:
    """Group lasso of this strength."""
    return trained_with(
        lambda problem, steps, seed: GroupLasso(
            problem.network, problem.groups, TASK, problem.budget, strength
        )
    )


def self_distillation(
    problem: PruningProblem, steps: int, seed: int
) -> CompressionStep[ImageBatch]:
    """One subnet of uniform widths, taught from the start."""
    sizes = uniform_sizes(problem.groups, problem.budget)
    return SelfDistillation(problem.network, problem.groups, TASK, sizes)


def s2h(problem: PruningProblem, steps: int, seed: int) -> CompressionStep[ImageBatch]:
    """The other method that finds widths, beside STP."""
    return S2HPruner(problem.network, problem.groups, Classification(), [problem.budget])


def cut(fine_tuned: bool) -> Measure:
    """Common training, then the cut to uniform widths by L1 norm."""

    def measure(problem: PruningProblem, data: Data, training: TrainingSettings, seed: int) -> Run:
        train(problem.network, CommonTraining(problem.network, TASK), data.train, training, seed)
        subnet = _uniform(problem)
        run = measured_subnet(problem, subnet, data)
        if fine_tuned:
            slim = slimmed(problem.network, problem.groups, subnet)
            epochs = round(FINE_TUNING_EPOCHS * training.epochs)
            after = replace(training, epochs=epochs, learning_rate=FINE_TUNING_RATE)
            train(slim, CommonTraining(slim, TASK), data.train, after, seed)
            run["pruned"] = subnet_accuracy(slim, (), Subnet(), data.train, data.test)
        return run

    return measure


def small_from_start(times: int) -> Measure:
    """A network of the uniform widths, trained from scratch."""

    def measure(problem: PruningProblem, data: Data, training: TrainingSettings, seed: int) -> Run:
        subnet = _uniform(problem)
        slim = slimmed(problem.network, problem.groups, subnet)
        longer = replace(training, epochs=times * training.epochs)
        train(slim, CommonTraining(slim, TASK), data.train, longer, seed)
        percent = subnet_accuracy(slim, (), Subnet(), data.train, data.test)
        share = problem.budget.cost.of(subnet) / problem.budget.cost.of()
        return {"whole": percent, "pruned": percent, "keep_percent": 100 * share}

    return measure


MODES: dict[str, Measure] = {
    "STP": stp(),
    "STP, all blocks kept": stp(deep=False),
    "STP without expansion": stp(expansion=False),
    "S2HPruner": trained_with(s2h),
    "fixed subnet, self-distilled": trained_with(self_distillation),
    **{f"group lasso {strength:g}": lasso(strength) for strength in STRENGTHS},
    "L1 cut": cut(fine_tuned=False),
    "L1 cut, fine-tuned": cut(fine_tuned=True),
    "small from the start": small_from_start(1),
    "small from the start, 3 times as long": small_from_start(3),
}


@dataclass(frozen=True)
class Options:
    """Where results go, and how many there are."""

    output: Path
    """JSON file; runs that it holds are not made again."""
    data: Literal["shapes", "digits"] = "shapes"
    """Images and, with them, network and length of training; one file each."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run of every mode each."""
    table_only: bool = False
    """Print the table of the runs that there are and make none."""


def main(options: Options) -> None:
    """Makes all runs that are missing."""
    torch.set_num_threads(1)
    setting = SETTINGS[options.data]
    settings = {
        "data": options.data,
        **setting.described(),
        "fine_tuning": {"epochs": FINE_TUNING_EPOCHS, "learning_rate": FINE_TUNING_RATE},
        "stp": asdict(STPSettings()),
        "distillation": "kl_minus",
    }
    results = ResultFile(options.output, "E4: enhancing against suppressing", settings)
    seeds = () if options.table_only else options.seeds
    missing = [(seed, mode) for seed in seeds for mode in MODES if not results.has(mode, seed)]
    data = setting.data() if missing else None
    for seed, mode in missing:
        assert data is not None
        problem = pruning_problem(setting, data, seed)
        start = time.perf_counter()
        run = MODES[mode](problem, data, setting.training, seed)
        seconds = round(time.perf_counter() - start, 1)
        results.add({"mode": mode, "seed": seed, **run, "seconds": seconds})
    runs = sorted(results.runs, key=lambda run: list(MODES).index(run["mode"]))
    print(table(runs, COLUMNS))
    print()
    print(table([run for run in runs if "kept_norm" in run], NORM_COLUMNS, digits=2))


def _uniform(problem: PruningProblem) -> Subnet:
    sizes = uniform_sizes(problem.groups, problem.budget)
    return subnet_of_sizes(problem.network, problem.groups, sizes)


if __name__ == "__main__":
    main(tyro.cli(Options))
