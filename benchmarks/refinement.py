"""Refinement by rendering: what it gains where nobody photographed, by part, by steps, by scene.

First pair of every posed scene, given cameras. Gains are against the scene as predicted, in the
views that were not photographed and, to tell fitting from seeing better, in the photos themselves.
Each refinement is timed right after the network that made its scene.

Usage: python benchmarks/refinement.py --data DIR --output FILE.json
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean

import torch
import tyro
from torch import Tensor
from training_curve import Options as PairOptions
from training_curve import Prepared, prepare

from hisplat_app.machine import machine
from hisplat_models.cameras import Cameras
from hisplat_models.checkpoints import load_model
from hisplat_models.gaussians import Gaussians
from hisplat_models.metrics import gain_corrected_psnr, ssim
from hisplat_models.network import HiSplat
from hisplat_models.refinement import RefinementSettings, refine
from hisplat_models.rendering import create_renderer

SIZE = 384
SCALE = 2
"""Targets are drawn this many times as large too, to see whether gaps open."""
STEPS = 10
DEFAULT = RefinementSettings()
RUNS: dict[str, tuple[int, RefinementSettings]] = {
    "as predicted": (0, DEFAULT),
    "10 steps": (STEPS, DEFAULT),
    "20 steps": (20, DEFAULT),
    "opacities alone": (STEPS, replace(DEFAULT, scale_rate=0.0, color_rate=0.0)),
    "scales alone": (STEPS, replace(DEFAULT, opacity_rate=0.0, color_rate=0.0)),
    "colours alone": (STEPS, replace(DEFAULT, opacity_rate=0.0, scale_rate=0.0)),
    "without agreement": (STEPS, replace(DEFAULT, agreement_weight=0.0)),
}


@dataclass(frozen=True)
class Quality:
    """Of one scene: means over its targets, and over its photos.

    ``psnr`` is gain-corrected; ``photo_psnr`` is the same in the photos' own views.
    """

    psnr: float
    ssim: float
    photo_psnr: float
    closer_alpha: float
    """Mean alpha of the targets at ``SCALE`` times the size."""


@dataclass(frozen=True)
class Result:
    """One run on one scene."""

    run: str
    scene: str
    quality: Quality
    network_seconds: float
    """Of matching and predicting."""
    seconds: float
    """Of the refinement."""


def main(data: Path, output: Path, weights: str = "hisplat-small", threads: int = 1) -> None:
    """Measures all runs on all scenes, writes JSON after each, and prints a markdown table.

    Args:
        data: Folder of posed scenes.
        output: JSON file to write.
        weights: Of the network: a file or a bundled name.
        threads: Of torch and the renderer.
    """
    torch.set_num_threads(threads)
    pairs = prepare(PairOptions(data=data, output=output, size=SIZE))
    network = load_model(weights)
    results: list[Result] = []
    for run in RUNS:
        for pair in pairs:
            results.append(measured(network, pair, run))
            print(results[-1], flush=True)
        write(output, results, threads)
    print(table(results))


def measured(network: HiSplat, pair: Prepared, run: str) -> Result:
    """One run on one scene."""
    images, cameras = pair.example.context_images[None], pair.example.context_cameras[None]
    start = time.perf_counter()
    with torch.no_grad():
        scene = network(images, cameras).gaussians
    predicted = time.perf_counter()
    scene = refine(scene, images, cameras, network.create_renderer("cpu"), *RUNS[run])
    refined = time.perf_counter()
    return Result(run, pair.scene, quality(scene, pair), predicted - start, refined - predicted)


def quality(scene: Gaussians, pair: Prepared) -> Quality:
    """The scene beside targets and photos."""
    example = pair.example
    truth = example.target_images
    height, width = truth.shape[-2:]
    seen, _ = drawn(scene, example.target_cameras, (height, width))
    _, alpha = drawn(scene, example.target_cameras, (SCALE * height, SCALE * width))
    photos = example.context_images
    own, _ = drawn(scene, example.context_cameras, (photos.shape[-2], photos.shape[-1]))
    return Quality(
        psnr=gain_corrected_psnr(seen, truth).mean().item(),
        ssim=ssim(seen, truth).mean().item(),
        photo_psnr=gain_corrected_psnr(own, photos).mean().item(),
        closer_alpha=alpha.mean().item(),
    )


@torch.no_grad()
def drawn(scene: Gaussians, cameras: Cameras, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Colours in [0, 1] and alphas."""
    views = create_renderer("cpu")(scene, cameras[None], size)
    return views.color[0].clamp(0, 1), views.alpha[0]


def write(output: Path, results: Sequence[Result], threads: int) -> None:
    """All results so far."""
    document = {
        "machine": machine(),
        "threads": threads,
        "size": SIZE,
        "pairs": "first of each scene",
        "settings": {run: {"steps": s, **asdict(settings)} for run, (s, settings) in RUNS.items()},
        "results": [asdict(r) for r in results],
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def table(results: Sequence[Result]) -> str:
    """Gains over the scene as predicted: means, then per scene, as markdown."""
    before = {r.scene: r for r in results if r.run == "as predicted"}
    lines = [
        f"| run | PSNR | SSIM | photos' PSNR | alpha x{SCALE} | time | {' | '.join(before)} |",
        "| --- |" + " --- |" * (5 + len(before)),
    ]
    for run in list(RUNS)[1:]:
        rows = [r for r in results if r.run == run]
        pairs = [(r, before[r.scene]) for r in rows]
        gains = [r.quality.psnr - b.quality.psnr for r, b in pairs]
        cells = [
            f"{fmean(gains):+.2f}",
            f"{fmean(r.quality.ssim - b.quality.ssim for r, b in pairs):+.4f}",
            f"{fmean(r.quality.photo_psnr - b.quality.photo_psnr for r, b in pairs):+.2f}",
            f"{fmean(r.quality.closer_alpha for r in rows):.4f}",
            f"{sum(r.seconds for r in rows) / sum(r.network_seconds for r in rows):.1f}x",
            *(f"{gain:+.2f}" for gain in gains),
        ]
        lines.append(f"| {run} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    tyro.cli(main)
