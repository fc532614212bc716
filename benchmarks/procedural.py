"""How fast procedural samples are made, step by step and device by device, as JSON.

    python benchmarks/procedural.py --output docs/benchmarks/procedural.json

Planning a sample (its scene and cameras), casting its rays and taking its photos: by the compiled
renderer of one process, and in batches by torch on one core and, where there is one, on a GPU. On
the CPU it is processor time, so that other work on the machine disturbs it little. Compilation is
not counted.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
import torch
import tyro

from hisplat_app.machine import machine
from hisplat_data_tools.datasets.cached import CachedDataset
from hisplat_data_tools.procedural import (
    LAYOUTS,
    ProceduralDataset,
    ProceduralSettings,
    render,
    sample_cameras,
    sample_scene,
)
from hisplat_data_tools.procedural.batched.cast import cast
from hisplat_data_tools.procedural.batched.examples import (
    batch_size,
    make_batch,
    pack_plans,
)
from hisplat_data_tools.procedural.batched.photos import take
from hisplat_data_tools.procedural.photo_effects import Exposure, develop, photograph
from hisplat_data_tools.procedural.plans import Plan, draw_plan

CPU = torch.device("cpu")
WANTED_SAMPLES_A_SECOND = 500

Result = TypeVar("Result")


@dataclass(frozen=True)
class Arguments:
    """What to measure."""

    output: Path | None = None
    """File for the measurements; they are printed in any case."""
    settings: ProceduralSettings = field(default_factory=lambda: ProceduralSettings(width=160))
    """Samples to make: pairs of photos, and targets."""
    samples: int = 64
    """How many, the same ones for every step."""
    seed: int = 0
    """Of the samples."""


class Stopwatch:
    """Times of steps: processor time, or time on the clock where a GPU does the work."""

    def __init__(self, device: torch.device = CPU):
        self.device = device
        self.times: dict[str, list[float]] = {}

    def measured(self, step: str, work: Callable[..., Result], *arguments: Any) -> Result:
        """What the work gives; its time is kept under the name of the step."""
        start = self._now()
        result = work(*arguments)
        self.times.setdefault(step, []).append(self._now() - start)
        return result

    def milliseconds(self, count: int) -> dict[str, float]:
        """Of each step, divided among this many samples."""
        return {step: _ms(sum(times) / count) for step, times in self.times.items()}

    def _now(self) -> float:
        if self.device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize(self.device)
        return time.perf_counter()


def planning(dataset: ProceduralDataset) -> tuple[list[Plan], list[float]]:
    """The plans of all samples, and the time that each took."""
    watch, settings = Stopwatch(), dataset.settings
    sources = [dataset.random(index) for index in range(len(dataset))]
    plans = [watch.measured("plan", draw_plan, source, settings) for source in sources]
    return plans, watch.times["plan"]


def compiled(
    dataset: ProceduralDataset, plans: Sequence[Plan], cache: CachedDataset
) -> dict[str, Any]:
    """The compiled renderer's steps, in one process; the whole includes planning.

    Keeping samples in the cache comes on top of it, whoever makes them.
    """
    watch, settings = Stopwatch(), dataset.settings
    for index, plan in enumerate(plans):
        light = watch.measured("cast", _light, plan, settings)
        watch.measured("take_photos", _photos, plan, light)
        example = watch.measured("whole", dataset.__getitem__, index)
        watch.measured("keep_in_cache", cache.keep, index, example)
    whole = watch.times["whole"]
    return {
        "milliseconds_a_sample": watch.milliseconds(len(plans)),
        "milliseconds_of_the_median_sample": _ms(float(np.median(whole))),
        "samples_a_second": round(len(whole) / sum(whole), 2),
    }


def _light(plan: Plan, settings: ProceduralSettings) -> list[np.ndarray]:
    size = settings.height, settings.width, settings.samples_per_pixel
    cameras = (*plan.cameras.context, *plan.cameras.target)
    return [render(plan.scene, camera, *size).radiance for camera in cameras]


def _photos(plan: Plan, light: Sequence[np.ndarray]) -> list[np.ndarray]:
    shots = plan.shots
    first = shots.metering.exposure(light[0])
    count = len(shots.faults)
    photos = [
        photograph(view, Exposure(first.gains * tint), faults)
        for view, tint, faults in zip(light[:count], shots.tints, shots.faults, strict=True)
    ]
    return photos + [develop(view, first) for view in light[count:]]


def batched(
    settings: ProceduralSettings,
    plans: Sequence[Plan],
    device: torch.device,
    planned: Sequence[float],
) -> dict[str, Any]:
    """The steps in torch; the whole includes planning and packing, on one core."""
    watch, packing, at_once = Stopwatch(device), Stopwatch(), batch_size(settings)
    size = settings.height, settings.width, settings.samples_per_pixel
    make_batch(pack_plans(["warm-up"], plans[:1]), settings, device)
    for start in range(0, len(plans), at_once):
        some = plans[start : start + at_once]
        batch = packing.measured("pack", pack_plans, [""] * len(some), some)
        scenes, views, shots = batch.scenes.to(device), batch.views.to(device), batch.shots
        seen = watch.measured("cast", cast, scenes, views, *size)
        light = seen.radiance.unflatten(0, (len(some), -1))
        photos, targets = light.split([settings.context_views, settings.target_views], dim=1)
        watch.measured("take_photos", take, shots.to(device), photos, targets)
        watch.measured("make_batch", make_batch, batch, settings, device)
    count, making = len(plans), sum(watch.times["make_batch"])
    whole = sum(planned) + sum(packing.times["pack"]) + making
    steps = packing.milliseconds(count) | watch.milliseconds(count)
    return {
        "milliseconds_a_sample": steps | {"whole": _ms(whole / count)},
        "samples_a_second_planned_elsewhere": round(count / making, 2),
        "samples_a_second": round(count / whole, 2),
    }


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)


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
        watch = Stopwatch()
        for _ in range(3):
            watch.measured("view", render, scene, cameras.context[0], *size)
        times.append(min(watch.times["view"]))
    return _ms(float(np.median(times)))


def main(arguments: Arguments) -> None:
    """Prints the measurements, and writes them."""
    torch.set_num_threads(1)
    settings = arguments.settings
    dataset = ProceduralDataset(settings, arguments.seed, arguments.samples)
    dataset[0]  # compiles
    plans, planned = planning(dataset)
    packed = batched(settings, plans, CPU, planned)
    cuda: dict[str, Any] | str = "not measured: no GPU on this machine"
    if torch.cuda.is_available():
        cuda = batched(settings, plans, torch.device("cuda"), planned)
    with TemporaryDirectory() as folder:
        numba = compiled(dataset, plans, CachedDataset(dataset, folder))
    ahead = sum(planned) / len(planned) + packed["milliseconds_a_sample"]["pack"] / 1000
    report = {
        "machine": machine(),
        "settings": asdict(settings),
        "seed": arguments.seed,
        "samples": arguments.samples,
        "planning_by_one_process": {
            "milliseconds_a_sample": _ms(float(np.mean(planned))),
            "milliseconds_of_the_median_sample": _ms(float(np.median(planned))),
            "samples_a_second_with_packing": round(1 / ahead, 2),
        },
        "numba_one_process": numba,
        "torch_on_one_core": packed,
        "torch_on_cuda": cuda,
        "computed": {
            f"cores_that_plan_{WANTED_SAMPLES_A_SECOND}_samples_a_second": math.ceil(
                WANTED_SAMPLES_A_SECOND * ahead
            )
        },
        "milliseconds_to_render_a_view": {
            layout: view_milliseconds(settings, layout) for layout in LAYOUTS
        },
    }
    text = json.dumps(report, indent=1)
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
