"""Quality of the bundled network's scenes by working size, on targets at two sizes.

The first pair of every posed scene, given cameras, as predicted and refined.

Usage: python benchmarks/working_size.py --data DIR --output FILE.json
"""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
import tyro

from hisplat_app.defaults import DEFAULT_REFINE
from hisplat_app.machine import machine
from hisplat_data_tools.datasets import PosedFolderDataset
from hisplat_models.checkpoints import load_model
from hisplat_models.example import Example
from hisplat_models.gaussians import Gaussians
from hisplat_models.metrics import gain_corrected_psnr
from hisplat_models.network import HiSplat
from hisplat_models.refinement import refine
from hisplat_models.rendering import create_renderer


@dataclass(frozen=True)
class Options:
    """Which photos, which sizes."""

    data: Path
    """Folder of posed scenes."""
    output: Path | None = None
    """JSON file for the results; none is written by default."""
    sizes: tuple[int, ...] = (384, 448, 512, 640)
    """Working sizes, long side in pixels."""
    targets: tuple[int, ...] = (384, 640)
    """Long sides at which the scenes are drawn and compared."""
    scenes: tuple[str, ...] = ()
    """Only these; all by default."""
    refine: int = DEFAULT_REFINE
    """Steps of refinement; 0 leaves it out."""


def main(options: Options) -> None:
    """Prints and writes gain-corrected PSNR, mean over scenes, by working and target size."""
    model = load_model()
    folders = sorted(p.parent for p in options.data.glob("*/cameras.json"))
    folders = [f for f in folders if '"pairs"' in (f / "cameras.json").read_text()]
    folders = [f for f in folders if not options.scenes or f.name in options.scenes]
    means: dict[str, dict[str, dict[str, float]]] = {}
    for size in options.sizes:
        rows = [psnr_by_target(model, folder, size, options) for folder in folders]
        means[str(size)] = {
            kind: {str(t): round(fmean(row[kind][t] for row in rows), 2) for t in options.targets}
            for kind in rows[0]
        }
        print(size, means[str(size)], flush=True)
    if options.output is not None:
        document = {
            "machine": machine(),
            "scenes": [f.name for f in folders],
            "refinement_steps": options.refine,
            "psnr": means,
        }
        options.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def psnr_by_target(
    model: HiSplat, folder: Path, size: int, options: Options
) -> dict[str, dict[int, float]]:
    """Of one scene worked on at a size: predicted and refined, by the targets' size."""
    examples = {
        t: PosedFolderDataset(folder, size, model.size_multiple, target_long_side=t)[0]
        for t in options.targets
    }
    first = examples[options.targets[0]]
    images, cameras = first.context_images[None], first.context_cameras[None]
    with torch.no_grad():
        predicted = model(images, cameras).gaussians
    scenes = {"predicted": predicted}
    if options.refine:
        renderer = model.create_renderer("cpu")
        scenes["refined"] = refine(predicted, images, cameras, renderer, options.refine)
    return {
        kind: {t: target_psnr(scene, example) for t, example in examples.items()}
        for kind, scene in scenes.items()
    }


@torch.no_grad()
def target_psnr(scene: Gaussians, example: Example) -> float:
    """Mean gain-corrected PSNR of an example's targets."""
    truth = example.target_images
    size = (truth.shape[-2], truth.shape[-1])
    drawn = create_renderer("cpu")(scene, example.target_cameras[None], size).color[0]
    return gain_corrected_psnr(drawn.clamp(0, 1), truth).mean().item()


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
