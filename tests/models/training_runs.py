"""Small networks, scenes and runs for the tests of training."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from hisplat_models.config import PRESETS, HiSplatConfig, StageConfig, ViTConfig
from hisplat_models.example import Example
from hisplat_models.network import HiSplat
from hisplat_models.training import TRAIN_PRESETS, Trainer, TrainSettings

from .scenes import example

# The small preset with less of everything.
TINY: HiSplatConfig = dataclasses.replace(
    PRESETS["hisplat-small"],
    stages=(
        StageConfig(8, 8, 2, 2, 1, 8, 3, "backdrop"),
        StageConfig(4, 8, 2, 2, 1, 8, 3, "backdrop"),
        StageConfig(1, 8, 2, 2, 2, 16, 1, "candidates"),
    ),
    cnn_widths=(4, 8, 8),
    transformer_layers=1,
    corr_channels=8,
)
# The published structure likewise.
TINY_PUBLISHED: HiSplatConfig = dataclasses.replace(
    PRESETS["hisplat"],
    stages=(
        StageConfig(4, 16, 3, 4, 1, 16, 3, "cost_volume"),
        StageConfig(2, 8, 3, 4, 1, 16, 3, "residual"),
        StageConfig(1, 8, 3, 4, 1, 16, 3, "limited"),
    ),
    size_multiple=16,
    cnn_widths=(8, 8, 16),
    transformer_layers=2,
    depth_candidates=16,
    corr_channels=16,
    corr_levels=2,
    corr_attention=2,
    vit=ViTConfig(width=24, depth=3, heads=2),
)
SETTINGS = TrainSettings(
    steps=6, batch_size=2, warmup_steps=2, workers=0, evaluate_every=3, learning_rate=3e-3
)
PUBLISHED_SETTINGS = dataclasses.replace(
    TRAIN_PRESETS["hisplat"], steps=6, batch_size=2, workers=0, evaluate_every=3
)


class Walls:
    """A dataset of small synthetic scenes, rendered once."""

    def __init__(self, length: int, **options: int):
        self.examples = [example(seed, **options) for seed in range(length)]

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        return self.examples[index]


HELD_BACK = Walls(1, height=32, width=48)


def trainer(
    walls: Walls, run_dir: Path, settings: TrainSettings = SETTINGS, **options: Any
) -> Trainer:
    """A run of the tiny small preset."""
    torch.manual_seed(settings.seed)
    return Trainer(
        HiSplat(TINY), walls, Walls(1, height=32, width=48), settings, run_dir, **options
    )


def published_trainer(
    walls: Walls, run_dir: Path, settings: TrainSettings = PUBLISHED_SETTINGS, **options: Any
) -> Trainer:
    """A run of the tiny published network."""
    torch.manual_seed(settings.seed)
    return Trainer(
        HiSplat(TINY_PUBLISHED), walls, Walls(1, height=32, width=48), settings, run_dir, **options
    )


def logged(run_dir: Path, name: str = "loss") -> dict[int, float]:
    """A value of each step in a run's log."""
    records = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
    return {r["step"]: r[name] for r in records if name in r}
