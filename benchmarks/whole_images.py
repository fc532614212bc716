"""Seconds and peak memory of a reconstruction, step by step, by working size and shape of photos.

Every reconstruction is a fresh process; its photos are the bundled pair, enlarged and cropped to
the shape. Compiled kernels are on disk after a first run that is not counted. Needs Linux, which
tells a process's peak and forgets it on request.

Usage: python benchmarks/whole_images.py --output FILE.json
"""

import json
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from importlib.resources import files
from multiprocessing import get_context
from pathlib import Path

import tyro
from PIL import Image, ImageOps

from hisplat_app.defaults import DEFAULT_REFINE
from hisplat_app.machine import machine
from hisplat_app.reconstruction import Report, reconstruct

PAIR = ("left.jpg", "right.jpg")
SHAPES = {"4:3": (4, 3), "3:4": (3, 4), "21:9": (21, 9), "1:1": (1, 1), "3:1": (3, 1)}


@dataclass(frozen=True)
class Options:
    """Which sizes, which shapes."""

    output: Path | None = None
    """JSON file for the results; none is written by default."""
    sizes: tuple[int, ...] = (384, 512, 640, 960, 1280)
    """Working sizes of 4:3 photos, long side in pixels."""
    shapes_at: int = 512
    """Working size of the other shapes."""
    wide_at: tuple[int, ...] = (960, 1280)
    """Further working sizes of 3:1 photos."""
    refine: int = DEFAULT_REFINE
    """Steps of refinement."""


@dataclass(frozen=True)
class Step:
    """One step of a reconstruction."""

    seconds: float
    peak_mib: int
    """Largest resident size of the whole process while the step ran."""


@dataclass(frozen=True)
class Result:
    """One reconstruction in a process of its own."""

    shape: str
    size: int
    working_size: tuple[int, int]
    steps: dict[str, Step]
    seconds_in_all: float
    peak_mib: int
    gaussians: int


def main(options: Options) -> None:
    """Measures, prints, and writes what was measured."""
    runs = [("4:3", size) for size in options.sizes]
    runs += [(shape, options.shapes_at) for shape in SHAPES if shape != "4:3"]
    runs += [("3:1", size) for size in options.wide_at]
    with tempfile.TemporaryDirectory() as folder:
        measured_apart("4:3", options.sizes[0], options.refine, Path(folder))
        results = []
        for shape, size in runs:
            results.append(measured_apart(shape, size, options.refine, Path(folder)))
            print(results[-1], flush=True)
    print(table(results))
    if options.output is not None:
        document = {
            "machine": machine(),
            "refinement_steps": options.refine,
            "results": [asdict(r) for r in results],
        }
        options.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def measured_apart(shape: str, size: int, refine: int, folder: Path) -> Result:
    """One reconstruction in a fresh process."""
    photos = [resized_photo(name, shape, size, folder) for name in PAIR]
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        report, peaks = pool.submit(reconstructed, photos, size, refine).result()
    steps = {name: Step(round(s, 2), peaks[name]) for name, s in report.seconds.items()}
    return Result(
        shape,
        size,
        report.working_size,
        steps,
        round(sum(report.seconds.values()), 2),
        max(peaks.values()),
        sum(report.gaussians_per_level),
    )


def resized_photo(name: str, shape: str, size: int, folder: Path) -> Path:
    """A photo of the bundled pair, enlarged and cropped."""
    width, height = (round(size * side / max(SHAPES[shape])) for side in SHAPES[shape])
    with Image.open(str(files("hisplat_app") / "demo" / name)) as photo:
        ImageOps.fit(photo, (width, height), Image.Resampling.BICUBIC).save(folder / name)
    return folder / name


def reconstructed(photos: list[Path], size: int, refine: int) -> tuple[Report, dict[str, int]]:
    """How a scene came about, and the process's peak memory in each step, MiB."""
    peaks: dict[str, int] = {}
    current = ""

    def note(step: str, fraction: float) -> None:
        nonlocal current
        if current:
            peaks[current] = max(peaks.get(current, 0), peak_mib())
        current = step
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far

    scene = reconstruct(*photos, size=size, refine=refine, progress=note)
    return scene.report, peaks


def peak_mib() -> int:
    """The largest resident size that this process has had since it was last forgotten."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    raise SystemExit("This needs Linux, which tells a process's peak memory.")


def table(results: list[Result]) -> str:
    """Seconds / MiB by step, a column per run, as markdown."""
    names = [f"{r.shape} {r.size}" for r in results]
    lines = [f"| step: s / MiB | {' | '.join(names)} |", "| --- |" + " --- |" * len(results)]
    for step in results[0].steps:
        cells = [f"{r.steps[step].seconds:.1f} / {r.steps[step].peak_mib}" for r in results]
        lines.append(f"| {step} | {' | '.join(cells)} |")
    whole = [f"{r.seconds_in_all:.1f} / {r.peak_mib}" for r in results]
    return "\n".join([*lines, f"| **in all** | {' | '.join(whole)} |"])


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main(tyro.cli(Options, description=__doc__))
