"""A compression from start to end, for programs; ``hisplat compress`` is the same for people.

CompressionRun("hisplat-small", Path("runs/half"), method="s2h", keep_flops=0.5).run()
"""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from hisplat_models.checkpoints import load_model, save_model
from hisplat_models.compression.depth_choice import check_reachable
from hisplat_models.compression.hisplat import Part, channel_groups, depth_space, parts_of
from hisplat_models.compression.hisplat.costs import part_budgets
from hisplat_models.compression.hisplat.task import DistillationWeights
from hisplat_models.compression.hisplat.trainer import CompressionTrainer
from hisplat_models.network import HiSplat
from hisplat_models.training import (
    TRAIN_PRESETS,
    Trainer,
    TrainProgress,
    TrainSettings,
    open_engine,
)
from hisplat_models.training.feed import ExampleDataset

from . import __version__
from .commands.paths import check_folder_out
from .compression_card import write_card
from .compression_quality import quality_on_examples, quality_on_photos
from .compression_speed import latencies
from .compression_work import SHORTENING, CompressionWork, MethodName
from .defaults import SMALLEST_SIZE
from .machine import machine
from .option_bounds import check_least
from .training_run import TERMINATED, TrainingRun

logger = logging.getLogger(__name__)


@dataclass
class CompressionRun:
    """Makes a trained network smaller and faster, and keeps it in RUN_DIR.

    Start it again with the same arguments to go on where it stopped; SIGTERM stops it politely.
    """

    model: str
    """The network to begin with: a bundled name, a file, or an address as for --model elsewhere."""
    out: Path
    """Folder for the smaller network (slim.safetensors, elastic.safetensors), its card and all that
    a resumed run needs."""
    method: MethodName = "s2h"
    """"s2h" and "stp" seek how wide the network may be, "stp" how deep, too; "st" and "gkt" train
    it at every depth, so that one file serves several speeds."""
    keep_flops: float = 0.5
    """Share of the parts' operations to keep, all parts together."""
    keep_params: float | None = None
    """The same of their parameters; by default they are as many as the operations leave."""
    parts: tuple[Part, ...] = ()
    """What is made smaller; by default all parts of the network but the frozen ViT."""
    keep_cnn: float | None = None
    """Share of the operations of this part alone, beside those of all."""
    keep_transformer: float | None = None
    """Likewise."""
    keep_vit: float | None = None
    """Likewise."""
    keep_decoder: float | None = None
    """Likewise."""
    keep_stages: float | None = None
    """Likewise."""
    data: Literal["procedural", "posed", "re10k", "acid", "dtu", "replica", "chunks"] = "procedural"
    """What to train on, as for hisplat train."""
    root: Path | None = None
    """Folder of the data."""
    examples: int = 1000
    """Number of different procedural scenes; they are made once and kept in --cache."""
    validation_examples: int = 16
    """Number of held-back scenes, on which quality before and after is measured."""
    width: int = 256
    """Image width, a multiple of the network's size multiple."""
    height: int = 192
    """Image height, likewise."""
    targets: int = 3
    """Target views per scene."""
    cache: Path | None = None
    """Folder that keeps procedural scenes; by default OUT/cache."""
    data_seed: int = 1
    """Seed of procedural scenes."""
    evaluate_on: Path | None = None
    """Posed folders of photos, on which quality before and after is measured too."""
    evaluate_size: int = 384
    """Long side of those photos."""
    pairs_per_scene: int | None = None
    """The first so many pairs of each folder; by default all."""
    latency_size: tuple[int, int] = (288, 384)
    """Height and width at which seconds before and after are measured."""
    latency_repeats: int = 5
    """How often."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to work."""
    threads: int | None = None
    """CPU threads; by default torch's own choice."""
    mask_learning_rate: float = 0.05
    """Peak for the masks of s2h."""
    pool_size: int = 2
    """Depths that stp narrows side by side."""
    distillation: DistillationWeights = field(default_factory=DistillationWeights)
    """What smaller networks are taught."""
    train: TrainSettings = field(
        default_factory=lambda: TrainSettings(
            steps=2000, batch_size=2, learning_rate=1e-3, warmup_steps=50, ema_decay=0.99
        )
    )
    """How to train. Losses are those of the network's preset unless they are given."""

    def run(self) -> int:
        """Compresses; 0 when done, 143 when stopped by SIGTERM.

        Raises:
            ValueError: for a network, budgets or sizes that do not go together.
        """
        check_least(1, {"--threads": self.threads})
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        with open_engine(self.device) as engine:
            torch.manual_seed(self.train.seed)
            work = self.prepared(engine.device)
            train, held_back = self._data(work.whole)
            trainer = CompressionTrainer(
                work.trained_copy(),
                work.create_method,
                train,
                held_back,
                self._settings(work.whole),
                self.out,
                self.distillation,
                self.mask_learning_rate,
                engine,
                self._facts(),
            )
            trainer.resume()
            with self.progress(trainer) as show:
                trainer.run(show)
            if trainer.terminated:
                return TERMINATED
            if trainer.step == trainer.settings.steps:
                self._finish(work, trainer, held_back)
        return 0

    def progress(
        self, trainer: Trainer
    ) -> AbstractContextManager[Callable[[TrainProgress], None] | None]:
        """Who is told about each step; here nobody."""
        return nullcontext()

    def prepared(self, device: torch.device) -> CompressionWork:
        """The network, its groups, depths and budgets, before anything is trained.

        Raises:
            ValueError: for parts that the network does not have, budgets that it cannot meet, or a
                network that is compressed already.
        """
        whole = load_model(self.model, device)
        self._check(whole)
        parts = self.parts or tuple(part for part in parts_of(whole) if part != "vit")
        groups, space = channel_groups(whole, parts), depth_space(whole, parts)
        flops, parameters = self._keep_flops(parts), self._keep_params(parts)
        size = (self.height, self.width)
        budgets = part_budgets(whole, groups, flops, parameters, size)
        if self.method in SHORTENING:
            if len(budgets) > 1:
                raise ValueError(f"--method {self.method} takes --keep-flops alone.")
            check_reachable(space, budgets[0])
        return CompressionWork(
            whole, parts, groups, space, budgets, self.method, self.pool_size, self.train
        )

    def _check(self, network: HiSplat) -> None:
        counts = {
            "--examples": self.examples,
            "--validation-examples": self.validation_examples,
            "--targets": self.targets,
            "--width": self.width,
            "--height": self.height,
            "--latency-size": min(self.latency_size),
            "--latency-repeats": self.latency_repeats,
            "--pairs-per-scene": self.pairs_per_scene,
            "--pool-size": self.pool_size,
        }
        check_least(1, counts)
        check_least(SMALLEST_SIZE, {"--evaluate-size": self.evaluate_size})
        for folder in (self.out, self.cache):
            check_folder_out(folder)
        if network.cut is not None:
            raise ValueError(f"{self.model} is compressed already; start from the whole network.")
        multiple = network.size_multiple
        for option, size in (
            ("--width and --height", (self.width, self.height)),
            ("--latency-size", self.latency_size),
        ):
            if any(side % multiple for side in size):
                raise ValueError(f"{option}: expected multiples of {multiple}, got {size}.")
        if self.evaluate_on is not None and not self.evaluate_on.is_dir():
            raise FileNotFoundError(f"--evaluate-on: there is no folder {self.evaluate_on}.")

    def _keep_flops(self, parts: tuple[Part, ...]) -> dict[tuple[Part, ...], float]:
        shares: dict[Part, float | None] = {
            "cnn": self.keep_cnn,
            "transformer": self.keep_transformer,
            "vit": self.keep_vit,
            "decoder": self.keep_decoder,
            "stages": self.keep_stages,
        }
        given: dict[Part, float] = {
            part: share for part, share in shares.items() if share is not None
        }
        unused = [f"--keep-{part}" for part in given if part not in parts]
        if unused:
            raise ValueError(f"{', '.join(unused)}: not among the parts {list(parts)}.")
        every: dict[tuple[Part, ...], float] = {parts: self.keep_flops}
        every.update(((part,), share) for part, share in given.items())
        return every

    def _keep_params(self, parts: tuple[Part, ...]) -> dict[tuple[Part, ...], float]:
        return {} if self.keep_params is None else {parts: self.keep_params}

    def _settings(self, network: HiSplat) -> TrainSettings:
        """The settings, with the losses of the network's preset."""
        if self.train.losses != TrainSettings().losses or network.config.matching_prior:
            return self.train
        return replace(self.train, losses=TRAIN_PRESETS["hisplat"].losses)

    def _data(self, network: HiSplat) -> tuple[ExampleDataset, ExampleDataset]:
        run = TrainingRun(
            self.out,
            data=self.data,
            root=self.root,
            examples=self.examples,
            validation_examples=self.validation_examples,
            width=self.width,
            height=self.height,
            targets=self.targets,
            cache=self.cache,
            data_seed=self.data_seed,
        )
        train, held_back = run.datasets(network.config)
        if held_back is None:
            raise ValueError(
                f"--root needs a folder {self.root}/test: what quality is measured on."
            )
        return train, held_back

    def _facts(self) -> dict[str, Any]:
        run = {k: v for k, v in asdict(self).items() if k not in ("train", "threads")}
        return {"version": __version__, "run": run, "machine": machine()}

    def _finish(
        self, work: CompressionWork, trainer: CompressionTrainer, held_back: ExampleDataset
    ) -> None:
        """Writes the smaller network, then its card."""
        networks = work.results(trainer)
        save_model(networks["slim"], self.out / "slim.safetensors")
        files = ["slim"]
        if self.method in SHORTENING:
            save_model(networks["trained"], self.out / "elastic.safetensors")
            files.append("elastic")
        quality: dict[str, Any] = {"procedural": quality_on_examples(networks, held_back)}
        if self.evaluate_on is not None:
            quality["photos"] = quality_on_photos(
                networks, self.evaluate_on, self.evaluate_size, self.pairs_per_scene
            )
        seconds = {
            f"{threads} threads": latencies(
                networks, self.latency_size, threads, self.latency_repeats
            )
            for threads in (1, 2)
        }
        write_card(
            self.out,
            {
                **self._facts(),
                "steps": trainer.step,
                "training_hours": round(trainer.seconds / 3600, 3),
                **work.description(networks["slim"]),
                "bytes": {
                    name: (self.out / f"{name}.safetensors").stat().st_size for name in files
                },
                "quality": quality,
                "latency_size": self.latency_size,
                "seconds": seconds,
            },
        )
