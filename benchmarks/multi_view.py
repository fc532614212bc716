"""What a third and a fourth photo bring: quality, time, and how well their cameras are found.

For the first pair of every posed scene with enough photos: scenes of the pair alone and with the
nearest one and two further photos that are no target, given cameras, as predicted and refined. They
are drawn *between* the pair's photos (its targets) and *beyond* all photos (the two next-nearest
ones); scenes of the pair alone also where the further photos were taken (*next*). Besides, the
errors of the cameras found from the photos alone.

Usage: python benchmarks/multi_view.py --data DIR --output FILE.json
"""

import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
import tyro
from torch import Tensor

from hisplat_app.defaults import DEFAULT_REFINE
from hisplat_app.machine import machine
from hisplat_app.photo_cameras import at_working_size, find_photo_cameras
from hisplat_app.photo_overlap import without_repetition
from hisplat_data_tools.cameras_json import CameraFile, read_cameras, to_cameras
from hisplat_data_tools.images import load_photo
from hisplat_data_tools.two_view import TwoViewError
from hisplat_models.cameras import Cameras
from hisplat_models.checkpoints import load_model
from hisplat_models.gaussians import Gaussians
from hisplat_models.metrics import gain_corrected_psnr, ssim
from hisplat_models.network import HiSplat
from hisplat_models.refinement import refine
from hisplat_models.rendering import Renderer

SIZE = 384
COUNTS = (2, 3, 4)


@dataclass(frozen=True)
class Quality:
    """Means over some views; PSNR is gain-corrected.

    ``covered`` is the share of pixels on which the finest level alone is opaque.
    """

    psnr: float
    ssim: float
    covered: float


@dataclass(frozen=True)
class Result:
    """One scene from so many photos; errors in degrees, None where the cameras were refused.

    ``predicted`` and ``refined`` are qualities by kind of view. ``distance_error`` is that of the
    distances between cameras, as a share of them, after the best common scale.
    """

    scene: str
    photos: tuple[str, ...]
    views: dict[str, tuple[str, ...]]
    predicted: dict[str, Quality]
    refined: dict[str, Quality]
    network_seconds: float
    refinement_seconds: float
    gaussians: int
    rotation_deg: float | None
    distance_error: float | None
    camera_seconds: float


def main(data: Path, output: Path) -> None:
    """Measures all scenes, writes them as JSON and prints markdown tables.

    Args:
        data: Folder of posed scenes, each with photos and a cameras.json.
        output: JSON file to write.
    """
    network = load_model()
    results = []
    for path in sorted(data.glob("*/cameras.json")):
        file = read_cameras(path)
        if not file.pairs:
            continue
        pair = file.pairs[0]
        further = nearest(file, (pair.left, pair.right), pair.targets)
        views = {"between": pair.targets, "beyond": tuple(further[2:4])}
        for count in COUNTS:
            names = (pair.left, pair.right, *further[: count - 2])
            also = {"next": tuple(further[:2])} if count == 2 else {}
            results.append(measured(network, file, names, views | also))
            print(results[-1], flush=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "machine": machine(),
        "size": SIZE,
        "steps": DEFAULT_REFINE,
        "results": [asdict(r) for r in results],
    }
    output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(quality_table(results), beyond_table(results), camera_table(results), sep="\n\n")


def nearest(file: CameraFile, pair: tuple[str, str], targets: Sequence[str]) -> list[str]:
    """Photos that are neither of the pair nor targets, nearest to the middle of the pair first."""
    middle = sum(file.find(name).camera_to_world[:3, 3] for name in pair) / 2
    others = [i for i in file.images if i.file not in (*pair, *targets)]
    others.sort(key=lambda i: float(np.linalg.norm(i.camera_to_world[:3, 3] - middle)))
    return [image.file for image in others]


def measured(
    network: HiSplat, file: CameraFile, names: tuple[str, ...], views: dict[str, tuple[str, ...]]
) -> Result:
    """Quality with the stated cameras, and the errors of estimated ones."""
    targets = [name for kind in views.values() for name in kind]
    photos = [load_photo(file.path.parent / name) for name in (*names, *targets)]
    stated = file.depth_range(*names[:2])
    assert stated is not None
    cameras = to_cameras([file.find(name) for name in (*names, *targets)], *stated)
    images, seen = at_working_size(photos, cameras, SIZE, network.size_multiple)
    count = len(names)
    start = time.perf_counter()
    with torch.no_grad():
        made = network(images[None, :count], seen[None, :count])
    predicted = without_repetition(made, images[:count], seen[:count])
    middle = time.perf_counter()
    renderer = network.create_renderer("cpu")
    refined = refine(predicted, images[None, :count], seen[None, :count], renderer, DEFAULT_REFINE)
    end = time.perf_counter()
    rotation, distance, camera_seconds = camera_errors(photos[:count], cameras[:count])

    def qualities(scene: Gaussians) -> dict[str, Quality]:
        first, found = count, {}
        for kind, files in views.items():
            chosen = slice(first, first + len(files))
            found[kind] = quality(scene, images[chosen], seen[chosen], renderer)
            first += len(files)
        return found

    return Result(
        file.path.parent.name,
        names,
        views,
        qualities(predicted),
        qualities(refined),
        round(middle - start, 2),
        round(end - middle, 2),
        predicted.count,
        rotation,
        distance,
        camera_seconds,
    )


