"""Can a network learn one real pair by heart? Its two photos are its targets as well.

A network and a loss in which every part lets gradients through reach 30 dB within the steps given
here; one with a cut or a wrong sign does not. Nothing is said about other photos.

Usage: python benchmarks/overfit.py --data DIR --preset hisplat-small --output FILE.json
"""

import json
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import tyro

from hisplat_app.machine import machine
from hisplat_data_tools.datasets import PosedFolderDataset
from hisplat_models.cameras import Cameras
from hisplat_models.config import PRESETS
from hisplat_models.example import Example
from hisplat_models.network import HiSplat
from hisplat_models.training import TRAIN_PRESETS, Trainer, TrainProgress

GOAL_DB = 30.0


@dataclass(frozen=True)
class Options:
    """Which network, which photos, how long."""

    data: Path
    """Folder of posed scenes."""
    scene: str = "fountain_p11"
    """The scene whose first pair is learnt."""
    preset: Literal["hisplat-small", "hisplat"] = "hisplat-small"
    """The network, untrained, with the loss of its training preset."""
    size: int = 128
    """Side of the square in the middle of the photos, pixels."""
    steps: int = 300
    """Length of the schedule."""
    learning_rate: float | None = None
    """Peak of the schedule; by default the training preset's."""
    threads: int = 1
    """CPU threads."""
    output: Path | None = None
    """JSON file for the results, kept by preset, scene and size beside what it already holds."""


class OnePair:
    """A dataset of one example whose targets are its inputs."""

    def __init__(self, folder: Path, size: int):
        self.pair = squared(PosedFolderDataset(folder, long_side=640)[0], size)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Example:
        return self.pair


def squared(example: Example, size: int) -> Example:
    """The middle of the example's photos, scaled to a square; they are its targets too."""
    height, width = example.context_images.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    images = example.context_images[..., top : top + side, left : left + side]
    images = torch.nn.functional.interpolate(images, (size, size), mode="area")
    intrinsics = example.context_cameras.intrinsics.clone()
    for axis, whole, start in ((0, width, left), (1, height, top)):
        intrinsics[:, axis, axis] *= whole / side
        intrinsics[:, axis, 2] = (intrinsics[:, axis, 2] * whole - start) / side
    cameras: Cameras = replace(example.context_cameras, intrinsics=intrinsics)
    return Example(example.name, images, cameras, images, cameras)


def overfit(options: Options) -> dict[str, object]:
    """Trains and says how PSNR on the two photos rose."""
    preset = TRAIN_PRESETS[options.preset]
    settings = replace(
        preset,
        steps=options.steps,
        batch_size=1,
        learning_rate=options.learning_rate or preset.learning_rate,
        warmup_steps=max(1, options.steps // 20),
        ema_decay=None,
        weight_decay=0.0,
        workers=0,
        augment="none",
        evaluate_every=max(1, options.steps // 30),
        checkpoint_every_seconds=float("inf"),
    )
    pair = OnePair(options.data / options.scene, options.size)
    torch.manual_seed(settings.seed)
    model = HiSplat(PRESETS[options.preset])
    curve: list[tuple[int, float]] = []

    def note(progress: TrainProgress) -> None:
        if progress.validation is not None:
            curve.append((progress.step, round(progress.validation["psnr"], 2)))
            print(options.preset, *curve[-1], f"{progress.loss:.4f}", flush=True)

    started = time.monotonic()
    with tempfile.TemporaryDirectory() as run_dir:
        trainer = Trainer(model, pair, pair, settings, Path(run_dir))
        before = trainer.evaluate()
        assert before is not None
        curve.append((0, round(before["psnr"], 2)))
        trainer.run(note)
    reached = [step for step, psnr in curve if psnr >= GOAL_DB]
    return {
        "pair": pair.pair.name,
        "size": options.size,
        "parameters": trainer.card.facts["parameters"],
        "steps": options.steps,
        "steps_to_30_db": reached[0] if reached else None,
        "seconds_per_step": round((time.monotonic() - started) / options.steps, 3),
        "learning_rate": settings.learning_rate,
        "schedule": settings.schedule,
        "losses": asdict(settings.losses),
        "lpips": trainer.card.facts["lpips"],
        "psnr": curve,
        "machine": machine(),
    }


def main(options: Options) -> None:
    """Prints PSNR as it rises and keeps the results.

    Raises:
        SystemExit: if the goal is missed.
    """
    torch.set_num_threads(options.threads)
    result = overfit(options)
    if options.output is not None:
        known = json.loads(options.output.read_text()) if options.output.is_file() else {}
        known[f"{options.preset} {options.scene} {options.size}"] = result
        options.output.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    if result["steps_to_30_db"] is None:
        raise SystemExit(f"{GOAL_DB:.0f} dB were not reached in {options.steps} steps.")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
