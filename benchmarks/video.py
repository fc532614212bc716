"""Speed of drawing and writing videos of a scene.

Usage: python benchmarks/video.py --scene scene.ply --cameras cameras.json
"""

import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from hisplat_app.camera_paths import between
from hisplat_app.drawing import SceneDrawer
from hisplat_app.machine import machine
from hisplat_data_tools.cameras_json import read_cameras, to_cameras
from hisplat_data_tools.scene_files import read_scene
from hisplat_data_tools.video import ENCODERS, write_video


@dataclass(frozen=True)
class Options:
    """Which scene, how long a video, and where the result goes."""

    scene: Path
    """A scene file."""
    cameras: Path
    """The video goes between its first two cameras."""
    frames: int = 60
    """Length of each video."""
    size: tuple[int, int] = (427, 640)
    """Height and width."""
    output: Path | None = None
    """JSON file for the result; none is written by default."""


def main(options: Options) -> None:
    """Prints and writes frames per second, by format and without encoding."""
    gaussians = read_scene(options.scene)
    path = between(to_cameras(read_cameras(options.cameras).images[:2], 0.1, 100.0), options.frames)
    drawer = SceneDrawer(gaussians)
    drawer.draw(path[0], options.size)  # compiles
    results: dict[str, Any] = {}
    begin, cpu = time.perf_counter(), cpu_seconds()
    slowest = 0.0
    for frame in range(options.frames):
        start = time.perf_counter()
        drawer.draw(path[frame], options.size)
        slowest = max(slowest, time.perf_counter() - start)
    results["drawing alone"] = {
        "frames_per_s": round(options.frames / (time.perf_counter() - begin), 1),
        "cpu_s_per_frame": round((cpu_seconds() - cpu) / options.frames, 3),
        "slowest_frame_s": round(slowest, 3),
    }
    with tempfile.TemporaryDirectory() as folder:
        for ending in ENCODERS:
            begin, cpu = time.perf_counter(), cpu_seconds()
            target = Path(folder) / f"video{ending}"
            write_video(target, drawer.frames(path, options.size), 30.0)
            results[ending] = {
                "frames_per_s": round(options.frames / (time.perf_counter() - begin), 1),
                "cpu_s_per_frame": round((cpu_seconds() - cpu) / options.frames, 3),
                "bytes": target.stat().st_size,
            }
    document = {
        "machine": machine(),
        "scene": options.scene.stem,
        "gaussians": gaussians.count,
        "size": options.size,
        "frames": options.frames,
        "results": results,
    }
    print(json.dumps(document, indent=1))
    if options.output is not None:
        options.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def cpu_seconds() -> float:
    """Of this process and of the encoders it has waited for."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
