"""Quality on photos and on procedural scenes against training time, for every snapshot of a run.

Photos (posed folders) are for choosing among checkpoints only. Usage:
  python benchmarks/training_curve.py --run runs/mine --data DIR --output curve.json
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro

from hisplat_app.machine import machine
from hisplat_data_tools.datasets import PosedFolderDataset
from hisplat_models.checkpoints import load_model
from hisplat_models.config import PRESETS
from hisplat_models.example import Example
from hisplat_models.matching import MatchingPrior, match_views
from hisplat_models.metrics import gain_corrected_psnr, psnr, ssim
from hisplat_models.network import HiSplat
from hisplat_models.rendering import create_renderer


@dataclass(frozen=True)
class Options:
    """Which run, which photos."""

    data: Path
    """Folder of posed scenes."""
    output: Path
    """JSON file for the curve."""
    run: Path | None = None
    """Run folder whose snapshots are scored."""
    weights: tuple[str, ...] = ()
    """Further weights to score: files or bundled names."""
    untrained: bool = True
    """Score the network before training as well."""
    every_pair: bool = False
    """All pairs instead of the first one of each scene."""
    size: int = 384
    """Long side of photos and targets."""


@dataclass(frozen=True)
class Prepared:
    """A pair with what the matcher found, which does not depend on the weights."""

    scene: str
    example: Example
    prior: MatchingPrior


def main(options: Options) -> None:
    """Scores every snapshot and writes the curve."""
    torch.set_num_threads(1)
    pairs = prepare(options)
    hours = {} if options.run is None else hours_of_steps(options.run)
    points: list[dict[str, Any]] = []

    def add(facts: dict[str, Any], model: HiSplat) -> None:
        points.append({**facts, **scores(model, pairs)})
        print(points[-1], flush=True)
        write(options, points)

    if options.untrained:
        torch.manual_seed(0)
        add({"step": 0, "hours": 0.0, "weights": "untrained"}, HiSplat(PRESETS["hisplat-small"]))
    for name in options.weights:
        add({"weights": name}, load_model(name))
    if options.run is not None:
        for path in sorted((options.run / "snapshots").glob("*.safetensors")):
            step = int(path.stem)
            add({"step": step, "hours": hours[step], "weights": path.name}, load_model(path))


def prepare(options: Options) -> list[Prepared]:
    """The pairs at the working size, matched once."""
    folders = sorted(p.parent for p in options.data.glob("*/cameras.json"))
    prepared = []
    for folder in folders:
        if '"pairs"' not in (folder / "cameras.json").read_text():
            continue
        dataset = PosedFolderDataset(folder, options.size)
        for index in range(len(dataset) if options.every_pair else 1):
            example = dataset[index]
            prior = match_views(example.context_images[None], example.context_cameras[None])
            prepared.append(Prepared(dataset.scene, example, prior))
    return prepared


@torch.no_grad()
def scores(
    model: HiSplat, pairs: list[Prepared], levels: tuple[int, ...] = (0, 1, 2)
) -> dict[str, Any]:
    """Means over targets, then pairs, then scenes; gain-corrected PSNR of each scene as well.

    Only Gaussians of these ``levels`` are drawn.
    """
    model.eval()
    renderer = create_renderer("cpu")
    per_scene: dict[str, list[tuple[float, float, float]]] = {}
    for pair in pairs:
        example = pair.example
        images, cameras = example.context_images[None], example.context_cameras[None]
        scene = model(images, cameras, prior=pair.prior).gaussians
        drawn_levels = torch.isin(scene.level, torch.tensor(levels))
        scene = replace(scene, opacities=scene.opacities * drawn_levels)
        truth = example.target_images
        size = (truth.shape[-2], truth.shape[-1])
        drawn = renderer(scene, example.target_cameras[None], size).color[0].clamp(0, 1)
        metrics = (gain_corrected_psnr(drawn, truth), psnr(drawn, truth), ssim(drawn, truth))
        values = tuple(float(m.mean()) for m in metrics)
        per_scene.setdefault(pair.scene, []).append(values)  # pyright: ignore[reportArgumentType]
    means = {name: torch.tensor(rows).mean(0) for name, rows in per_scene.items()}
    overall = torch.stack(list(means.values())).mean(0).tolist()
    return {
        "gain_corrected_psnr": round(overall[0], 3),
        "psnr": round(overall[1], 3),
        "ssim": round(overall[2], 4),
        "gain_corrected_psnr_by_scene": {k: round(float(v[0]), 2) for k, v in means.items()},
    }


def hours_of_steps(run: Path) -> dict[int, float]:
    """Wall time of training at each step, from the run's log."""
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {r["step"]: round(r["hours"], 4) for r in records if "step" in r}


def write(options: Options, points: list[dict[str, Any]]) -> None:
    """The curve so far, with the run's card."""
    card = None
    if options.run is not None:
        card = json.loads((options.run / "card.json").read_text())
        card.pop("curve", None)
    document = {
        "machine": machine(),
        "pairs": "all" if options.every_pair else "first of each scene",
        "size": options.size,
        "card": card,
        "points": points,
    }
    options.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
