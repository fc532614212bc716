"""What a feed-forward start brings: held-out PSNR against iterations and seconds.

Every capture is trained from three starts, HiSplat's Gaussians, sparse points and random ones (the
two that splatfacto has), with the same refinement on the CPU, that of ``ns-train hisplat``. Seconds
are processor time of the start and the iterations, without evaluations and without loading photos.

Runs in the environment of the plugin's tests (``make test-nerfstudio`` makes it):

  PYTHONPATH=tests/nerfstudio/site .venv-nerfstudio/bin/python benchmarks/nerfstudio_starts.py \
    --captures room=ROOM fox=FOX --output docs/benchmarks/nerfstudio.json

``--plot`` draws a result file again, with nothing but matplotlib.
"""

import functools
import json
import os
import time
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

Source = Literal["network", "points", "random"]
LABELS = {
    "network": "HiSplat (ns-train hisplat)",
    "points": "sparse points",
    "random": "random",
}
COLORS = {"network": "#1b6ca8", "points": "#d1701c", "random": "#7a7a7a"}


@dataclass(frozen=True)
class Point:
    """A moment of a training; seconds of processor time."""

    iteration: int
    seconds: float
    psnr: float
    ssim: float
    gaussians: int


@dataclass(frozen=True)
class Curve:
    """A training, from its start on."""

    capture: str
    source: Source
    photos: int
    held_out: int
    size: tuple[int, int]
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Options:
    """Which trainings to measure."""

    output: Path
    """JSON file of results; curves that it holds already are kept."""
    captures: tuple[str, ...] = ()
    """NAME=FOLDER of captures with transforms.json."""
    sources: tuple[Source, ...] = ("network", "points", "random")
    """Starts."""
    at: tuple[int, ...] = (0, 10, 25, 50, 100, 200, 300)
    """Iterations after which the held-out photos are looked at."""
    every: int = 5
    """Each so many photos one is held out."""
    random: int = 10_000
    """Gaussians of the random start; splatfacto's 50,000 are meant for larger pictures."""
    extent: float = 4.0
    """Side of the cube of the random start; cameras lie within 1 of the origin."""
    plot: Path | None = None
    """Picture to draw of all curves in the output."""


def main(options: Options) -> None:
    """Measures what is missing in the output and draws the picture."""
    from hisplat_app.machine import machine

    document: dict[str, Any] = {"machine": machine(), "seed": 42, "curves": []}
    if options.output.is_file():
        document = json.loads(options.output.read_text())
    done = {(curve["capture"], curve["source"]) for curve in document["curves"]}
    for named in options.captures:
        name, _, folder = named.partition("=")
        for source in options.sources:
            if (name, source) not in done:
                curve = measured(name, Path(folder), source, options)
                document["curves"].append(asdict(curve))
                options.output.write_text(json.dumps(document, indent=1) + "\n")
                print(f"{name} {source}: {[(p.iteration, round(p.psnr, 2)) for p in curve.points]}")
    if options.plot is not None:
        draw(document["curves"], options.plot)


def measured(name: str, folder: Path, source: Source, options: Options) -> Curve:
    """One training."""
    import random
    import tempfile

    import numpy as np
    import torch

    random.seed(42)
    np.random.seed(42)  # noqa: NPY002 - nerfstudio's own generator
    torch.manual_seed(42)
    with tempfile.TemporaryDirectory() as outputs:
        trainer = prepared(folder, source, options, Path(outputs))
        trainer.setup()
        pipeline = trainer.pipeline
        # Setting up made the start, and the seconds that took are in the pipeline's callback.
        seconds = start_seconds.pop()
        points: list[Point] = []
        for iteration in range(max(options.at) + 1):
            if iteration in options.at:
                points.append(scored(pipeline, iteration, seconds))
            begin = time.process_time()
            one_iteration(trainer, iteration)
            seconds += time.process_time() - begin
        train, held = pipeline.datamanager.train_dataset, pipeline.datamanager.eval_dataset
        size = int(train.cameras.width[0]), int(train.cameras.height[0])
        return Curve(name, source, len(train), len(held), size, tuple(points))


start_seconds: list[float] = []
"""How long the last start took."""


def prepared(folder: Path, source: Source, options: Options, outputs: Path) -> Any:
    """A trainer of ``ns-train hisplat`` on the CPU without viewer or logs."""
    from nerfstudio.configs.method_configs import all_methods

    from hisplat_app.nerfstudio_plugin.pipeline import HiSplatPipeline

    config = deepcopy(all_methods["hisplat"])
    config.set_timestamp()
    config.output_dir, config.experiment_name = outputs, "benchmark"
    config.machine.device_type, config.vis = "cpu", "tensorboard"
    config.logging.profiler = "none"
    config.pipeline.datamanager.data = folder
    config.pipeline.datamanager.dataparser.eval_mode = "interval"
    config.pipeline.datamanager.dataparser.eval_interval = options.every
    config.pipeline.start.source = source
    config.pipeline.model.num_random = options.random
    config.pipeline.model.random_scale = options.extent
    # Short trainings: density control begins early enough to act in them.
    config.pipeline.model.warmup_length = 100

    original = HiSplatPipeline.__dict__["_start"]
    if not hasattr(original, "__wrapped__"):

        @functools.wraps(original)
        def timed(self: Any) -> None:
            begin = time.process_time()
            original(self)
            start_seconds.append(time.process_time() - begin)

        HiSplatPipeline._start = timed
    return config.setup(local_rank=0, world_size=1)


def one_iteration(trainer: Any, step: int) -> None:
    """What ``Trainer.train`` does each time, without logs and evaluations."""
    from nerfstudio.engine.callbacks import TrainingCallbackLocation as Location

    trainer.pipeline.train()
    for callback in trainer.callbacks:
        callback.run_callback_at_location(step, location=Location.BEFORE_TRAIN_ITERATION)
    trainer.train_iteration(step)
    for callback in trainer.callbacks:
        callback.run_callback_at_location(step, location=Location.AFTER_TRAIN_ITERATION)


def scored(pipeline: Any, iteration: int, seconds: float) -> Point:
    """Means over the held-out photos."""
    metrics = pipeline.get_average_eval_image_metrics()
    count = pipeline.model.num_points
    psnr, ssim = round(metrics["psnr"], 3), round(metrics["ssim"], 4)
    return Point(iteration, round(seconds, 2), psnr, ssim, count)


def draw(curves: list[dict[str, Any]], output: Path) -> None:
    """PSNR against iterations above, against seconds below, a column per capture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = sorted({curve["capture"] for curve in curves})
    figure, rows = pyplot.subplots(
        2, len(names), figsize=(4.6 * len(names), 6.4), squeeze=False, layout="constrained"
    )
    for column, name in enumerate(names):
        for row, (axis, label) in enumerate(
            (("iteration", "iterations"), ("seconds", "processor seconds, start included"))
        ):
            panel = rows[row][column]
            for curve in (c for c in curves if c["capture"] == name):
                x = [point[axis] for point in curve["points"]]
                y = [point["psnr"] for point in curve["points"]]
                source = curve["source"]
                panel.plot(x, y, marker="o", ms=3, color=COLORS[source], label=LABELS[source])
            panel.set_xlabel(label)
            panel.set_ylabel("held-out PSNR, dB")
            panel.grid(alpha=0.3)
            if row == 0:
                one = next(c for c in curves if c["capture"] == name)
                width, height = one["size"]
                panel.set_title(f"{name}: {one['photos']} photos of {width}x{height}")
    rows[0][-1].legend(loc="lower right", fontsize=8)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main(tyro.cli(Options))