@torch.no_grad()
def quality(scene: Gaussians, truth: Tensor, cameras: Cameras, renderer: Renderer) -> Quality:
    """The scene (1, n) beside photos (view, 3, height, width)."""
    size = (truth.shape[-2], truth.shape[-1])
    drawn = renderer(scene, cameras[None], size).color[0].clamp(0, 1)
    finest = scene[:, scene.level[0] == scene.level.max()]
    covered = renderer(finest, cameras[None], size).alpha[0] > 0.5
    return Quality(
        round(gain_corrected_psnr(drawn, truth).mean().item(), 3),
        round(ssim(drawn, truth).mean().item(), 4),
        round(covered.float().mean().item(), 4),
    )


def camera_errors(photos, stated: Cameras) -> tuple[float | None, float | None, float]:
    """Largest error of a rotation, largest of a distance, and the seconds of the estimate."""
    start = time.perf_counter()
    try:
        found = find_photo_cameras(photos).cameras
    except TwoViewError:
        return None, None, round(time.perf_counter() - start, 2)
    seconds = round(time.perf_counter() - start, 2)
    turns = [
        (c.camera_to_world[0, :3, :3].mT @ c.camera_to_world[:, :3, :3]) for c in (found, stated)
    ]
    chords = (turns[0] - turns[1]).flatten(1).norm(dim=1) / math.sqrt(2)
    rotation = math.degrees(2 * math.asin(min(1.0, chords.max().item() / 2)))
    distances = [torch.pdist(c.positions) for c in (found, stated)]
    ratios = distances[0] / distances[1]
    return round(rotation, 3), round((ratios / ratios.mean() - 1).abs().max().item(), 4), seconds


def _by_count(results: Sequence[Result], count: int) -> list[Result]:
    return [r for r in results if len(r.photos) == count]


def quality_table(results: Sequence[Result]) -> str:
    """PSNR between the pair's photos and beyond all, by number of photos, as markdown."""
    kinds = [(kind, n) for kind in ("between", "beyond") for n in COUNTS]
    lines = [
        "| scene | " + " | ".join(f"{kind}, {n} photos" for kind, n in kinds) + " |",
        "| --- |" + " --- |" * len(kinds),
    ]
    columns = []
    for kind, n in kinds:
        rows = _by_count(results, n)
        pairs = [(r.predicted[kind].psnr, r.refined[kind].psnr) for r in rows]
        columns.append([*pairs, tuple(fmean(values) for values in zip(*pairs, strict=True))])
    scenes = [r.scene for r in _by_count(results, COUNTS[0])]
    for name, *cells in zip((*scenes, "mean"), *columns, strict=True):
        lines.append(f"| {name} | " + " | ".join(f"{a:.2f} → {b:.2f}" for a, b in cells) + " |")
    return "\n".join(lines)


def beyond_table(results: Sequence[Result]) -> str:
    """What refinement does by where a view is, and how much of it the finest level covers."""
    lines = [
        "| photos | views | as predicted | refined | scenes that gain | covered |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for count in COUNTS:
        rows = _by_count(results, count)
        for kind in rows[0].views:
            pairs = [(r.predicted[kind], r.refined[kind]) for r in rows]
            before, after = (
                f"{fmean(q.psnr for q in side):.2f} / {fmean(q.ssim for q in side):.3f}"
                for side in zip(*pairs, strict=True)
            )
            gains = sum(b.psnr > a.psnr for a, b in pairs)
            covered = fmean(b.covered for _, b in pairs)
            lines.append(
                f"| {count} | {kind} | {before} | {after} | {gains} of {len(pairs)} "
                f"| {covered:.3f} |"
            )
    return "\n".join(lines)


def camera_table(results: Sequence[Result]) -> str:
    """Errors of estimated cameras and seconds, as markdown."""
    heads = "".join(f" {n} photos: s | rotation ° | distance % |" for n in COUNTS)
    lines = ["| scene |" + heads, "|---|" + "---|" * (3 * len(COUNTS))]
    for name in sorted({r.scene for r in results}):
        cells = [name]
        for result in (r for r in results if r.scene == name):
            seconds = (result.network_seconds, result.refinement_seconds, result.camera_seconds)
            cells.append(" + ".join(f"{s:.1f}" for s in seconds))
            cells.append("refused" if result.rotation_deg is None else f"{result.rotation_deg:.2f}")
            known = result.distance_error is not None and len(result.photos) > 2
            cells.append(f"{100 * (result.distance_error or 0):.1f}" if known else "–")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    tyro.cli(main)
