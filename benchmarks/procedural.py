"""How many procedural samples a second one process makes, as JSON.

    python benchmarks/procedural.py [--settings.height 128 --settings.width 192] [--seconds 10]

Single-threaded; data loaders multiply it by their workers. Compilation is not counted.
Processor time, so that other work on the machine disturbs it little.
"""

import json
import time
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
import tyro

from hisplat_app.machine import machine
from hisplat_data_tools.procedural import (
    LAYOUTS,
    ProceduralDataset,
    ProceduralSettings,
    render,
    sample_cameras,
    sample_scene,
)


@dataclass(frozen=True)
class Arguments:
    """What to measure."""

    settings: ProceduralSettings = field(default_factory=ProceduralSettings)
    """Samples to make."""
    seconds: float = 10.0
    """Time to measure samples for; views take about as long again."""


def view_milliseconds(settings: ProceduralSettings, layout: str, count: int = 5) -> float:
    """Least time that one rendered view of the layout took, median over scenes."""
    times = []
    for index in range(count):
        rng = np.random.default_rng([1, index])
        scene = sample_scene(rng, layout, settings.texture_size)
        cameras = sample_cameras(rng, scene, settings.width / settings.height)
        if cameras is None:
            continue
        size = settings.height, settings.width, settings.samples_per_pixel
        tries = []
        for _ in range(3):
            start = time.process_time()
            render(scene, cameras.context[0], *size)
            tries.append(time.process_time() - start)
        times.append(min(tries))
    return round(1000 * float(np.median(times)), 1)


def sample_seconds(settings: ProceduralSettings, seconds: float) -> list[float]:
    """Processor time of each of as many samples as fit in the given time."""
    dataset = ProceduralDataset(settings, seed=0, length=1_000_000)
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        start = time.process_time()
        dataset[len(times) + 1]
        times.append(time.process_time() - start)
    return times


def main(arguments: Arguments) -> None:
    """Prints the measurements."""
    torch.set_num_threads(1)
    settings = arguments.settings
    ProceduralDataset(settings, seed=0, length=1)[0]  # compiles
    times = sample_seconds(settings, arguments.seconds)
    views = settings.context_views + settings.target_views
    report = {
        "machine": machine(),
        "settings": asdict(settings),
        "samples": len(times),
        "samples_per_second": round(len(times) / sum(times), 2),
        "milliseconds_per_sample": {
            "median": round(1000 * float(np.median(times)), 1),
            "least": round(1000 * min(times), 1),
        },
        "milliseconds_per_view_all_in": round(1000 * float(np.median(times)) / views, 1),
        "milliseconds_to_render_a_view": {
            layout: view_milliseconds(settings, layout) for layout in LAYOUTS
        },
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
