"""What a third and a fourth photo bring: quality, time, and how well their cameras are found.

For the first pair of every posed scene with enough photos: the views between the pair's photos,
drawn from scenes of the pair alone and with the nearest one and two further photos that are no
target, given cameras; and the errors of the cameras found from the photos alone.

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

from hisplat_app.machine import machine
from hisplat_app.photo_cameras import at_working_size, find_photo_cameras
from hisplat_data_tools.cameras_json import CameraFile, read_cameras, to_cameras
from hisplat_data_tools.images import load_photo
from hisplat_data_tools.two_view import TwoViewError
from hisplat_models.cameras import Cameras
from hisplat_models.checkpoints import load_model
from hisplat_models.metrics import gain_corrected_psnr, ssim
from hisplat_models.network import HiSplat

SIZE = 384
COUNTS = (2, 3, 4)


@dataclass(frozen=True)
class Result:
    """One scene from so many photos; errors in degrees, None where the cameras were refused.

    ``psnr`` is gain-corrected. ``distance_error`` is that of the distances between cameras, as a
    share of them, after the best common scale.
    """

    scene: str
    photos: tuple[str, ...]
    psnr: float
    ssim: float
    network_seconds: float
    gaussians: int
    rotation_deg: float | None
    distance_error: float | None
    camera_seconds: float


def main(data: Path, output: Path) -> None:
    """Measures all scenes, writes them as JSON and prints a markdown table.

    Args:
        data: Folder of posed scenes, each with photos and a cameras.json.
        output: JSON file to write.
    """
    torch.set_grad_enabled(False)
    network = load_model()
    results = []
    for path in sorted(data.glob("*/cameras.json")):
        file = read_cameras(path)
        if not file.pairs:
            continue
        pair = file.pairs[0]
        further = nearest(file, (pair.left, pair.right), pair.targets)
        for count in COUNTS:
            names = (pair.left, pair.right, *further[: count - 2])
            results.append(measured(network, file, names, pair.targets))
    output.parent.mkdir(parents=True, exist_ok=True)
    document = {"machine": machine(), "size": SIZE, "results": [asdict(r) for r in results]}
    output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(table(results))


def nearest(file: CameraFile, pair: tuple[str, str], targets: Sequence[str]) -> list[str]:
    """Photos that are neither of the pair nor targets, nearest to the middle of the pair first."""
    middle = sum(file.find(name).camera_to_world[:3, 3] for name in pair) / 2
    others = [i for i in file.images if i.file not in (*pair, *targets)]
    others.sort(key=lambda i: float(np.linalg.norm(i.camera_to_world[:3, 3] - middle)))
    return [image.file for image in others]


def measured(
    network: HiSplat, file: CameraFile, names: tuple[str, ...], targets: Sequence[str]
) -> Result:
    """Quality with the stated cameras, and the errors of estimated ones."""
    photos = [load_photo(file.path.parent / name) for name in (*names, *targets)]
    stated = file.depth_range(*names[:2])
    assert stated is not None
    cameras = to_cameras([file.find(name) for name in (*names, *targets)], *stated)
    images, seen = at_working_size(photos, cameras, SIZE, network.size_multiple)
    count = len(names)
    start = time.perf_counter()
    scene = network(images[None, :count], seen[None, :count]).gaussians
    seconds = time.perf_counter() - start
    size = (images.shape[-2], images.shape[-1])
    drawn = network.create_renderer("cpu")(scene, seen[None, count:], size).color[0].clamp(0, 1)
    pairs = list(zip(drawn, images[count:], strict=True))
    rotation, distance, camera_seconds = camera_errors(photos[:count], cameras[:count])
    return Result(
        file.path.parent.name,
        names,
        round(fmean(float(gain_corrected_psnr(a, b)) for a, b in pairs), 3),
        round(fmean(float(ssim(a, b)) for a, b in pairs), 4),
        round(seconds, 2),
        scene.means.shape[-2],
        rotation,
        distance,
        camera_seconds,
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


def table(results: Sequence[Result]) -> str:
    """One row per scene, one group of columns per number of photos, as markdown."""
    heads = "".join(f" {n} photos: PSNR / SSIM | s | rotation ° | distance % |" for n in COUNTS)
    lines = ["| scene |" + heads, "|---|" + "---|" * (4 * len(COUNTS))]
    scenes = sorted({r.scene for r in results})
    for name in scenes:
        cells = [name]
        for result in sorted((r for r in results if r.scene == name), key=lambda r: len(r.photos)):
            cells.append(f"{result.psnr:.2f} / {result.ssim:.3f}")
            cells.append(f"{result.network_seconds:.1f} + {result.camera_seconds:.1f}")
            cells.append("refused" if result.rotation_deg is None else f"{result.rotation_deg:.2f}")
            known = result.distance_error is not None and len(result.photos) > 2
            cells.append(f"{100 * (result.distance_error or 0):.1f}" if known else "–")
        lines.append(f"| {' | '.join(cells)} |")
    means = [fmean(r.psnr for r in results if len(r.photos) == n) for n in COUNTS]
    lines.append("| mean |" + "".join(f" {mean:.2f} | | | |" for mean in means))
    return "\n".join(lines)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    tyro.cli(main)
