"""Disparity of the matcher beside OpenCV's StereoSGBM, by kind of pixel, on pairs with a truth.

    python benchmarks/stereo.py [--data DIR [DIR]] [--made 24] [--output FILE.json]

Pairs of the given folders and made-up ones with exact disparity, all as ``hisplat evaluate``
measures them: the range comes from matches, StereoSGBM searches both ways and is filled.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
import tyro
from torch.nn.functional import interpolate

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

EDGE_PX = 4
"""Visible pixels this close to a jump of the true disparity are edge pixels."""
JUMP_PX = 1.5
"""Difference of neighbours' true disparity that is a jump, beyond what a slant makes of it."""
FLAT_LEVELS = 2.0
"""Standard deviation (0-255) in 9x9 pixels below which a pixel counts as without texture."""
SLANT = 0.1
"""Change of the true disparity a pixel from which a pixel counts as slanted."""
MOST_FLAT = 0.15
"""Made-up pairs with a larger share of such pixels say little about matching and are left out."""
KINDS = ("beyond", "hidden", "edge", "flat", "slanted", "other")
"""Beyond the range that is searched; hidden from the right photo; and visible ones."""
METHODS = ("sgbm", "matching")


@dataclass(frozen=True)
class Options:
    """Which pairs."""

    data: tuple[Path, ...] = ()
    """Stereo folders, or folders of such; others in them are passed over."""
    made: int = 24
    """Number of made-up pairs."""
    seed: int = 0
    """Chooses them."""
    output: Path | None = None
    """JSON file for the results; none is written by default."""
    stereo: StereoSettings = field(default_factory=StereoSettings)
    """What the made-up pairs are like."""
    matching: MatchingSettings = field(default_factory=MatchingSettings)
    """Constants of the matcher."""


def pixel_kinds(pair: StereoFolder, lowest: float, highest: float) -> np.ndarray:
    """(H, W) index into KINDS; -1 where the truth is unknown. The range is the searched one."""
    truth = pair.disparity.numpy()
    known = np.isfinite(truth)
    filled = np.where(known, truth, -np.inf)
    jumps = _jumps(truth)
    reach = np.ones((2 * EDGE_PX + 1, 2 * EDGE_PX + 1), np.uint8)
    near_edge = cv2.dilate(jumps.astype(np.uint8), reach) > 0
    kinds = np.full(truth.shape, KINDS.index("other"))
    kinds[_steepness(truth) > SLANT] = KINDS.index("slanted")
    kinds[_is_flat(pair)] = KINDS.index("flat")
    kinds[near_edge] = KINDS.index("edge")
    kinds[_hidden(filled)] = KINDS.index("hidden")
    kinds[(truth < lowest) | (truth > highest)] = KINDS.index("beyond")
    kinds[~known] = -1
    return kinds


def _is_flat(pair: StereoFolder) -> np.ndarray:
    """Pixels of the left photo without texture around them."""
    gray = (pair.images[0].mean(0).numpy() * 255).astype(np.float32)
    variance = cv2.blur(gray * gray, (9, 9)) - cv2.blur(gray, (9, 9)) ** 2
    return variance < FLAT_LEVELS**2


def _jumps(truth: np.ndarray) -> np.ndarray:
    """Pixels whose neighbour lies at another depth, a slant on either side allowed for."""
    jumps = np.zeros(truth.shape, bool)
    for axis in (0, 1):
        line = truth if axis else truth.T
        step = np.abs(np.diff(line, axis=1))
        slant = np.full(step.shape, np.inf)
        slant[:, 1:-1] = np.fmax(step[:, :-2], step[:, 2:])
        step = step - np.where(np.isfinite(slant), np.minimum(slant, step / 2), 0)
        found = np.zeros(line.shape, dtype=bool)
        found[:, 1:] = step > JUMP_PX
        found[:, :-1] |= step > JUMP_PX
        jumps |= found if axis else found.T
    return jumps


def _steepness(truth: np.ndarray) -> np.ndarray:
    """Change of disparity a pixel, over three pixels; 0 where unknown."""
    down, right = np.gradient(truth, axis=0), np.gradient(truth, axis=1)
    return np.nan_to_num(np.hypot(right, down))


