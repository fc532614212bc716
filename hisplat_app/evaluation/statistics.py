"""From scores of single views to means over scenes, with what chance there is in them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from hisplat_models.metrics import gain_corrected_psnr, psnr, ssim

BOOTSTRAP_DRAWS = 10_000
HIGHEST_PSNR = 100.0
"""Equal images would have infinite PSNR, which no mean survives."""


@dataclass(frozen=True)
class Scores:
    """How close one view, or the mean of several, is to the photo.

    Attributes:
        psnr: dB, at most 100.
        gain_corrected_psnr: PSNR after one least-squares gain per colour channel, dB.
        ssim: Structural similarity, at most 1.
        coverage: Share of pixels with alpha above one half, in [0, 1].
        mean_alpha: In [0, 1].
        seen_psnr: PSNR on the part of the view that at least one photo sees; None if not known.
        seen_gain_corrected_psnr: The same after gain correction on that part.
        seen_ssim: The mean of the SSIM map on that part.
        seen_share: Share of the view that at least one photo sees.
    """

    psnr: float
    gain_corrected_psnr: float
    ssim: float
    coverage: float
    mean_alpha: float
    seen_psnr: float | None = None
    seen_gain_corrected_psnr: float | None = None
    seen_ssim: float | None = None
    seen_share: float | None = None


@dataclass(frozen=True)
class ViewScore:
    """The scores of one method at one target view."""

    scene: str
    pair: str
    target: str
    method: str
    scores: Scores


@dataclass(frozen=True)
class Interval:
    """A mean over scenes with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Wins:
    """On how many scenes (means of the views both methods drew) one method beats another."""

    scenes_won: int
    scenes: int
    views_won: int
    views: int
    mean_difference: float


def score_view(
    color: Float[Tensor, "3 height width"],
    alpha: Float[Tensor, "height width"],
    photo: Float[Tensor, "3 height width"],
    seen: Bool[Tensor, "height width"] | None,
) -> Scores:
    """All scores of one rendered view."""

    def decibels(value: Tensor) -> float:
        return min(value.item(), HIGHEST_PSNR)

    whole = Scores(
        psnr=decibels(psnr(color, photo)),
        gain_corrected_psnr=decibels(gain_corrected_psnr(color, photo)),
        ssim=ssim(color, photo).item(),
        coverage=(alpha > 0.5).float().mean().item(),
        mean_alpha=alpha.mean().item(),
    )
    if seen is None or not seen[5:-5, 5:-5].any():
        return whole
    return replace(
        whole,
        seen_psnr=decibels(psnr(color, photo, seen)),
        seen_gain_corrected_psnr=decibels(gain_corrected_psnr(color, photo, seen)),
        seen_ssim=ssim(color, photo, seen).item(),
        seen_share=seen.float().mean().item(),
    )


def mean_scores(scores: Iterable[Scores]) -> Scores:
    """The mean of each score over those that have it."""
    rows = list(scores)
    values: dict[str, float | None] = {}
    for field in fields(Scores):
        known = [v for row in rows if (v := getattr(row, field.name)) is not None]
        values[field.name] = math.fsum(known) / len(known) if known else None
    return Scores(**values)  # pyright: ignore[reportArgumentType]


def scene_means(views: Sequence[ViewScore], method: str) -> dict[str, Scores]:
    """The mean over each scene's target views, in order of first appearance."""
    scenes: dict[str, list[Scores]] = {}
    for view in views:
        if view.method == method:
            scenes.setdefault(view.scene, []).append(view.scores)
    return {scene: mean_scores(rows) for scene, rows in scenes.items()}


def bootstrap_interval(values: Sequence[float], seed: int) -> Interval:
    """Mean of one value per scene; the interval says how much other scenes would change it.

    Scenes are drawn with replacement 10 000 times; low and high are the 2.5 % and 97.5 % quantiles
    of the means.

    Raises:
        ValueError: if there is no value.
    """
    if not values:
        raise ValueError("Expected at least one value, got none.")
    table = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(0, len(table), (BOOTSTRAP_DRAWS, len(table)))
    low, high = np.quantile(table[draws].mean(axis=1), [0.025, 0.975])
    return Interval(float(table.mean()), float(low), float(high))


def wins_over(views: Sequence[ViewScore], method: str, rival: str) -> Wins | None:
    """Comparison by gain-corrected PSNR, None if they share no view."""

    def table(name: str) -> dict[tuple[str, str, str], float]:
        return {
            (v.scene, v.pair, v.target): v.scores.gain_corrected_psnr
            for v in views
            if v.method == name
        }

    ours, theirs = table(method), table(rival)
    shared = [key for key in ours if key in theirs]
    if not shared:
        return None
    differences: dict[str, list[float]] = {}
    for key in shared:
        differences.setdefault(key[0], []).append(ours[key] - theirs[key])
    scenes = [math.fsum(rows) / len(rows) for rows in differences.values()]
    return Wins(
        scenes_won=sum(d > 0 for d in scenes),
        scenes=len(scenes),
        views_won=sum(ours[key] > theirs[key] for key in shared),
        views=len(shared),
        mean_difference=math.fsum(scenes) / len(scenes),
    )
