"""How well a scene's verdict tells its quality: signs against views that were not photographed.

Every pair of every posed scene is reconstructed with stated and with estimated cameras (focal
length stated), refined, and drawn at the cameras of its targets. Prints rank correlations with
their gain-corrected PSNR, a table by grade, and what rules are worth when they are fitted to all
scenes but the one they are tried on.

Usage: python benchmarks/verdicts.py --data DIR --output FILE.json
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
import tyro
from scipy.stats import spearmanr

from hisplat_app.defaults import DEFAULT_REFINE
from hisplat_app.evaluation.estimated_cameras import PairRefused, estimate_cameras
from hisplat_app.evaluation.folders import find_folders
from hisplat_app.machine import machine
from hisplat_app.self_check import Signs, signs_of
from hisplat_app.verdict import GOOD_DB, USABLE_DB, Verdict, expected_psnr, verdict_of
from hisplat_data_tools.datasets import PosedFolderDataset, pair_name
from hisplat_models.cameras import Cameras
from hisplat_models.checkpoints import load_model
from hisplat_models.metrics import gain_corrected_psnr, ssim
from hisplat_models.network import HiSplat
from hisplat_models.refinement import refine

SIZE = 384
GRADES = ("good", "usable", "poor")
RULES = (
    ("cross_psnr",),
    ("cross_psnr", "mismatch"),
    ("cross_psnr", "overlap"),
    ("cross_psnr", "agreed"),
    ("cross_psnr", "unexplained"),
    ("cross_psnr", "mismatch", "overlap"),
    ("cross_psnr", "mismatch", "texture"),
    ("mismatch",),
)
"""Signs whose weighed sum, fitted to the scores, is tried as a rule."""


@dataclass(frozen=True)
class Options:
    """Which photos."""

    data: Path
    """Folder of posed scenes."""
    output: Path | None = None
    """JSON file for the results; none is written by default."""
    measured: Path | None = None
    """JSON lines, one a scene, that an interrupted run goes on with; none by default."""
    pairs_per_scene: int | None = None
    """For a short run: only so many pairs of each scene."""


@dataclass(frozen=True)
class Result:
    """One scene: what is known of it without its targets, and how well they are drawn.

    Attributes:
        scene: Name of the folder.
        pair: Name of the pair.
        cameras: "given" or "estimated".
        signs: Of the scene as predicted.
        camera_quality: Figures of estimated cameras.
        psnr: Gain-corrected, mean of the targets of the refined scene, dB.
        ssim: Likewise.
        predicted_psnr: Of the scene before refinement.
    """

    scene: str
    pair: str
    cameras: str
    signs: Signs
    camera_quality: dict[str, float]
    psnr: float
    ssim: float
    predicted_psnr: float

    @property
    def verdict(self) -> Verdict:
        """What the user is told."""
        return verdict_of(self.signs, self.camera_quality, photos=2)

    @property
    def deserved(self) -> str:
        """The grade by the targets themselves."""
        return graded(self.psnr)


def graded(psnr: float) -> str:
    """The grade that a PSNR stands for."""
    return "good" if psnr >= GOOD_DB else "usable" if psnr >= USABLE_DB else "poor"


def main(options: Options) -> None:
    """Measures, prints and writes."""
    network = load_model()
    results = read_results(options.measured)
    done = {(r.scene, r.pair, r.cameras) for r in results}
    for folder in find_folders(options.data).posed:
        dataset = PosedFolderDataset(folder, SIZE, network.size_multiple)
        for index in range(len(dataset))[: options.pairs_per_scene]:
            name = pair_name(dataset.pairs[index])
            for source in ("given", "estimated"):
                if (dataset.scene, name, source) in done:
                    continue
                cameras = cameras_of(dataset, index, source)
                if cameras is not None:
                    results.append(measured(network, dataset, index, source, *cameras))
                    write_result(options.measured, results[-1])
    document = {
        "machine": machine(),
        "size": SIZE,
        "rank_correlation": {s: correlations(of(results, s)) for s in ("given", "estimated")},
        "cross_validated": [cross_validated(results, rule) for rule in RULES],
        "grades": grades(results),
        "confusion": confusion(results),
        "results": [described(r) for r in results],
    }
    shown = ("rank_correlation", "cross_validated", "grades", "confusion")
    print(json.dumps({k: document[k] for k in shown}, indent=1))
    if options.output is not None:
        options.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read_results(path: Path | None) -> list[Result]:
    """What an earlier run has measured."""
    if path is None or not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Result(**{**row, "signs": Signs(**row["signs"])}) for row in rows]


def write_result(path: Path | None, result: Result) -> None:
    """Prints it and keeps it for a run that goes on."""
    line = json.dumps(asdict(result))
    print(line, flush=True)
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def cameras_of(
    dataset: PosedFolderDataset, index: int, source: str
) -> tuple[Cameras, dict[str, float]] | None:
    """The cameras and figures about their estimate; None if the pair is refused."""
    if source == "given":
        return dataset[index].context_cameras, {}
    try:
        estimate = estimate_cameras(dataset, index)
    except PairRefused as refusal:
        print(f"{dataset.scene}/{index}: {refusal}")
        return None
    return estimate.cameras, estimate.quality


def measured(
    network: HiSplat,
    dataset: PosedFolderDataset,
    index: int,
    source: str,
    cameras: Cameras,
    quality: dict[str, float],
) -> Result:
    """One pair with one source of cameras."""
    example = dataset[index]
    images, targets = example.context_images, example.target_images
    renderer = network.create_renderer("cpu")
    with torch.no_grad():
        output = network(images[None], cameras[None])
        signs = signs_of(output, images, cameras, renderer)
    refined = refine(output.gaussians, images[None], cameras[None], renderer, DEFAULT_REFINE)
    size = (targets.shape[-2], targets.shape[-1])
    with torch.no_grad():
        before, after = (
            renderer(scene, example.target_cameras[None], size).color[0].clamp(0, 1)
            for scene in (output.gaussians, refined)
        )
    return Result(
        dataset.scene,
        pair_name(dataset.pairs[index]),
        source,
        signs,
        quality,
        psnr=round(gain_corrected_psnr(after, targets).mean().item(), 3),
        ssim=round(ssim(after, targets).mean().item(), 4),
        predicted_psnr=round(gain_corrected_psnr(before, targets).mean().item(), 3),
    )


def of(results: Sequence[Result], source: str) -> list[Result]:
    """Those with one source of cameras."""
    return [r for r in results if r.cameras == source]


def rank(values: Sequence[float], others: Sequence[float]) -> float:
    """Spearman's rank correlation."""
    return round(float(spearmanr(values, others)[0]), 3)  # pyright: ignore[reportArgumentType]


