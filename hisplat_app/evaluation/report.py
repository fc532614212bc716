"""The results as JSON, as tables on the console, and as a page."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import cv2
import numba
import numpy as np
import torch
from rich.console import Console
from rich.table import Table as RichTable

from hisplat_data_tools.atomic_write import write_atomically

from .. import __version__
from ..machine import machine
from .contact_sheet import PairSheet, Table, page
from .disparity import DisparityResult
from .scenes import CameraSource, PairResult
from .statistics import Scores, ViewScore, bootstrap_interval, mean_scores, scene_means, wins_over

RIVAL = "untrained"
FURTHER_VIEWS = ("left_aligned", "closer")
"""Fields of a PairResult that hold views of the same scene, drawn otherwise."""

DEFINITIONS = {
    "psnr": "-10 log10 of the mean squared error over pixels and colours of the render clamped to "
    "[0, 1] against the photo area-resized to the target size; at most 100 dB",
    "gain_corrected_psnr": "PSNR after multiplying each colour channel of the render by "
    "sum(render * photo) / sum(render^2) and clamping to [0, 1]",
    "ssim": "mean structural similarity, 11x11 Gaussian window of sigma 1.5, data range 1, mean "
    "over colour channels",
    "coverage": "share of pixels whose alpha is above 0.5",
    "mean_alpha": "mean of alpha over pixels",
    "seen_*": "the same on the pixels that at least one photo sees: the surface of the untrained "
    "preset's scene there lies in the frame of a photo and is not more than 5 % behind the "
    "surface that this scene shows the photo; one mask for all methods",
    "mean": "over the targets of a scene, then over scenes; intervals are 95 % bootstrap over "
    "scenes (10 000 draws)",
    "nearest": "the photo of the nearer camera, copied",
    "plane": "both photos warped by the homographies of one plane that faces the mean viewing "
    "direction at the median depth of the triangulated matches, averaged where both show",
    "sgbm": "rectification, OpenCV StereoSGBM (HH) in both directions, agreement within 1 px, "
    "disagreeing pixels filled along the rectified row from the farther neighbour, one Gaussian "
    "a pixel and photo (sigma 0.6 px, opacity 0.95 agreed, 0.3 filled); pairs that cannot be "
    "rectified are listed under failures and left out of its means",
    "untrained": "the hisplat-small network before training: the layered analytic scene",
    "model": "the given weights, their scenes fitted to the photos by --refine steps",
    "predicted": "the given weights without that",
    "estimated cameras": "the scene of the estimated cameras is laid over the stated one by the "
    "similarity under which the two photos' stated cameras see its matched points where the "
    "estimated ones see them (sum of robust distances on the planes z = 1); targets are not looked "
    "at and drawn with the stated cameras; refused pairs are counted and left out",
    "left_aligned": "the same laid over the stated one by the left camera alone (the rotation that "
    "best lays the left photo's rays over its stated ones) and the length of the baseline, so that "
    "half the error of the pose shows in a target between the photos",
    "closer": "the same scenes drawn and compared at --scale times the size of the targets",
    "disparity": "of the left photo at its stored resolution, over all pixels whose true "
    "disparity is known; sgbm is filled along the row; networks give the depth of the finest "
    "level's Gaussian of each pixel (before training: the classical matching prior)",
}


@dataclass(frozen=True)
class Evaluation:
    """Everything one run measured.

    Attributes:
        settings: How it was asked for.
        methods: Names in the order of the report.
        pairs: Per source of cameras, the result of each pair.
        disparities: Per stereo pair and method.
        skipped: Folders left out, with the reason.
    """

    settings: dict[str, Any]
    methods: list[str]
    seed: int
    pairs: dict[CameraSource, list[PairResult]] = field(default_factory=dict)
    disparities: list[DisparityResult] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def versions() -> dict[str, str]:
    """Of this program and of what its numbers depend on."""
    return {
        "hisplat-app": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "numba": numba.__version__,
    }


def document(evaluation: Evaluation) -> dict[str, Any]:
    """The whole evaluation as plain JSON values."""
    return {
        "settings": evaluation.settings,
        "versions": versions(),
        "machine": machine(),
        "definitions": DEFINITIONS,
        "skipped_folders": evaluation.skipped,
        "cameras": {
            source: _source_document(evaluation, source, results)
            for source, results in evaluation.pairs.items()
        },
        "stereo": _stereo_document(evaluation.disparities),
    }


def write_json(path: Path, evaluation: Evaluation) -> None:
    """Writes ``document`` of the evaluation."""
    text = json.dumps(document(evaluation), indent=1, allow_nan=False) + "\n"
    write_atomically(path, text.encode())


def write_page(path: Path, evaluation: Evaluation) -> None:
    """Writes one HTML page: the tables and the contact sheets of every pair."""
    sheets: list[PairSheet] = []
    for source, results in evaluation.pairs.items():
        sheets += [
            PairSheet(f"{r.sheet.title} ({source} cameras)", r.sheet.rows)
            for r in results
            if r.sheet is not None
        ]
    write_atomically(path, page("hisplat evaluate", tables(evaluation), sheets).encode())


def show(console: Console, evaluation: Evaluation) -> None:
    """Prints all tables and what could not be evaluated."""
    for table in tables(evaluation):
        shown = RichTable(title=table.title, title_justify="left")
        for i, name in enumerate(table.header):
            shown.add_column(name, justify="left" if i == 0 else "right")
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
    for note in notes(evaluation):
        console.print(note, markup=False)


def notes(evaluation: Evaluation) -> list[str]:
    """One line for each pair or folder that is missing from the means."""
    lines = [f"Skipped {name}: {reason}." for name, reason in evaluation.skipped.items()]
    for source, results in evaluation.pairs.items():
        for r in results:
            where = f"{r.scene}/{r.pair} ({source} cameras)"
            if r.refused is not None:
                lines.append(f"Refused {where}: {r.refused}")
            lines += [f"{name} failed on {where}: {why}." for name, why in r.failures.items()]
    return lines


def tables(evaluation: Evaluation) -> list[Table]:
    """The results as texts: means and scenes per source of cameras, then disparities."""
    made: list[Table] = []
    for source, results in evaluation.pairs.items():
        refused = sum(r.refused is not None for r in results)
        title = f"{source} cameras: {len(results)} pairs, {refused} refused; mean over scenes"
        views = [v for r in results for v in r.views]
        made.append(_means_table(evaluation, title, views))
        made.append(_scenes_table(evaluation, source, results))
        for name in FURTHER_VIEWS:
            views = [v for r in results for v in getattr(r, name)]
            if views:
                title = f"{source} cameras, {name.replace('_', ' ')}; mean over scenes"
                made.append(_means_table(evaluation, title, views))
    if evaluation.disparities:
        made.append(_disparity_table(evaluation.disparities))
    return made


def _means_table(evaluation: Evaluation, title: str, views: Sequence[ViewScore]) -> Table:
    rows: list[list[str]] = []
    for method in evaluation.methods:
        scenes = scene_means(views, method)
        if not scenes:
            continue
        mean = mean_scores(scenes.values())
        gain = bootstrap_interval([s.gain_corrected_psnr for s in scenes.values()], evaluation.seed)
        wins = wins_over(views, method, RIVAL) if method != RIVAL else None
        rows.append(
            [
                method,
                f"{mean.psnr:.2f}",
                f"{mean.gain_corrected_psnr:.2f} [{gain.low:.2f}, {gain.high:.2f}]",
                f"{mean.ssim:.3f}",
                f"{mean.coverage:.3f}",
                f"{mean.mean_alpha:.3f}",
                _number(mean.seen_gain_corrected_psnr, 2),
                _number(mean.seen_ssim, 3),
                "" if wins is None else f"{wins.scenes_won}/{wins.scenes}",
                "" if wins is None else f"{wins.views_won}/{wins.views}",
            ]
        )
    header = [
        "method", "PSNR", "gain-corrected [95 %]", "SSIM", "coverage", "alpha", "seen gain-corr.",
        "seen SSIM", f"scenes above {RIVAL}", "views above",
    ]  # fmt: skip
    return Table(title, header, rows)


def _scenes_table(
    evaluation: Evaluation, source: CameraSource, results: Sequence[PairResult]
) -> Table:
    views = [v for r in results for v in r.views]
    per_method = {m: scene_means(views, m) for m in evaluation.methods}
    shown = [m for m, scenes in per_method.items() if scenes]
    rows = [
        [scene]
        + [
            f"{s.gain_corrected_psnr:.2f} / {s.ssim:.3f}" if (s := per_method[m].get(scene)) else ""
            for m in shown
        ]
        for scene in dict.fromkeys(r.scene for r in results)
    ]
    return Table(f"{source} cameras: gain-corrected PSNR / SSIM per scene", ["scene", *shown], rows)


def _disparity_table(results: Sequence[DisparityResult]) -> Table:
    methods = list(dict.fromkeys(m for r in results for m in r.errors))
    rows: list[list[str]] = []
    for result in results:
        rows.append([result.name, *(_errors(result, m) for m in methods)])
    mean = _stereo_document(results)["mean"]
    rows.append(["mean", *(_errors_text(mean[m]) for m in methods)])
    return Table("disparity: end-point error px / bad-1 % / bad-2 %", ["pair", *methods], rows)


def _errors(result: DisparityResult, method: str) -> str:
    return _errors_text(asdict(result.errors[method])) if method in result.errors else "failed"


def _errors_text(errors: Mapping[str, float]) -> str:
    return f"{errors['end_point']:.2f} / {100 * errors['bad_1']:.1f} / {100 * errors['bad_2']:.1f}"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _source_document(
    evaluation: Evaluation, source: CameraSource, results: Sequence[PairResult]
) -> dict[str, Any]:
    views, seed = [v for r in results for v in r.views], evaluation.seed
    methods = {}
    for method in evaluation.methods:
        means = _means_document(views, method, seed)
        if means is None:
            continue
        wins = wins_over(views, method, RIVAL) if method != RIVAL else None
        methods[method] = {
            **means,
            **{
                name: _means_document([v for r in results for v in getattr(r, name)], method, seed)
                for name in FURTHER_VIEWS
            },
            f"against_{RIVAL}": None if wins is None else asdict(wins),
            "failed_pairs": sum(method in r.failures for r in results),
            "mean_seconds": _mean([r.seconds[method] for r in results if method in r.seconds]),
        }
    return {
        "methods": methods,
        "pairs": len(results),
        "refused_pairs": sum(r.refused is not None for r in results),
        "gap_to_given": _gap_to_given(evaluation) if source == "estimated" else None,
        "details": [_pair_document(r) for r in results],
    }


def _means_document(views: Sequence[ViewScore], method: str, seed: int) -> dict[str, Any] | None:
    """Mean over scenes with its intervals, and each scene; None without any view."""
    scenes = scene_means(views, method)
    if not scenes:
        return None
    return {
        "mean": _intervals(list(scenes.values()), seed),
        "scenes": {scene: asdict(scores) for scene, scores in scenes.items()},
    }


def _pair_document(result: PairResult) -> dict[str, Any]:
    targets: dict[str, dict[str, Any]] = {}
    for view in result.views:
        targets.setdefault(view.target, {})[view.method] = asdict(view.scores)
    methods = dict.fromkeys(v.method for v in result.views)
    means = {
        m: asdict(mean_scores(v.scores for v in result.views if v.method == m)) for m in methods
    }
    estimate = result.estimate
    return {
        "scene": result.scene,
        "pair": result.pair,
        "refused": result.refused,
        "failures": result.failures,
        "estimate": None
        if estimate is None
        else {
            "rotation_error_deg": estimate.rotation_error_deg,
            "direction_error_deg": estimate.direction_error_deg,
            "warnings": list(estimate.warnings),
        },
        "seconds": result.seconds,
        "mean": means,
        "targets": targets,
    }


def _gap_to_given(evaluation: Evaluation) -> dict[str, Any] | None:
    """Gain-corrected PSNR lost by estimating the cameras, on the pairs that were not refused."""
    if "given" not in evaluation.pairs:
        return None
    estimated = [v for r in evaluation.pairs["estimated"] for v in r.views]
    drawn = {(v.scene, v.pair) for v in estimated}
    given = [v for r in evaluation.pairs["given"] for v in r.views if (v.scene, v.pair) in drawn]
    gaps = {}
    for method in evaluation.methods:
        ours, theirs = scene_means(estimated, method), scene_means(given, method)
        scenes = {
            s: theirs[s].gain_corrected_psnr - ours[s].gain_corrected_psnr
            for s in ours
            if s in theirs
        }
        if scenes:
            gaps[method] = {"mean": _mean(list(scenes.values())), "scenes": scenes}
    return gaps


def _intervals(scenes: Sequence[Scores], seed: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for item in fields(Scores):
        values = [v for s in scenes if (v := getattr(s, item.name)) is not None]
        result[item.name] = asdict(bootstrap_interval(values, seed)) if values else None
    return result


def _stereo_document(results: Sequence[DisparityResult]) -> dict[str, Any]:
    methods = list(dict.fromkeys(m for r in results for m in r.errors))
    mean = {}
    for method in methods:
        rows = [asdict(r.errors[method]) for r in results if method in r.errors]
        mean[method] = {key: _mean([row[key] for row in rows]) for key in rows[0]}
    return {"mean": mean, "pairs": [asdict(r) for r in results]}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
