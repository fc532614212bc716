"""Means over scenes, as a JSON summary and as a table."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hisplat_data_tools.atomic_write import write_atomically

from ..machine import machine
from .report import versions
from .scene_log import SceneScore

DEFINITIONS = {
    "psnr": "-10 log10 of the mean squared error over pixels and colours, render clipped to "
    "[0, 1]; at most 100 dB",
    "ssim": "scikit-image's structural_similarity with win_size=11, gaussian_weights=True, "
    "data_range=1 and its other defaults (sample covariance), mean over colour channels; the "
    "render is not clipped",
    "lpips": "LPIPS version 0.1 with VGG-16, images scaled to [-1, 1] (normalize=True); the render "
    "is not clipped",
    "mean": "over the target views of a scene, then over scenes",
    "standard_error": "standard deviation over scenes divided by the root of their number",
    "encoder_seconds": "from photos on the device to Gaussians, mean over scenes; the first scene "
    "of each run is computed once before anything is timed",
    "decoder_seconds": "from Gaussians to one target view, mean over the views of a scene, then "
    "over scenes",
    "peak_memory_mib": "highest over scenes while one was reconstructed and drawn: on a GPU of its "
    "tensors, else of the whole process, libraries and weights included",
}


@dataclass(frozen=True)
class Mean:
    """Over scenes."""

    mean: float
    standard_error: float | None


@dataclass(frozen=True)
class PaperReport:
    """Everything the summary says.

    Attributes:
        settings: How it was asked for.
        conditions: What the scores depend on.
        scores: Of all scenes measured, in order of the data.
        skipped: Scenes that cannot be used, with the reason.
        left_out: For each reason known beforehand, how many scenes have it.
        beyond_limit: Scenes that --limit left out.
        lpips_obstacle: Why there is no LPIPS; None if there is.
    """

    settings: dict[str, Any]
    conditions: dict[str, Any]
    scores: Sequence[SceneScore]
    skipped: dict[str, str]
    left_out: dict[str, int]
    beyond_limit: int
    lpips_obstacle: str | None

    def means(self) -> dict[str, Mean | None]:
        """Each score's mean over scenes; None for LPIPS if it was not computed."""
        columns = {"psnr": [], "ssim": [], "lpips": []}
        for score in self.scores:
            for name, values in columns.items():
                views = getattr(score, name)
                if views is not None:
                    values.append(math.fsum(views) / len(views))
        return {name: mean_of(values) for name, values in columns.items()}

    def document(self) -> dict[str, Any]:
        """The summary as plain JSON values."""
        encoder = mean_of([s.encoder_seconds for s in self.scores])
        decoder = mean_of([s.decoder_seconds for s in self.scores])
        peaks = [s.peak_memory_mib for s in self.scores if s.peak_memory_mib is not None]
        return {
            "settings": self.settings,
            "conditions": self.conditions,
            "versions": versions(),
            "machine": machine(),
            "definitions": DEFINITIONS,
            "scores": {k: v and asdict(v) for k, v in self.means().items()},
            "lpips_not_computed": self.lpips_obstacle,
            "encoder_seconds": encoder and encoder.mean,
            "decoder_seconds": decoder and decoder.mean,
            "peak_memory_mib": max(peaks, default=None),
            "gaussians": max((s.gaussians for s in self.scores), default=None),
            "scenes": {
                "measured": len(self.scores),
                "skipped": self.skipped,
                "left_out": self.left_out,
                "beyond_limit": self.beyond_limit,
            },
        }


def mean_of(values: Sequence[float]) -> Mean | None:
    """Mean and standard error; None of nothing."""
    if not values:
        return None
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Mean(mean, None)
    variance = math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)
    return Mean(mean, math.sqrt(variance / len(values)))


def write_report(path: Path, report: PaperReport) -> None:
    """Writes the summary."""
    text = json.dumps(report.document(), indent=1, allow_nan=False) + "\n"
    write_atomically(path, text.encode())


def show_report(console: Console, report: PaperReport) -> None:
    """Prints the summary and what is missing from it."""
    document, means = report.document(), report.means()
    conditions = report.conditions
    table = Table(
        title=f"{report.settings['model']} on {conditions['dataset']}, "
        f"{conditions['width']}x{conditions['height']}, {conditions['precision']}",
        title_justify="left",
    )
    names = ("scenes", "PSNR", "SSIM", "LPIPS", "encoder s", "decoder s/view", "peak MiB")
    for name in names:
        table.add_column(name, justify="right")
    table.add_row(
        str(len(report.scores)),
        _number(means["psnr"] and means["psnr"].mean, 2),
        _number(means["ssim"] and means["ssim"].mean, 4),
        _number(means["lpips"] and means["lpips"].mean, 4),
        _number(document["encoder_seconds"], 3),
        _number(document["decoder_seconds"], 4),
        _number(document["peak_memory_mib"], 0),
    )
    console.print(table)
    for line in notes(report):
        console.print(line, markup=False)


def notes(report: PaperReport) -> list[str]:
    """One line for everything the means lack."""
    lines = []
    if report.lpips_obstacle is not None:
        lines.append(f"LPIPS not computed: {report.lpips_obstacle}")
    lines += [f"{count} scenes left out: {reason}." for reason, count in report.left_out.items()]
    if report.beyond_limit:
        lines.append(f"{report.beyond_limit} scenes left out by --limit.")
    lines += [f"Skipped {scene}: {reason}" for scene, reason in report.skipped.items()]
    return lines


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
