"""Matching of large photos: searched at half their size, brought to full size pixel by pixel.

The search's memory and time grow with pixels times planes, and so with the cube of the size; at
half the size they take an eighth. Where edges run at full size the photo tells: every pixel takes
after the one of half the size around it whose colour is most like its own. Made-up photos of
1280x960 come out better so than searched whole, where windows and penalties chosen at a third of
the size see too little (docs/matching.md).
"""

from dataclasses import replace

import numpy as np

from ..compilation import kernel
from .consistency import consistency_error
from .cpu_backend import add_visibility, matched
from .filling import distance_to_trusted
from .geometry import Sweep
from .prior import CANDIDATE_NAMES
from .settings import MatchingSettings


def match_large_scene(
    images: np.ndarray, sweeps: list[Sweep], settings: MatchingSettings, threads: int
) -> list[dict[str, np.ndarray]]:
    """Maps of each view of one scene, as of ``match_scene``.

    Takes a quarter of the memory per pixel and plane.

    Args:
        images: (V, 3, H, W) in [0, 1], sides multiples of 16.
        sweeps: One per view, for this size; their planes are those that half the size needs.
        settings: Constants.
        threads: Views handled at a time.
    """
    halves = [_halved(sweep) for sweep in sweeps]
    small = images.reshape(*images.shape[:2], images.shape[2] // 2, 2, -1, 2).mean((3, 5))
    found = matched(small, halves, settings, threads)
    photos = [np.ascontiguousarray(image.transpose(1, 2, 0)) for image in images]
    smaller = [np.ascontiguousarray(image.transpose(1, 2, 0)) for image in small]
    results = [
        _doubled(maps, photo, half)
        for maps, photo, half in zip(found, photos, smaller, strict=True)
    ]
    choices = [result["choice"] for result in results]
    for view, result in enumerate(results):
        error = consistency_error(view, choices, sweeps, settings)
        result["trusted"] &= error <= settings.tolerance_px
        result["error"] = np.where(result["trusted"], error, settings.max_consistency_px)
        result["trusted_distance"] = 1 - np.exp(-distance_to_trusted(result["trusted"]) / 16)
        result["candidates"][CANDIDATE_NAMES.index("choice")] = choices[view]
    add_visibility(results, photos, sweeps, settings)
    return results


def _halved(sweep: Sweep) -> Sweep:
    """The sweep between photos of half the size."""
    half = np.diag([0.5, 0.5, 1.0]).astype(np.float32)
    twice = np.diag([2.0, 2.0, 1.0, 1.0]).astype(np.float32)
    transfers = tuple(replace(t, matrix=half @ t.matrix @ twice) for t in sweep.transfers)
    return replace(sweep, step_px=sweep.step_px / 2, transfers=transfers)


def _doubled(
    maps: dict[str, np.ndarray], photo: np.ndarray, small: np.ndarray
) -> dict[str, np.ndarray]:
    """One view's maps at twice the size; every pixel takes after the most alike one around it."""
    height, width = photo.shape[:2]
    source = np.empty((height, width), np.int32)
    _find_sources(photo, small, source)

    def taken(map_: np.ndarray) -> np.ndarray:
        flat = map_.reshape(*map_.shape[:-2], -1)
        return np.take(flat, source, axis=-1)

    result = {
        name: taken(maps[name])
        for name in ("trusted", "candidates", "candidate_cost", "sharpness", "second_pass")
    }
    result["choice"] = np.empty((height, width), np.float32)
    _interpolate(maps["choice"], maps["trusted"], source, result["choice"])
    result["coarse_cost"] = maps["coarse_cost"].repeat(2, axis=1).repeat(2, axis=2)
    return result


@kernel
def _find_sources(photo, small, source):
    """Flat index of the most alike of the nine pixels of half the size around each pixel.

    The one that covers it is taken unless another is clearly more like it.
    """
    height, width = source.shape
    rows, columns = small.shape[:2]
    for y in range(height):
        for x in range(width):
            cy, cx = y // 2, x // 2
            lowest = np.float32(1e9)
            for dy in range(-1, 2):
                for dx in range(-1, 2):
                    i, j = cy + dy, cx + dx
                    if not (0 <= i < rows and 0 <= j < columns):
                        continue
                    off = abs(2 * i + 0.5 - y) + abs(2 * j + 0.5 - x)
                    difference = np.float32(0.01 * off)
                    for c in range(3):
                        difference += abs(photo[y, x, c] - small[i, j, c])
                    if difference < lowest:
                        lowest = difference
                        source[y, x] = i * columns + j


@kernel
def _interpolate(plane, trusted, source, out):
    """Bilinear among the pixels of half the size that continue the source's surface."""
    height, width = out.shape
    rows, columns = plane.shape
    for y in range(height):
        for x in range(width):
            own = source[y, x]
            i0, j0 = own // columns, own % columns
            level, sure = plane[i0, j0], trusted[i0, j0]
            v, u = np.float32(0.5 * y - 0.25), np.float32(0.5 * x - 0.25)
            total, weight_sum = np.float32(1e-3) * level, np.float32(1e-3)
            top, left = int(np.floor(v)), int(np.floor(u))
            for i in range(max(top, 0), min(top + 2, rows)):
                for j in range(max(left, 0), min(left + 2, columns)):
                    if trusted[i, j] != sure or abs(plane[i, j] - level) > np.float32(1.5):
                        continue
                    weight = (1 - abs(v - i)) * (1 - abs(u - j))
                    total += weight * plane[i, j]
                    weight_sum += weight
            out[y, x] = total / weight_sum
