"""How to train: every setting, and a preset per network."""

import math
from dataclasses import dataclass, field
from typing import Literal

from .fixed_parts import FixedPart
from .losses import PUBLISHED_LOSSES, LossSettings

Precision = Literal["fp32", "tf32", "bf16"]


@dataclass(frozen=True)
class TrainSettings:
    """How to train; the defaults are those of preset "hisplat-small"."""

    steps: int = 20_000
    """Optimiser steps in all, counted from the start of the run, not from a resume."""
    batch_size: int = 4
    """Examples per step, of all processes together."""
    micro_batches: int = 1
    """Parts in which each process works through its share of a batch: the same gradients (batch
    norms aside, which see one part at a time) with the memory of one part."""
    learning_rate: float = 1e-3
    """Peak of the schedule."""
    weight_decay: float = 1e-4
    """Of AdamW; without it AdamW is Adam."""
    schedule: Literal["warmup_cosine", "one_cycle"] = "warmup_cosine"
    """How the learning rate rises and falls. "warmup_cosine": linear over --warmup-steps, then a
    cosine to 2 %; "one_cycle": as published, a cosine over the first 1 % of the steps, another
    one down to nothing."""
    warmup_steps: int = 200
    """Of schedule "warmup_cosine"."""
    clip_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    ema_decay: float | None = 0.998
    """Of the weights' exponential moving average, which is what is evaluated and kept; None keeps
    the weights themselves."""
    precision: Precision = "fp32"
    """Arithmetic of matrix products and convolutions. "tf32" (as published) only differs from
    "fp32" on NVIDIA GPUs; "bf16" leaves geometry and rendering in float32."""
    recompute: bool = False
    """Compute the activations of CNN, transformer and stages again in the backward pass instead of
    keeping them: the same gradients with about half the memory, a fifth slower."""
    seed: int = 1
    """Of initial weights, order, augmentation and backgrounds."""
    workers: int = 1
    """Data-loading processes."""
    augment: Literal["all", "mirror", "none"] = "all"
    """What is changed at random: "mirror" flips half of the examples as published, "all" also
    reorders views and colour channels."""
    half_size_steps: float = 0.0
    """Share of steps whose photos are halved while the target views keep their size: what is
    drawn at twice the resolution of the photos has to close its gaps."""
    fixed: tuple[FixedPart, ...] = ()
    """What stays as the layered analytic scene says: "colors" of all stages; places, shapes and
    colours of the "backdrops", the coarser stages (not their opacities)."""
    evaluate_every: int = 500
    """Steps between evaluations on the held-back examples."""
    snapshot_every: int | None = None
    """Steps between copies of the weights that are kept, RUN_DIR/snapshots/STEP.safetensors."""
    checkpoint_every_seconds: float = 180.0
    """Time between checkpoints; one is also written at the end."""
    stop_after_seconds: float | None = None
    """Write a checkpoint and stop after this long, wherever the schedule is."""
    perceptual: Literal["auto", "required", "off"] = "auto"
    """Whether the LPIPS term is computed if it has a weight: "auto" leaves it out, and says so,
    where its packages or weights are missing; "required" refuses to start then."""
    losses: LossSettings = field(default_factory=LossSettings)
    """Weights of the loss terms."""

    def __post_init__(self) -> None:
        """Refuses what no run can be.

        Raises:
            ValueError: naming the setting.
        """
        counts = {
            1: ("steps", "batch_size", "micro_batches", "evaluate_every", "snapshot_every"),
            0: ("warmup_steps", "workers"),
        }
        for least, names in counts.items():
            for name in names:
                value = getattr(self, name)
                if value is not None and value < least:
                    raise ValueError(f"Expected {name} of at least {least}, got {value}.")
        for name in ("learning_rate", "clip_norm"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"Expected a positive {name}, got {value}.")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"Expected weight_decay of at least 0, got {self.weight_decay}.")
        if self.ema_decay is not None and not 0 <= self.ema_decay < 1:
            raise ValueError(f"Expected ema_decay in [0, 1), got {self.ema_decay}.")
        if not 0 <= self.half_size_steps <= 1:
            raise ValueError(f"Expected half_size_steps in [0, 1], got {self.half_size_steps}.")


TRAIN_PRESETS: dict[str, TrainSettings] = {
    # As published for RealEstate10K (ICLR 2025): eight GPUs, two scenes each.
    "hisplat": TrainSettings(
        steps=300_001,
        batch_size=16,
        learning_rate=2e-4,
        weight_decay=0.0,
        schedule="one_cycle",
        clip_norm=0.5,
        ema_decay=None,
        precision="tf32",
        seed=111123,
        workers=4,
        augment="mirror",
        evaluate_every=5000,
        checkpoint_every_seconds=900.0,
        losses=PUBLISHED_LOSSES,
    ),
    "hisplat-small": TrainSettings(),
}
