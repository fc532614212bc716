"""How well a scene's verdict tells its quality: signs against views that were not photographed.

Every pair of every posed scene is reconstructed with stated and with estimated cameras (focal
length stated) and drawn at the cameras of its targets. Prints rank correlations with the
gain-corrected PSNR and a table by grade.

Usage: python benchmarks/verdicts.py --data DIR --output FILE.json
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean

import torch
import tyro
from scipy.stats import spearmanr

from hisplat_app.evaluation.estimated_cameras import PairRefused, estimate_cameras
from hisplat_app.evaluation.folders import find_folders
from hisplat_app.machine import machine
from hisplat_app.self_check import Signs, signs_of
from hisplat_app.verdict import verdict_of
from hisplat_data_tools.datasets import PosedFolderDataset, pair_name
from hisplat_models.cameras import Cameras
from hisplat_models.checkpoints import load_model
from hisplat_models.metrics import gain_corrected_psnr
from hisplat_models.network import HiSplat

SIZE = 384
GRADES = ("good", "usable", "poor")


@dataclass(frozen=True)
class Options:
    """Which photos."""

    data: Path
    """Folder of posed scenes."""
    output: Path | None = None
    """JSON file for the results; none is written by default."""
    pairs_per_scene: int | None = None
    """For a short run: only so many pairs of each scene."""


@dataclass(frozen=True)
class Result:
    """One scene: what was said of it and what it is; ``psnr`` is gain-corrected, mean of views."""

    scene: str
    pair: str
    cameras: str
    grade: str
    reasons: tuple[str, ...]
    signs: Signs
    psnr: float


@torch.no_grad()
def main(options: Options) -> None:
    """Measures, prints and writes."""
    network = load_model()
    results: list[Result] = []
    for folder in find_folders(options.data).posed:
        dataset = PosedFolderDataset(folder, SIZE, network.size_multiple)
        for index in range(len(dataset))[: options.pairs_per_scene]:
            for source, cameras in cameras_of(dataset, index):
                results.append(measured(network, dataset, index, source, cameras))
                print(json.dumps(asdict(results[-1])), flush=True)
    document = {
        "machine": machine(),
        "size": SIZE,
        "rank_correlation": correlations(results),
        "grades": grades(results),
        "results": [asdict(r) for r in results],
    }
    print(json.dumps({k: document[k] for k in ("rank_correlation", "grades")}, indent=1))
    if options.output is not None:
        options.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def cameras_of(dataset: PosedFolderDataset, index: int) -> Iterator[tuple[str, Cameras]]:
    """The stated cameras, and the estimated ones unless the pair is refused."""
    yield "given", dataset[index].context_cameras
    try:
        yield "estimated", estimate_cameras(dataset, index).cameras
    except PairRefused as refusal:
        print(f"{dataset.scene}/{index}: {refusal}")


def measured(
    network: HiSplat, dataset: PosedFolderDataset, index: int, source: str, cameras: Cameras
) -> Result:
    """One pair with one source of cameras."""
    example = dataset[index]
    renderer = network.create_renderer("cpu")
    output = network(example.context_images[None], cameras[None])
    signs = signs_of(output, example.context_images, cameras, renderer)
    verdict = verdict_of(signs, {}, len(example.context_images))
    size = (example.target_images.shape[-2], example.target_images.shape[-1])
    drawn = renderer(output.gaussians, example.target_cameras[None], size).color[0].clamp(0, 1)
    psnr = fmean(gain_corrected_psnr(drawn, example.target_images).tolist())
    name = pair_name(dataset.pairs[index])
    return Result(
        dataset.scene, name, source, verdict.grade, verdict.reasons, signs, round(psnr, 3)
    )


def correlations(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Spearman's rank correlation of each sign with the quality, by source of cameras."""
    found: dict[str, dict[str, float]] = {}
    for source in ("given", "estimated"):
        rows = [r for r in results if r.cameras == source]
        quality = [r.psnr for r in rows]
        found[source] = {
            f.name: round(float(spearmanr([getattr(r.signs, f.name) for r in rows], quality)[0]), 3)  # pyright: ignore[reportArgumentType]
            for f in fields(Signs)
        }
    return found


def grades(results: Sequence[Result]) -> dict[str, dict[str, float | int]]:
    """How many scenes got each grade, and their quality: mean, worst, best (dB)."""
    found: dict[str, dict[str, float | int]] = {}
    for grade in GRADES:
        values = [r.psnr for r in results if r.grade == grade]
        if values:
            found[grade] = {
                "scenes": len(values),
                "mean": round(fmean(values), 2),
                "worst": min(values),
                "best": max(values),
            }
    return found


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main(tyro.cli(Options, description=__doc__))
