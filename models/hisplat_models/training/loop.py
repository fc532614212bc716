"""The training loop: one process or many, resumable to the bit."""

import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from ..checkpoints import save_model
from ..network import HiSplat, HiSplatOutput
from ..rendering import Renderer, create_renderer
from .feed import BatchOrder, ExampleDataset, Sample, TrainingSamples, batches
from .losses import LossSettings, training_loss

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainSettings:
    """How to train."""

    steps: int = 20_000
    """Optimiser steps in all, counted from the start of the run, not from a resume."""
    batch_size: int = 4
    """Examples per step, of all processes together."""
    learning_rate: float = 1e-3
    """Peak of the schedule."""
    weight_decay: float = 1e-4
    """Of AdamW."""
    warmup_steps: int = 200
    """Linear rise of the learning rate; a cosine falls to 2 % from there to the last step."""
    clip_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    ema_decay: float = 0.998
    """Of the weights' exponential moving average, which is what is evaluated and kept."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 runs the convolutions in bfloat16; geometry and rendering stay in float32."""
    seed: int = 1
    """Of initial weights, order, augmentation and backgrounds."""
    workers: int = 1
    """Data-loading processes."""
    augment: bool = True
    """Mirror examples, reorder views and colour channels."""
    evaluate_every: int = 500
    """Steps between evaluations on the held-back examples."""
    checkpoint_every_seconds: float = 180.0
    """Time between checkpoints; one is also written at the end."""
    stop_after_seconds: float | None = None
    """Write a checkpoint and stop after this long, wherever the schedule is."""
    losses: LossSettings = field(default_factory=LossSettings)
    """Weights of the loss terms."""


@dataclass(frozen=True)
class TrainProgress:
    """Where a run stands, for whoever shows it."""

    step: int
    steps: int
    loss: float
    seconds_per_step: float
    validation: Mapping[str, float] | None