def correlations(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Rank correlation of each sign with both scores of the targets."""
    names = (
        "cross_psnr",
        "mismatch",
        "overlap",
        "agreed",
        "unexplained",
        "parallax_deg",
        "texture",
    )
    values = {name: [getattr(r.signs, name) for r in results] for name in names}
    values["expected_psnr"] = [expected_psnr(r.signs) for r in results]
    scores = {"psnr": [r.psnr for r in results], "ssim": [r.ssim for r in results]}
    return {
        name: {score: rank(column, truth) for score, truth in scores.items()}
        for name, column in values.items()
    }


def cross_validated(results: Sequence[Result], signs: Sequence[str]) -> dict[str, object]:
    """A rule of these signs, fitted to all scenes but the one it is tried on."""
    columns = [[getattr(r.signs, name) for name in signs] for r in results]
    inputs = np.array([[1.0, *row] for row in columns])
    truth = np.array([r.psnr for r in results])
    scenes = np.array([r.scene for r in results])
    predicted = np.zeros(len(results))
    fits = {}
    for scene in sorted(set(scenes)):
        rest = scenes != scene
        fits[scene] = np.linalg.lstsq(inputs[rest], truth[rest], rcond=None)[0]
        predicted[~rest] = inputs[~rest] @ fits[scene]
    right = sum(graded(p) == r.deserved for p, r in zip(predicted, results, strict=True))
    return {
        "signs": signs,
        "rank_correlation": rank(predicted.tolist(), truth.tolist()),
        "mean_error_db": round(float(np.abs(predicted - truth).mean()), 2),
        "right_grades": right,
        "of": len(results),
        "weights": np.linalg.lstsq(inputs, truth, rcond=None)[0].round(2).tolist(),
        "weights_without": {scene: fit.round(2).tolist() for scene, fit in fits.items()},
    }


def grades(results: Sequence[Result]) -> dict[str, dict[str, float | int]]:
    """How many scenes got each grade, and their quality: mean, worst, best (dB), mean SSIM."""
    found: dict[str, dict[str, float | int]] = {}
    for grade in GRADES:
        rows = [r for r in results if r.verdict.grade == grade]
        if rows:
            found[grade] = {
                "scenes": len(rows),
                "mean": round(fmean(r.psnr for r in rows), 2),
                "worst": min(r.psnr for r in rows),
                "best": max(r.psnr for r in rows),
                "ssim": round(fmean(r.ssim for r in rows), 3),
            }
    return found


def confusion(results: Sequence[Result]) -> dict[str, dict[str, int]]:
    """How many scenes that deserve a grade (first key) were given which."""
    return {
        deserved: {
            grade: sum(r.deserved == deserved and r.verdict.grade == grade for r in results)
            for grade in GRADES
        }
        for deserved in GRADES
    }


def described(result: Result) -> dict[str, object]:
    """All about one scene."""
    return {
        **asdict(result),
        "expected_psnr": round(expected_psnr(result.signs), 2),
        "grade": result.verdict.grade,
        "reasons": result.verdict.reasons,
    }


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main(tyro.cli(Options, description=__doc__))
