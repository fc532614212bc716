"""The training loop: one process or many, resumable to the bit."""

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..checkpoints import save_model
from ..lpips import load_lpips, lpips_obstacle
from ..network import HiSplat, HiSplatOutput
from ..rendering import Renderer
from .engine import Engine
from .feed import (
    BatchOrder,
    ExampleDataset,
    Sample,
    SampleKey,
    TrainingSamples,
    batches,
    epoch_orders,
)
from .fixed_parts import FixedParts
from .losses import LossReport, PerceptualDistance, training_loss
from .precision import autocast, float32_arithmetic
from .recompute import heavy_modules, recomputed
from .run_card import RunCard, mean_terms, session_facts
from .scalars import scalar_writer
from .schedule import learning_rate_share
from .settings import TrainSettings
from .stop_signal import StopSignal

logger = logging.getLogger(__name__)


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

    With several processes every one of them holds a Trainer and works on its share of each batch.

    Args:
        model: The network, on its device.
        train: Examples to learn from.
        validation: Held-back examples; evaluated on the first process, with averaged weights where
            there are any.
        settings: How to train.
        run_dir: Where checkpoints and logs go.
        renderer: By default the one that the network's Gaussians are meant for.
        engine: From ``open_engine``; by default this process is the only one.
        facts: What else the run's card should say, e.g. about the data.

    Raises:
        ImportError, FileNotFoundError: if LPIPS is required and cannot be computed.
    """

    def __init__(
        self,
        model: HiSplat,
        train: ExampleDataset,
        validation: ExampleDataset | None,
        settings: TrainSettings,
        run_dir: Path,
        renderer: Renderer | None = None,
        engine: Engine | None = None,
        facts: Mapping[str, Any] | None = None,
    ):
        self.model, self.settings, self.run_dir = model, settings, run_dir
        self.train_data, self.validation_data = train, validation
        self.device = next(model.parameters()).device
        self.renderer = renderer or model.create_renderer(self.device)
        self.engine = engine or Engine(self.device)
        self.perceptual, lpips_note = _perceptual_distance(settings, self.device)
        self.fixed = FixedParts(model, settings.fixed)
        self.fixed.reset()
        self.parallel = self.engine.parallel(model)
        self.averaged = None
        if settings.ema_decay is not None:
            self.averaged = AveragedModel(model, avg_fn=_average(settings.ema_decay))
        self.optimizer = torch.optim.AdamW(
            (p for p in model.parameters() if p.requires_grad),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
        )
        self.step = 0
        self.seconds = 0.0
        self.terminated = False
        self._since_point: list[dict[str, float]] = []
        self.card = RunCard(
            run_dir / "card.json",
            {
                **(facts or {}),
                "settings": asdict(settings),
                "network": asdict(model.config),
                "parameters": sum(p.numel() for p in model.parameters()),
                "trained_parameters": sum(p.numel() for p in self._trained()),
                "lpips": lpips_note,
            },
        )

    @property
    def checkpoint_path(self) -> Path:
        """Where the run's state is kept."""
        return self.run_dir / "checkpoint.pt"

    @property
    def weights_path(self) -> Path:
        """Where the weights are kept that the run is for."""
        name = "weights" if self.averaged is None else "averaged"
        return self.run_dir / f"{name}.safetensors"

    @property
    def averaged_model(self) -> HiSplat:
        """The network with averaged weights; the network itself if nothing is averaged."""
        averaged = self.model if self.averaged is None else self.averaged.module
        assert isinstance(averaged, HiSplat)
        return averaged

    def resume(self) -> bool:
        """Takes up the run in ``run_dir``; False if there is none.

        Raises:
            ValueError: if it trains another network, or averages its weights where this does not.
        """
        if not self.checkpoint_path.is_file():
            return False
        state = torch.load(self.checkpoint_path, map_location=self.device, weights_only=True)
        network = json.loads(json.dumps(asdict(self.model.config)))
        if state.get("network", network) != network:
            raise ValueError(f"The run in {self.run_dir} trains another network; use another one.")
        if (self.averaged is None) != (state["averaged"] is None):
            raise ValueError(
                f"The run in {self.run_dir} and the settings disagree on averaging weights; pass "
                "the --ema-decay it was started with."
            )
        self.model.load_state_dict(state["model"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.take_up(state["more"] if "more" in state else {})
        logger.info("Resumed %s at step %d", self.run_dir, self.step)
        return True

    def save(self) -> None:
        """Writes the run's state, its weights and its card; only the first process does."""
        if self.engine.rank:
            return
        self.run_dir.mkdir(parents=True, exist_ok=True)
        temporary = self.checkpoint_path.with_suffix(".partial")
        state = {
            "network": json.loads(json.dumps(asdict(self.model.config))),
            "model": self.model.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "more": self.more_state(),
        }
        torch.save(state, temporary)
        os.replace(temporary, self.checkpoint_path)
        save_model(self.averaged_model, self.weights_path)
        self.card.write(self.step, self.seconds / 3600)

    def more_state(self) -> dict[str, Any]:
        """What a run of another kind has to keep besides: tensors, numbers, texts, lists, dicts."""
        return {}

    def take_up(self, more: Mapping[str, Any]) -> None:
        """Goes on from what ``more_state`` was."""

    def _keep_snapshot(self) -> None:
        every = self.settings.snapshot_every
        if every is not None and self.step % every == 0 and self.engine.rank == 0:
            save_model(self.averaged_model, self.run_dir / f"snapshots/{self.step:06d}.safetensors")

    def run(self, on_progress: Callable[[TrainProgress], None] | None = None) -> None:
        """Trains to the last step of the settings, or until the time is up or SIGTERM comes.

        The state is kept in any case; ``terminated`` tells afterwards whether it was SIGTERM.
        """
        arithmetic = float32_arithmetic(self.settings.precision, self.device)
        writer = scalar_writer(self.run_dir / "tensorboard", enabled=self.engine.rank == 0)
        with arithmetic, StopSignal() as stop, writer as write_scalars:
            self._start()
            started = last_saved = step_started = time.monotonic()
            seconds_before = self.seconds
            for parts in self._feed():
                terms = self.train_step([part.to(self.device) for part in parts])
                now = time.monotonic()
                self.seconds = seconds_before + now - started
                pace, step_started = now - step_started, now
                validation = self._validation()
                record = {"step": self.step, "hours": self.seconds / 3600, **terms}
                record |= {f"validation_{k}": v for k, v in (validation or {}).items()}
                self._keep_snapshot()
                self._write_log(record)
                write_scalars(self.step, record)
                if on_progress is not None and self.engine.rank == 0:
                    steps = self.settings.steps
                    on_progress(TrainProgress(self.step, steps, terms["loss"], pace, validation))
                if now - last_saved > self.settings.checkpoint_every_seconds:
                    self.save()
                    last_saved = now
                limit = self.settings.stop_after_seconds
                time_is_up = limit is not None and now - started > limit
                if self.engine.any(stop.received or time_is_up):
                    self.terminated = self.engine.any(stop.received)
                    break
            self._add_to_curve(None)
            self.save()
            self.engine.wait()

    def _start(self) -> None:
        facts = session_facts(self.device, self.engine.world_size, self.step)
        self.card.sessions = [facts]
        self.card.take_up(self.step)
        self._write_log({"settings": asdict(self.settings), "resumed_at": self.step})
        if self.engine.rank == 0:
            self.card.write(self.step, self.seconds / 3600)

    def _feed(self) -> Iterator[list[Sample]]:
        """The parts of this process's share of every batch from the current step on."""
        settings = self.settings
        samples = TrainingSamples(
            self.train_data,
            self.model.config.matching_prior,
            settings.seed,
            settings.augment,
            settings.half_size_steps,
        )
        order = BatchOrder(
            len(samples),
            settings.batch_size,
            self.step,
            settings.steps,
            epoch_orders(self.train_data, settings.seed),
            self.engine.rank,
            self.engine.world_size,
            settings.micro_batches,
        )
        parts: list[Sample] = []
        for sample in batches(samples, order, settings.workers):
            parts.append(sample)
            if len(parts) == settings.micro_batches:
                yield parts
                parts = []

    def train_step(self, parts: Sequence[Sample]) -> dict[str, float]:
        """One optimiser step; the loss terms of this process's share of the batch.

        Args:
            parts: The share in equal parts; gradients are those of all parts together.
        """
        self.model.train()
        if self.model.monocular is not None:
            self.model.monocular.vit.eval()  # frozen
        self.optimizer.zero_grad(set_to_none=True)
        records = self.accumulate_gradients(parts)
        self.fixed.clear_gradients()
        norm = nn.utils.clip_grad_norm_(self._trained(), self.settings.clip_norm)
        share = learning_rate_share(self.settings, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * group.get("factor", 1.0) * share
        self.optimizer.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)
        self.step += 1
        terms = {**mean_terms(records), "gradient": float(norm)}
        self._since_point.append(terms)
        return terms

    def accumulate_gradients(self, parts: Sequence[Sample]) -> list[dict[str, float]]:
        """Gradients of the mean loss of all parts; the loss and its terms of each."""
        records = []
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            shared = nullcontext() if last else self.engine.keeping_gradients(self.parallel)
            with shared:
                report = self._loss(part)
                (report.total / len(parts)).backward()
            records.append({"loss": float(report.total.detach()), **report.terms})
        return records

    def _loss(self, sample: Sample) -> LossReport:
        example, settings = sample.example, self.settings
        modules = heavy_modules(self.model) if settings.recompute else []
        with recomputed(modules), autocast(settings.precision, self.device):
            output: HiSplatOutput = self.parallel(
                example.context_images, example.context_cameras, prior=sample.prior
            )
        report = training_loss(
            output, example, self.renderer, settings.losses, self._background(), self.perceptual
        )
        if not torch.isfinite(report.total):
            raise FloatingPointError(f"Loss {float(report.total)} at step {self.step}.")
        return report

    def _validation(self) -> dict[str, float] | None:
        if self.step % self.settings.evaluate_every:
            return None
        values = self.evaluate()
        self._add_to_curve(values)
        return values

    @torch.no_grad()
    def evaluate(self) -> dict[str, float] | None:
        """Loss terms and PSNR of the weights that are kept, on the held-back examples."""
        if self.engine.rank or self.validation_data is None:
            return None
        model = self.averaged_model.eval()
        losses = replace(self.settings.losses, gain_corrected=False)
        samples = TrainingSamples(self.validation_data, model.config.matching_prior, seed=0)
        black = torch.zeros(3, device=self.device)
        records = []
        for index in range(len(samples)):
            sample = samples[SampleKey(0, index)].to(self.device)
            example = sample.example
            output = model(example.context_images, example.context_cameras, prior=sample.prior)
            report = training_loss(output, example, self.renderer, losses, black, self.perceptual)
            values = report.terms | {"loss": float(report.total)}
            values["psnr"] = -10 * math.log10(values[f"mse_{len(output.stages) - 1}"])
            records.append(values)
        return mean_terms(records)

    def _add_to_curve(self, validation: Mapping[str, float] | None) -> None:
        """A point of the card's curve: means since the last one, and quality on held-back data."""
        if not self._since_point:
            return
        point = {"step": self.step, "hours": self.seconds / 3600, **mean_terms(self._since_point)}
        point |= {f"validation_{k}": v for k, v in (validation or {}).items()}
        self.card.curve.append(point)
        self._since_point = []

    def _trained(self) -> list[nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]

    def _background(self) -> Tensor:
        if not self.settings.losses.random_background:
            return torch.zeros(3, device=self.device)
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + self.step)
        return torch.rand(3, generator=generator).to(self.device)

    def _write_log(self, record: Mapping[str, object]) -> None:
        if self.engine.rank:
            return
        self.run_dir.mkdir(parents=True, exist_ok=True)
        with open(self.run_dir / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(record, default=str) + "\n")


def _average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Exponential average whose memory grows with the run, so that early noise is forgotten."""

    def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        now = min(decay, (1 + float(count)) / (10 + float(count)))
        return averaged + (1 - now) * (current - averaged)

    return average


def _perceptual_distance(
    settings: TrainSettings, device: torch.device
) -> tuple[PerceptualDistance | None, str]:
    """LPIPS if the settings want it and it can be had, and what the run's card says about it."""
    if settings.losses.lpips == 0 or settings.perceptual == "off":
        return None, "off"
    obstacle = lpips_obstacle() if settings.perceptual == "auto" else None
    if obstacle is not None:
        logger.warning("Training without the LPIPS term: %s", obstacle)
        return None, f"left out: {obstacle}"
    return load_lpips(device), "VGG-16"