class Trainer:
    """Trains a network; everything it needs to go on is in ``run_dir/checkpoint.pt``.

    Under torchrun (or any launcher that sets WORLD_SIZE and friends, with the process group
    initialised) every process holds one Trainer and works on its share of each batch.

    Args:
        model: The network, on its device.
        train: Examples to learn from.
        validation: Held-back examples; evaluated with averaged weights, on the first process.
        settings: How to train.
        run_dir: Where checkpoints and logs go.
        renderer: By default the fastest one for the model's device.
    """

    def __init__(
        self,
        model: HiSplat,
        train: ExampleDataset,
        validation: ExampleDataset | None,
        settings: TrainSettings,
        run_dir: Path,
        renderer: Renderer | None = None,
    ):
        self.model, self.settings, self.run_dir = model, settings, run_dir
        self.train_data, self.validation_data = train, validation
        self.device = next(model.parameters()).device
        self.renderer = renderer or create_renderer(self.device)
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.world_size = dist.get_world_size() if dist.is_initialized() else 1
        self.parallel: nn.Module = model
        if self.world_size > 1:
            self.parallel = DistributedDataParallel(model, find_unused_parameters=True)
        self.averaged = AveragedModel(model, avg_fn=self._average)
        self.optimizer = torch.optim.AdamW(
            (p for p in model.parameters() if p.requires_grad),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
        )
        self.step = 0
        self.seconds = 0.0

    @property
    def checkpoint_path(self) -> Path:
        """Where the run's state is kept."""
        return self.run_dir / "checkpoint.pt"

    @property
    def averaged_model(self) -> HiSplat:
        """The network with averaged weights."""
        averaged = self.averaged.module
        assert isinstance(averaged, HiSplat)
        return averaged

    def resume(self) -> bool:
        """Takes up the run in ``run_dir``; False if there is none."""
        if not self.checkpoint_path.is_file():
            return False
        state = torch.load(self.checkpoint_path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        logger.info("Resumed %s at step %d", self.run_dir, self.step)
        return True

    def save(self) -> None:
        """Writes the run's state and the averaged weights; only the first process does."""
        if self.rank:
            return
        self.run_dir.mkdir(parents=True, exist_ok=True)
        temporary = self.checkpoint_path.with_suffix(".partial")
        state = {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        torch.save(state, temporary)
        os.replace(temporary, self.checkpoint_path)
        save_model(self.averaged_model, self.run_dir / "averaged.safetensors")

    def run(self, on_progress: Callable[[TrainProgress], None] | None = None) -> None:
        """Trains to the last step of the settings (or until the time is up)."""
        settings = self.settings
        started = last_saved = time.monotonic()
        seconds_before = self.seconds
        samples = TrainingSamples(
            self.train_data, self.model.config.matching_prior, settings.seed, settings.augment
        )
        order = BatchOrder(
            len(samples), settings.batch_size, self.step, settings.steps, settings.seed,
            self.rank, self.world_size,
        )  # fmt: skip
        self._write_log({"settings": asdict(settings), "resumed_at": self.step})
        with _scalar_writer(self.run_dir, enabled=self.rank == 0) as write_scalars:
            step_started = time.monotonic()
            for sample in batches(samples, order, settings.workers):
                terms = self.train_step(sample.to(self.device))
                now = time.monotonic()
                self.seconds = seconds_before + now - started
                pace, step_started = now - step_started, now
                validation = None
                if self.step % settings.evaluate_every == 0 and self.validation_data is not None:
                    validation = self.evaluate()
                record = {"step": self.step, "hours": self.seconds / 3600, **terms}
                record |= {f"validation_{k}": v for k, v in (validation or {}).items()}
                self._write_log(record)
                write_scalars(self.step, record)
                if on_progress is not None and self.rank == 0:
                    on_progress(
                        TrainProgress(self.step, settings.steps, terms["loss"], pace, validation)
                    )
                if now - last_saved > settings.checkpoint_every_seconds:
                    self.save()
                    last_saved = now
                if self._time_is_up(now - started):
                    break
        self.save()

    def train_step(self, sample: Sample) -> dict[str, float]:
        """One optimiser step; the loss terms of this process's share of the batch."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16"
        ):
            output: HiSplatOutput = self.parallel(
                sample.example.context_images, sample.example.context_cameras, prior=sample.prior
            )
        report = training_loss(
            output, sample.example, self.renderer, self.settings.losses, self._background()
        )
        if not torch.isfinite(report.total):
            raise FloatingPointError(f"Loss {float(report.total)} at step {self.step}.")
        report.total.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * self._rate(self.step)
        self.optimizer.step()
        self.averaged.update_parameters(self.model)
        self.step += 1
        return {"loss": float(report.total.detach()), "gradient": float(norm), **report.terms}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float] | None:
        """Loss terms and PSNR of the averaged weights on the held-back examples."""
        if self.rank or self.validation_data is None:
            return None
        model = self.averaged_model.eval()
        totals: dict[str, float] = {}
        samples = TrainingSamples(
            self.validation_data, self.model.config.matching_prior, seed=0, augment=False
        )
        black = torch.zeros(3, device=self.device)
        for index in range(len(samples)):
            sample = samples[0, index].to(self.device)
            output = model(
                sample.example.context_images, sample.example.context_cameras, prior=sample.prior
            )
            report = training_loss(output, sample.example, self.renderer, LossSettings(), black)
            values = report.terms | {"loss": float(report.total)}
            values["psnr"] = -10 * math.log10(values[f"mse_{len(output.stages) - 1}"])
            for name, value in values.items():
                totals[name] = totals.get(name, 0.0) + value / len(samples)
        return totals

    def _background(self) -> Tensor:
        """A random colour: what shines through holes is punished whatever its colour."""
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + self.step)
        return torch.rand(3, generator=generator).to(self.device)

    def _rate(self, step: int) -> float:
        """The share of the peak learning rate at a step."""
        warmup, steps = self.settings.warmup_steps, self.settings.steps
        if step < warmup:
            return (step + 1) / warmup
        fraction = min(1.0, (step - warmup) / max(1, steps - warmup))
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * fraction))

    def _average(self, averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        """Exponential average whose memory grows with the run, so that early noise is forgotten."""
        decay = min(self.settings.ema_decay, (1 + float(count)) / (10 + float(count)))
        return averaged + (1 - decay) * (current - averaged)

    def _time_is_up(self, seconds: float) -> bool:
        """The same answer on all processes: the slowest clock decides."""
        limit = self.settings.stop_after_seconds
        up = limit is not None and seconds > limit
        if self.world_size == 1:
            return up
        flag = torch.tensor(float(up), device=self.device)
        dist.all_reduce(flag, op=dist.ReduceOp.MIN)
        return bool(flag)

    def _write_log(self, record: Mapping[str, object]) -> None:
        if self.rank:
            return
        self.run_dir.mkdir(parents=True, exist_ok=True)
        with open(self.run_dir / "log.jsonl", "a") as file:
            file.write(json.dumps(record, default=str) + "\n")


class _scalar_writer:
    """TensorBoard scalars where TensorBoard is installed; log.jsonl has them in any case."""

    def __init__(self, run_dir: Path, enabled: bool):
        self.writer = None
        if enabled:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                logger.info('No TensorBoard: pip install "hisplat-app[train]" for its curves')
            else:
                self.writer = SummaryWriter(run_dir / "tensorboard")

    def __enter__(self) -> Callable[[int, Mapping[str, float | int]], None]:
        return self._write

    def _write(self, step: int, values: Mapping[str, float | int]) -> None:
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)

    def __exit__(self, *_: object) -> None:
        if self.writer is not None:
            self.writer.close()
