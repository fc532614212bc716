"""Quality and speed of matching and of the layered scene built on it, without any learning.

    python benchmarks/matching.py --data DIR [--scenes fox temple] [--pairs 2] [--no-quality]

Posed folders: renders of the layered scene against the target photos. Stereo folders: disparity of
the left photo. Times are minima of several runs, one and two threads.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
import tyro
from torch.nn.functional import interpolate

from hisplat_data_tools.datasets.posed_folder import CAMERAS_FILE, PosedFolderDataset
from hisplat_data_tools.datasets.stereo import is_stereo_folder, read_stereo_folder
from hisplat_models.cameras import Cameras
from hisplat_models.layered import LayeredSettings, layered_gaussians, layered_stages
from hisplat_models.matching import MatchingSettings, match_views
from hisplat_models.metrics import disparity_errors, gain_corrected_psnr, psnr, ssim
from hisplat_models.rendering.cpu import CpuRenderer

COLUMNS = ("PSNR", "gain-corrected", "SSIM", "coverage", "trusted")


@dataclass(frozen=True)
class Arguments:
    """What to measure."""

    data: Path
    """Folder of posed scenes and stereo pairs."""
    scenes: tuple[str, ...] = ()
    """Only these folders; all by default."""
    pairs: int | None = None
    """At most this many pairs of each scene."""
    quality: bool = True
    """Measure quality."""
    speed: bool = True
    """Measure time."""
    matching: MatchingSettings = field(default_factory=MatchingSettings)
    """Constants of matching."""
    layered: LayeredSettings = field(default_factory=LayeredSettings)
    """Constants of the levels."""


def scene_quality(folder: Path, arguments: Arguments) -> torch.Tensor:
    """Mean of COLUMNS over all targets of a posed folder."""
    dataset = PosedFolderDataset(folder)
    rows = []
    for index in range(min(len(dataset), arguments.pairs or len(dataset))):
        example = dataset[index]
        images, cameras = example.context_images[None], Cameras.stack([example.context_cameras])
        prior = match_views(images, cameras, arguments.matching)
        gaussians = layered_gaussians(
            layered_stages(prior, images, cameras, arguments.layered), cameras
        )
        targets = example.target_images
        rendering = CpuRenderer()(
            gaussians,
            Cameras.stack([example.target_cameras]),
            (targets.shape[-2], targets.shape[-1]),
        )
        color, alpha = rendering.color[0].clamp(0, 1), rendering.alpha[0]
        coverage = (alpha > 0.5).float().mean((-2, -1))
        trusted = prior.trusted.float().mean().expand_as(coverage)
        measures = [psnr(color, targets), gain_corrected_psnr(color, targets), ssim(color, targets)]
        rows.append(torch.stack([*measures, coverage, trusted], dim=-1))
    return torch.cat(rows).mean(0)


def stereo_quality(folder: Path, arguments: Arguments) -> str:
    """End-point error and bad shares at the stored size, range known up to 20 %."""
    pair = read_stereo_folder(folder)
    truth = pair.disparity[torch.isfinite(pair.disparity)]
    cameras = pair.cameras(
        pair.depth_of_disparity(truth.max().item() * 1.2),
        pair.depth_of_disparity(truth.min().item() * 0.8),
    )
    height, width = (side // 8 * 8 for side in pair.size)
    images = interpolate(pair.images, (height, width), mode="bilinear", antialias=True)[None]
    prior = match_views(images, Cameras.stack([cameras]), arguments.matching)
    depth = interpolate(1 / prior.inverse_depth[:, :1], pair.size, mode="nearest")[0, 0]
    errors = disparity_errors(pair.disparity_of_depth(depth), pair.disparity)
    return (
        f"{pair.name:20} EPE {errors.end_point:.3f} px, bad-1 {errors.bad_1:.2%}, "
        f"bad-2 {errors.bad_2:.2%}"
    )


def measure_speed(folder: Path, size: tuple[int, int], threads: int, repeats: int = 5) -> str:
    """Least wall time of matching and of the levels at (height, width)."""
    example = PosedFolderDataset(folder)[0]
    images = interpolate(example.context_images, size, mode="bilinear", antialias=True)[None]
    cameras = Cameras.stack([example.context_cameras])
    before, matching, levels = torch.get_num_threads(), [], []
    torch.set_num_threads(threads)
    prior = match_views(images, cameras)
    for _ in range(repeats):
        start = time.perf_counter()
        prior = match_views(images, cameras)
        matching.append(time.perf_counter() - start)
        start = time.perf_counter()
        layered_stages(prior, images, cameras)
        levels.append(time.perf_counter() - start)
    torch.set_num_threads(before)
    return (
        f"{folder.name} {size[1]}x{size[0]}, {threads} thread(s): matching "
        f"{min(matching) * 1e3:.0f} ms, levels {min(levels) * 1e3:.0f} ms"
    )


def main(arguments: Arguments) -> None:
    """Prints the tables."""
    folders = [arguments.data / name for name in arguments.scenes] or sorted(
        arguments.data.iterdir()
    )
    posed = [f for f in folders if (f / CAMERAS_FILE).is_file() and f.name != "re10k_demo"]
    if arguments.quality:
        print(f"{'':20}", *(f"{name:>14}" for name in COLUMNS))
        means = []
        for folder in posed:
            means.append(scene_quality(folder, arguments))
            print(f"{folder.name:20}", *(f"{v:14.3f}" for v in means[-1].tolist()), flush=True)
        if means:
            print(f"{'mean':20}", *(f"{v:14.3f}" for v in torch.stack(means).mean(0).tolist()))
        for folder in folders:
            if is_stereo_folder(folder):
                print(stereo_quality(folder, arguments), flush=True)
    if arguments.speed and posed:
        for size in ((304, 448), (128, 192)):
            for threads in (1, 2):
                print(measure_speed(posed[0], size, threads), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