def _hidden(truth: np.ndarray) -> np.ndarray:
    """Pixels that the right photo does not show: beyond its frame, or behind something nearer."""
    height, width = truth.shape
    rows, columns = np.arange(height)[:, None].repeat(width, 1), np.arange(width)
    known = np.isfinite(truth)
    target = np.where(known, columns - np.where(known, truth, 0), -1)
    column = np.rint(target).astype(int)
    inside = (column >= 0) & (column < width)
    nearest: np.ndarray = np.full(truth.shape, -np.inf, np.float32)
    np.maximum.at(nearest, (rows[inside], column[inside]), truth[inside])
    # Surfaces stretched in the right photo leave gaps of a pixel.
    nearest = np.maximum(nearest, cv2.morphologyEx(nearest, cv2.MORPH_CLOSE, np.ones((1, 3))))
    behind = nearest[rows, column.clip(0, width - 1)] > truth + 1.0
    return known & (~inside | behind)


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
        pair = make_stereo_pair(rng, options.stereo, f"made_{index}")
        index += 1
        if _is_flat(pair).mean() <= MOST_FLAT:
            made += 1
            yield pair


def measure(pair: StereoFolder, options: Options) -> dict[str, dict[str, float]]:
    """Errors of both methods in percent (points of all pixels where by kind), and kinds' shares."""
    lowest, highest = disparity_range(pair)
    kinds, truth = pixel_kinds(pair, lowest, highest), pair.disparity.numpy()
    known = kinds >= 0
    result = {"share": {k: 100 * float((kinds[known] == i).mean()) for i, k in enumerate(KINDS)}}
    for method in METHODS:
        start = time.process_time()
        if method == "sgbm":
            found = sgbm_disparity(pair, lowest, highest).numpy()
        else:
            found = matched_disparity(pair, lowest, highest, options.matching)
        seconds = time.process_time() - start
        error = np.abs(found - truth)[known]
        bad = error > 1
        result[method] = {
            "bad_1": 100 * float(bad.mean()),
            "bad_2": 100 * float((error > 2).mean()),
            "end_point": float(error.mean()),
            **{k: 100 * float((bad & (kinds[known] == i)).mean()) for i, k in enumerate(KINDS)},
            "seconds": seconds,
        }
    return result


def mean(results: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Plain mean over pairs."""
    first = results[0]
    return {
        part: {name: float(np.mean([r[part][name] for r in results])) for name in first[part]}
        for part in first
    }


def main(options: Options) -> None:
    """Prints a line a pair and the means, and writes all."""
    torch.set_num_threads(1)
    results: dict[str, dict[str, dict[str, float]]] = {}
    for pair in pairs(options):
        try:
            results[pair.name] = measure(pair, options)
        except ValueError as error:
            print(f"{pair.name}: {error}")
            continue
        show(pair.name, results[pair.name])
    means = {}
    for label in ("given", "made"):
        part = [r for name, r in results.items() if name.startswith("made_") == (label == "made")]
        if part:
            means[label] = mean(part)
    for label, values in means.items():
        show(f"mean of {label}", values)
    if options.output is not None:
        document = {
            "machine": machine(),
            "seed": options.seed,
            "stereo": asdict(options.stereo),
            "mean": means,
            "pairs": results,
        }
        options.output.write_text(json.dumps(_rounded(document), indent=1) + "\n", encoding="utf-8")


def show(name: str, result: dict[str, dict[str, float]]) -> None:
    """One line for each method: its errors, and what each kind of pixel contributes to bad-1."""
    for method in METHODS:
        row = result[method]
        by_kind = " ".join(f"{kind} {row[kind]:5.2f}" for kind in KINDS)
        print(
            f"{name:18} {method:8} bad-1 {row['bad_1']:5.2f} bad-2 {row['bad_2']:5.2f} "
            f"EPE {row['end_point']:6.3f}  {by_kind}  {row['seconds']:4.1f} s",
            flush=True,
        )


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return round(value, 3) if isinstance(value, float) else value


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
