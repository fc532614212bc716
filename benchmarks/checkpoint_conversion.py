"""Seconds, memory and sizes of ``hisplat convert`` on a checkpoint of the published size.

The checkpoint is laid out as Lightning leaves the published network after training: weights under
their published names, and Adam's moments of all that learns (1.12 GB in all). The weights are
random. The converted file is then reconstructed with, unless --photos is left out.

Usage: python benchmarks/checkpoint_conversion.py --output FILE.json [--photos LEFT RIGHT]
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table

from hisplat_app.machine import machine
from hisplat_models.config import PRESETS
from hisplat_models.network import HiSplat
from hisplat_models.published_checkpoints import to_published


@dataclass(frozen=True)
class Options:
    """Measures the conversion of a published checkpoint."""

    output: Path | None = None
    """JSON file for the results; none is written by default."""
    photos: tuple[Path, Path] | None = None
    """Also reconstruct this pair with the converted weights."""
    size: int = 256
    """Working size of that reconstruction."""


@dataclass(frozen=True)
class Run:
    """One command in a process of its own; memory includes pages mapped from the files."""

    command: str
    seconds: float
    peak_memory_mb: float
    output_mb: float


def write_checkpoint(path: Path) -> None:
    """A Lightning checkpoint of the published network, before any training."""
    torch.save(training_state(), path)


def training_state() -> dict[str, Any]:
    """What such a checkpoint holds."""
    torch.manual_seed(0)
    model = HiSplat(PRESETS["hisplat"])
    learned = [p for p in model.parameters() if p.requires_grad]
    moments = {
        index: {
            "step": torch.tensor(300_001.0),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
        for index, parameter in enumerate(learned)
    }
    schedule = {"anneal_func": torch.optim.lr_scheduler.OneCycleLR._annealing_cos}
    return {
        "epoch": 12,
        "global_step": 300_001,
        "pytorch-lightning_version": "2.2.0",
        "state_dict": to_published(model.state_dict()),
        "loops": {},
        "callbacks": {},
        "optimizer_states": [{"state": moments, "param_groups": [{"lr": 2e-4}]}],
        "lr_schedulers": [schedule],
    }


def timed(name: str, arguments: list[str], output: Path) -> Run:
    """The command in a process of its own.

    Raises:
        RuntimeError: if it fails.
    """
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "hisplat_app", *arguments])
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise RuntimeError(f"{name} failed.")
    return Run(name, seconds, usage.ru_maxrss * 1024 / 1e6, output.stat().st_size / 1e6)


def measure(options: Options, folder: Path) -> list[Run]:
    """Both conversions, and the reconstruction if photos are given."""
    source = folder / "hisplat_re10k.ckpt"
    # In a process of its own: what this one ever held would count as the others' peak too.
    writer = get_context("spawn").Process(target=write_checkpoint, args=(source,))
    writer.start()
    writer.join()
    runs = []
    for name, more in (("convert", []), ("convert --half", ["--half"])):
        target = folder / f"weights-{len(more)}.safetensors"
        runs.append(timed(name, ["convert", str(source), str(target), *more], target))
    if options.photos is not None:
        left, right = map(str, options.photos)
        scene, model = folder / "scene.ply", folder / "weights-0.safetensors"
        ends = ["--left", left, "--right", right, "--output", str(scene)]
        more = ["--model", str(model), "--size", str(options.size)]
        name = f"reconstruct --size {options.size}"
        runs.append(timed(name, ["reconstruct", *ends, *more], scene))
    return runs


def main(options: Options) -> None:
    """Measures, shows and writes."""
    with tempfile.TemporaryDirectory() as folder:
        runs = measure(options, Path(folder))
        size = (Path(folder) / "hisplat_re10k.ckpt").stat().st_size / 1e6
    table = Table("command", "s", "peak MB", "output MB", title=f"Checkpoint of {size:.0f} MB")
    for run in runs:
        numbers = (run.seconds, run.peak_memory_mb, run.output_mb)
        table.add_row(run.command, *(f"{number:.1f}" for number in numbers))
    Console().print(table)
    if options.output is not None:
        result = {
            "machine": machine(),
            "checkpoint_mb": size,
            "runs": [asdict(run) for run in runs],
        }
        options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
