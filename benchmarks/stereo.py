"""Disparity of the matcher beside OpenCV's StereoSGBM, by kind of pixel, on pairs with a truth.

    python -m benchmarks.stereo [--data DIR [DIR]] [--made 24] [--output FILE.json]

Pairs of the given folders and made-up ones with exact disparity. StereoSGBM searches both ways and
is filled, as in ``hisplat evaluate``. Each pair is searched twice: over the range that its matches
tell, as there, and over that of the truth, which leaves the matching alone to be judged.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from torch.nn.functional import interpolate

from benchmarks.pixel_kinds import KINDS, is_flat, pixel_kinds
from hisplat_app.evaluation.disparity import sgbm_disparity
from hisplat_app.evaluation.folders import find_folders
from hisplat_app.evaluation.networks import UNTRAINED_PRESET
from hisplat_app.evaluation.pair_range import disparity_range
from hisplat_app.machine import machine
from hisplat_data_tools.datasets import StereoFolder, read_stereo_folder
from hisplat_data_tools.images import working_size
from hisplat_data_tools.procedural.stereo_pairs import StereoSettings, make_stereo_pair
from hisplat_models.cameras import Cameras
from hisplat_models.config import PRESETS
from hisplat_models.matching import MatchingSettings, match_views

METHODS = ("sgbm", "matching")
TRUTH_MARGIN = 1.1
"""Factor by which the range of the truth is wider than the truth, at either end."""
MADE = "made_"
"""How names of made-up pairs begin."""

Scores = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Options:
    """Which pairs."""

    data: tuple[Path, ...] = ()
    """Stereo folders, or folders of such; others in them are passed over."""
    made: int = 24
    """Number of made-up pairs."""
    seed: int = 0
    """Chooses them."""
    most_flat: float = 0.15
    """Made-up pairs with a larger share of pixels without texture are passed over: on these
    neither method does more than guess."""
    output: Path | None = None
    """JSON file for the results; none is written by default."""
    stereo: StereoSettings = field(default_factory=StereoSettings)
    """What the made-up pairs are like."""
    matching: MatchingSettings = field(default_factory=MatchingSettings)
    """Constants of the matcher."""


def matched_disparity(
    pair: StereoFolder, lowest: float, highest: float, settings: MatchingSettings
) -> np.ndarray:
    """The matcher's disparity of the left photo, as ``hisplat evaluate`` asks for it."""
    height, width = pair.size
    size = working_size(width, height, max(pair.size), PRESETS[UNTRAINED_PRESET].size_multiple)
    images = interpolate(pair.images, size, mode="bilinear", antialias=True).clamp(0, 1)
    cameras = pair.cameras(pair.depth_of_disparity(highest), pair.depth_of_disparity(lowest))
    prior = match_views(images[None], Cameras.stack([cameras]), settings)
    disparity = pair.disparity_of_depth(1 / prior.inverse_depth[0, 0])
    return interpolate(disparity[None, None], pair.size, mode="nearest-exact")[0, 0].numpy()


def pairs(options: Options) -> Iterator[StereoFolder]:
    """Those of the folders, then the made-up ones."""
    for data in options.data:
        for folder in find_folders(data).stereo:
            yield read_stereo_folder(folder)
    index = made = 0
    while made < options.made:
        rng = np.random.default_rng([options.seed, index])
        pair = make_stereo_pair(rng, options.stereo, f"{MADE}{index}")
        index += 1
        if is_flat(pair).mean() <= options.most_flat:
            made += 1
            yield pair


def truth_range(pair: StereoFolder) -> tuple[float, float]:
    """Lowest and highest true disparity with a margin, in pixels."""
    truth = pair.disparity[torch.isfinite(pair.disparity)] + pair.offset_px
    return (
        float(truth.min()) / TRUTH_MARGIN - pair.offset_px,
        float(truth.max()) * TRUTH_MARGIN - pair.offset_px,
    )


SEARCHES = {"matches": disparity_range, "truth": truth_range}


def measure(pair: StereoFolder, lowest: float, highest: float, options: Options) -> Scores:
    """Errors of both methods in percent (points of all pixels where by kind), and kinds' shares."""
    kinds, truth = pixel_kinds(pair, lowest, highest), pair.disparity.numpy()
    known = kinds >= 0
    scores = {"share": {k: 100 * float((kinds[known] == i).mean()) for i, k in enumerate(KINDS)}}
    for method in METHODS:
        start = time.process_time()
        if method == "sgbm":
            found = sgbm_disparity(pair, lowest, highest).numpy()
        else:
            found = matched_disparity(pair, lowest, highest, options.matching)
        seconds = time.process_time() - start
        error = np.abs(found - truth)[known]
        bad = error > 1
        scores[method] = {
            "bad_1": 100 * float(bad.mean()),
            "bad_2": 100 * float((error > 2).mean()),
            "end_point": float(error.mean()),
            **{k: 100 * float((bad & (kinds[known] == i)).mean()) for i, k in enumerate(KINDS)},
            "seconds": seconds,
        }
    return scores


def mean(scores: list[Scores]) -> Scores:
    """Plain mean over pairs."""
    first = scores[0]
    return {
        part: {name: float(np.mean([s[part][name] for s in scores])) for name in first[part]}
        for part in first
    }


def main(options: Options) -> None:
    """Prints two lines a pair and search, then the means, and writes all."""
    torch.set_num_threads(1)
    compile_kernels(options)
    results: dict[str, dict[str, Scores]] = {name: {} for name in SEARCHES}
    for pair in pairs(options):
        for name, search in SEARCHES.items():
            try:
                lowest, highest = search(pair)
            except ValueError as error:
                print(f"{pair.name}: {error}")
                continue
            results[name][pair.name] = measure(pair, lowest, highest, options)
            show(f"{pair.name}, {name}", results[name][pair.name])
    means = {name: means_by_origin(scores) for name, scores in results.items()}
    for name, by_origin in means.items():
        for origin, scores in by_origin.items():
            show(f"mean {origin}, {name}", scores)
    if options.output is not None:
        document = {
            "machine": machine(),
            "seed": options.seed,
            "most_flat": options.most_flat,
            "stereo": asdict(options.stereo),
            "mean": means,
            "pairs": results,
        }
        options.output.write_text(json.dumps(_rounded(document), indent=1) + "\n", encoding="utf-8")


def compile_kernels(options: Options) -> None:
    """Runs the matcher once, so that no pair pays for its kernels."""
    size = replace(options.stereo, height=64, width=96, samples_per_pixel=1, texture_size=64)
    pair = make_stereo_pair(np.random.default_rng(options.seed), size, "small")
    matched_disparity(pair, *truth_range(pair), options.matching)


def means_by_origin(scores: dict[str, Scores]) -> dict[str, Scores]:
    """Means over the given pairs and over those made up."""
    made = [s for name, s in scores.items() if name.startswith(MADE)]
    given = [s for name, s in scores.items() if not name.startswith(MADE)]
    return {origin: mean(part) for origin, part in (("given", given), ("made", made)) if part}


def show(name: str, scores: Scores) -> None:
    """One line for each method: its errors, and what each kind of pixel contributes to bad-1."""
    for method in METHODS:
        row = scores[method]
        by_kind = " ".join(f"{kind} {row[kind]:5.2f}" for kind in KINDS)
        print(
            f"{name:26} {method:8} bad-1 {row['bad_1']:5.2f} bad-2 {row['bad_2']:5.2f} "
            f"EPE {row['end_point']:6.3f}  {by_kind}  {row['seconds']:4.1f} s",
            flush=True,
        )


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return round(value, 3) if isinstance(value, float) else value


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
