"""Seconds and peak memory of a reconstruction by working size and shape of the photos.

Every reconstruction is a fresh process; its photos are the bundled pair, enlarged and cropped to
the shape. Compiled kernels are on disk after a first run that is not counted.

Usage: python benchmarks/whole_images.py --output FILE.json
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

import tyro
from PIL import Image, ImageOps

from hisplat_app.machine import machine

PAIR = ("left.jpg", "right.jpg")
SHAPES = {"4:3": (4, 3), "3:4": (3, 4), "21:9": (21, 9), "1:1": (1, 1)}


@dataclass(frozen=True)
class Options:
    """Which sizes, which shapes."""

    output: Path | None = None
    """JSON file for the results; none is written by default."""
    sizes: tuple[int, ...] = (384, 512, 640, 960, 1280)
    """Working sizes of 4:3 photos, long side in pixels."""
    shapes_at: int = 512
    """Working size of the other shapes."""


@dataclass(frozen=True)
class Result:
    """One reconstruction in a process of its own."""

    shape: str
    size: int
    working_size: tuple[int, int]
    seconds: dict[str, float]
    seconds_in_all: float
    peak_memory_mib: float
    gaussians: int


def main(options: Options) -> None:
    """Measures, prints, and writes what was measured."""
    with tempfile.TemporaryDirectory() as folder:
        reconstructed("4:3", options.sizes[0], Path(folder))
        results = [reconstructed("4:3", size, Path(folder)) for size in options.sizes]
        others = [shape for shape in SHAPES if shape != "4:3"]
        results += [reconstructed(shape, options.shapes_at, Path(folder)) for shape in others]
    if options.output is not None:
        document = {"machine": machine(), "results": [asdict(r) for r in results]}
        options.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def reconstructed(shape: str, size: int, folder: Path) -> Result:
    """One run of the command; prints what it took."""
    width, height = (round(size * side / max(SHAPES[shape])) for side in SHAPES[shape])
    photos = []
    for name in PAIR:
        with Image.open(str(files("hisplat_app") / "demo" / name)) as photo:
            photos.append(folder / name)
            ImageOps.fit(photo, (width, height), Image.Resampling.BICUBIC).save(photos[-1])
    report = folder / "report.json"
    command = [sys.executable, "-m", "hisplat_app", "reconstruct", "--left", str(photos[0])]
    command += ["--right", str(photos[1]), "--output", str(folder / "scene.ply")]
    command += ["--size", str(size), "--report", str(report)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}.")
    found = json.loads(report.read_text(encoding="utf-8"))
    seconds = {step: round(value, 2) for step, value in found["seconds"].items()}
    result = Result(
        shape,
        size,
        tuple(found["working_size"]),
        seconds,
        round(sum(found["seconds"].values()), 2),
        round(usage.ru_maxrss / 1024),
        sum(found["gaussians_per_level"]),
    )
    print(asdict(result), flush=True)
    return result


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main(tyro.cli(Options, description=__doc__))
