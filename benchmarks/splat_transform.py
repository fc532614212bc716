"""Every exported format as another program sees it, beside the scene it was made of.

Needs the npm package @playcanvas/splat-transform, the reader inside SuperSplat. Usage:
python benchmarks/splat_transform.py --scene scene.ply --program splat-transform
"""

import json
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from hisplat_app.machine import machine
from hisplat_data_tools.scene_files import SCENE_READERS, SCENE_WRITERS, read_scene, write_scene
from hisplat_models.gaussians import Gaussians

STATISTICS = ("min", "max", "median")


@dataclass(frozen=True)
class Options:
    """Which scene, and where the result goes."""

    scene: Path
    """A scene file."""
    program: str = "splat-transform"
    """The other program."""
    output: Path | None = None
    """JSON file for the result; none is written by default."""


def main(options: Options) -> None:
    """Prints and writes statistics by format: the scene's, and what the other program reads."""
    scene = read_scene(options.scene)
    wanted = statistics(scene)
    formats: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for ending in SCENE_WRITERS:
            path = Path(folder) / f"scene{ending}"
            begin = time.process_time()
            write_scene(path, scene)
            facts: dict[str, Any] = {
                "bytes": path.stat().st_size,
                "bytes_per_gaussian": round(path.stat().st_size / scene.count, 1),
                "cpu_s_to_write": round(time.process_time() - begin, 2),
            }
            if "." + ending.split(".")[-1] in SCENE_READERS:
                begin = time.process_time()
                ours = statistics(read_scene(path))
                facts["cpu_s_to_read"] = round(time.process_time() - begin, 2)
                count, theirs = read_by(options.program, path)
                facts["gaussians_they_read"] = count
                facts["columns"] = {
                    name: {"scene": wanted[name], "we_read": ours[name], "they_read": theirs[name]}
                    for name in wanted
                }
            formats[ending] = facts
            print(ending, json.dumps({k: v for k, v in facts.items() if k != "columns"}))
    document = {
        "machine": machine(),
        "scene": options.scene.stem,
        "gaussians": scene.count,
        "program": version(options.program),
        "statistics": STATISTICS,
        "formats": formats,
    }
    if options.output is not None:
        options.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def statistics(gaussians: Gaussians) -> dict[str, list[float]]:
    """Least, greatest and middle value of what the other program prints, by its names."""
    columns = {
        **dict(zip("xyz", gaussians.means.T, strict=True)),
        **{f"scale_{i}": gaussians.scales[:, i] for i in range(3)},
        **{f"f_dc_{i}": gaussians.base_colors[:, i] for i in range(3)},
        "opacity": gaussians.opacities,
    }
    return {
        name: [float(f"{v:.6g}") for v in (c.min(), c.max(), np.median(c.numpy()))]
        for name, c in columns.items()
    }


def read_by(program: str, path: Path) -> tuple[int, dict[str, list[float]]]:
    """The number of Gaussians and the same statistics as the other program prints them."""
    command = [program, str(path), "-m", "null"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    count, columns, head = 0, {}, []
    for line in done.stdout.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if "Row Count" in line:
            count = int(line.split("**")[-1])
        elif cells[0] == "Column":
            head = cells
        elif len(cells) == len(head) and not set(cells[0]) <= {"-"}:
            row = dict(zip(head, cells, strict=True))
            columns[cells[0]] = [float(row[name]) for name in STATISTICS]
    return count, columns


def version(program: str) -> str:
    """What the program calls itself."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return (done.stdout + done.stderr).strip()


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
