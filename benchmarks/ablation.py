"""What HiSplat's parts are worth in preset hisplat-small: each left out, several seeds.

Every run trains on the same procedural scenes for the same number of steps, from zero residuals or
(--start) from trained weights without the part, with photos at half the size of the targets so
that a step is cheap. It is scored on held-back procedural scenes and, with --data, on the first
pair of each posed scene. Runs that are done are not repeated, so the command can be interrupted.
Usage:
  python -m benchmarks.ablation --work runs/ablation --output ablation.json --data DIR
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from benchmarks.changed_network import without
from benchmarks.training_curve import Options as CurveOptions
from benchmarks.training_curve import Prepared, prepare, scores
from hisplat_app.machine import machine
from hisplat_app.training_run import Part, TrainingRun
from hisplat_models.checkpoints import load_model, save_model
from hisplat_models.training import TrainSettings
from hisplat_models.training.losses import LossSettings

LEFT_OUT: dict[str, tuple[Part, ...]] = {
    "nothing": (),
    "error awareness": ("error-awareness",),
    "modulating fusion": ("modulating-fusion",),
    "both": ("error-awareness", "modulating-fusion"),
}


@dataclass(frozen=True)
class Options:
    """How long, how often, where."""

    work: Path
    """Folder for the runs and the scenes they share."""
    output: Path
    """JSON file for the results."""
    data: Path | None = None
    """Folder of posed scenes."""
    start: str | None = None
    """Trained weights (a bundled name or a file) to start from instead of zero residuals."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Seeds of the runs; none (``--seeds`` alone) for the scores of the trained weights only."""
    steps: int = 300
    """Steps of each run."""
    examples: int = 150
    """Procedural scenes, the same for all runs."""


def main(options: Options) -> None:
    """Trains what has not been trained, scores, writes after every run."""
    pairs: list[Prepared] = []
    if options.data is not None:
        pairs = prepare(CurveOptions(data=options.data, output=options.output))
    trained = trained_scores(options, pairs) if pairs else {}
    results: list[dict[str, Any]] = []
    write(options, {"runs": results, **trained})
    for seed in options.seeds:
        for name, parts in LEFT_OUT.items():
            folder = options.work / f"without-{name.replace(' ', '-')}-{seed}"
            run = short_run(options, seed, TrainingRun(folder, ablate=parts))
            results.append(trained_and_scored(run, {"left_out": name, "seed": seed}, pairs))
            print(results[-1], flush=True)
            write(options, {"runs": results, **trained})


def trained_scores(options: Options, pairs: list[Prepared]) -> dict[str, Any]:
    """What the trained network's levels and parts are worth without any training after it."""
    parts = [] if options.start is None else part_scores(options.start, pairs)
    return {"bundled_levels": level_scores(pairs), "start_without": parts}


def level_scores(pairs: list[Prepared]) -> list[dict[str, Any]]:
    """The bundled network's scenes with fewer of their levels, without training anew."""
    model = load_model()
    return [
        {"levels_drawn": levels, **scores(model, pairs, levels)}
        for levels in ((2,), (1, 2), (0, 2), (0, 1, 2))
    ]


def part_scores(start: str, pairs: list[Prepared]) -> list[dict[str, Any]]:
    """The trained network as it is without a part."""
    model = load_model(start)
    return [
        {"left_out": name, **scores(without(model, parts), pairs)}
        for name, parts in LEFT_OUT.items()
    ]


def short_run(options: Options, seed: int, run: TrainingRun) -> TrainingRun:
    """The run with the settings that all runs of a comparison share."""
    if options.start is not None:
        run.run_dir.mkdir(parents=True, exist_ok=True)
        run.init = str(run.run_dir / "start.safetensors")
        save_model(without(load_model(options.start), run.ablate), Path(run.init))
    run.cache = options.work / "cache"
    run.examples, run.width, run.height, run.targets, run.threads = options.examples, 192, 128, 2, 1
    run.train = TrainSettings(
        steps=options.steps,
        batch_size=2,
        learning_rate=2e-3 if options.start is None else 1e-3,
        warmup_steps=20,
        ema_decay=0.98,
        seed=seed,
        half_size_steps=1.0,
        fixed=("colors", "backdrops"),
        evaluate_every=options.steps,
        losses=replace(LossSettings(), levels=(0.0, 0.0, 1.0)),
    )
    return run


def trained_and_scored(
    run: TrainingRun, facts: dict[str, Any], pairs: list[Prepared]
) -> dict[str, Any]:
    """The facts and the scores of a run, trained now unless it has been."""
    scored = run.run_dir / "scores.json"
    if scored.is_file():
        return json.loads(scored.read_text())
    run.run()
    card = json.loads((run.run_dir / "card.json").read_text())
    values: dict[str, Any] = {
        **facts,
        "procedural_psnr": card["curve"][-1]["validation_psnr"],
        "hours": card["hours"],
        "commit": card["sessions"][-1]["commit"],
    }
    if pairs:
        photos = scores(load_model(run.run_dir / "averaged.safetensors"), pairs)
        values |= {f"photos_{key}": value for key, value in photos.items()}
    scored.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    return values


def write(options: Options, results: dict[str, Any]) -> None:
    """All runs so far."""
    document = {"machine": machine(), "steps": options.steps, **results}
    options.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
