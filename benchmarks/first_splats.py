"""Time from the command to splats in the page, by step, cold and for the next pair.

Cold: a fresh ``hisplat-view`` process, until the page that it serves holds the scene. Next pair:
the same photos once more through a session that has the network loaded, as the page does it.

Usage: python benchmarks/first_splats.py --left a.jpg --right b.jpg --output FILE.json
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table

from hisplat_app.machine import machine
from hisplat_app.reconstruction import Preview, reconstruct
from hisplat_models.checkpoints import load_model


@dataclass(frozen=True)
class Options:
    """Times the way from two photos to splats."""

    left: Path
    """First photo."""
    right: Path
    """Second photo."""
    output: Path | None = None
    """JSON file for the results; none is written by default."""
    sizes: tuple[int, ...] = (384, 448, 512, 640)
    """Working sizes to time; the default size is also timed cold."""
    repeats: int = 5
    """Reconstructions per size after the first; the fastest counts."""
    cold_repeats: int = 3
    """Cold starts; the fastest counts."""


@dataclass(frozen=True)
class Cold:
    """A fresh process: seconds until the page holds the scene, and its peak memory."""

    seconds: float
    peak_memory_mib: float


@dataclass(frozen=True)
class Next:
    """A further pair: seconds in all, to each coarser level, by step; and Gaussians made."""

    size: int
    seconds: float
    coarse_levels: tuple[float, ...]
    steps: dict[str, float]
    gaussians: int


def main(options: Options) -> None:
    """Measures, prints a table, and writes what was measured."""
    cold = min((cold_start(options) for _ in range(options.cold_repeats)), key=lambda c: c.seconds)
    model = load_model()
    following = [next_pair(options, model, size) for size in options.sizes]
    print_table(cold, following)
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "machine": machine(),
            "photos": [options.left.name, options.right.name],
            "cold": asdict(cold),
            "next": [asdict(n) for n in following],
        }
        options.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def cold_start(options: Options) -> Cold:
    """Starts the viewer's command and waits until it gives out the page's address."""
    command = [sys.executable, "-m", "hisplat_app", "view", "--no-open"]
    command += ["--left", str(options.left), "--right", str(options.right)]
    started = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("Open "):
                break
        else:
            raise SystemExit("The viewer ended before it showed the scene.")
        seconds = time.perf_counter() - started
        peak = peak_memory_mib(process.pid)
        process.terminate()
    return Cold(seconds, peak)


def peak_memory_mib(pid: int) -> float:
    """The largest resident size that a running process has had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"No peak memory known of process {pid}; this needs Linux.")


def next_pair(options: Options, model, size: int) -> Next:
    """The fastest of several reconstructions in this process, which has everything loaded."""
    runs = []
    for _ in range(options.repeats + 1):
        started = time.perf_counter()
        levels: list[float] = []

        def shown(preview: Preview) -> None:
            levels.append(time.perf_counter() - started)  # noqa: B023

        scene = reconstruct(options.left, options.right, model=model, size=size, preview=shown)
        runs.append((time.perf_counter() - started, tuple(levels), scene))
    seconds, levels_s, scene = min(runs[1:], key=lambda run: run[0])
    return Next(size, seconds, levels_s, scene.report.seconds, scene.gaussians.count)


def print_table(cold: Cold, following: list[Next]) -> None:
    """One column per working size."""
    console = Console()
    console.print(f"cold: {cold.seconds:.2f} s, peak {cold.peak_memory_mib:.0f} MiB")
    table = Table("step", *(str(n.size) for n in following))
    for step in following[0].steps:
        table.add_row(step, *(f"{n.steps[step]:.2f}" for n in following))
    for level in range(len(following[0].coarse_levels)):
        reached = (f"{n.coarse_levels[level]:.2f}" for n in following)
        table.add_row(f"until level {level + 1} is there", *reached)
    table.add_row("in all", *(f"{n.seconds:.2f}" for n in following), style="bold")
    table.add_row("Gaussians", *(f"{n.gaussians:,}" for n in following))
    console.print(table)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    torch.set_grad_enabled(False)
    main(tyro.cli(Options, description=__doc__))
