"""``hisplat train``: one process, or many under torchrun, on any device."""

import os
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import torch.distributed as dist
import tyro

from hisplat_models.checkpoints import load_model
from hisplat_models.config import PRESETS
from hisplat_models.network import HiSplat
from hisplat_models.training.loop import Trainer, TrainProgress, TrainSettings


@dataclass
class Train:
    """Train a network and keep its averaged weights as RUN_DIR/averaged.safetensors.

    Start it again with the same arguments to go on where it stopped. Under torchrun the batch is
    shared by the processes:

      torchrun --nproc-per-node 2 -m hisplat_app train --run-dir runs/two
    """

    run_dir: Path
    """Where checkpoints, logs and weights go."""
    preset: Literal["hisplat-small", "hisplat"] = "hisplat-small"
    """Network to train."""
    data: Literal["procedural"] = "procedural"
    """What to train on: random scenes made on the spot."""
    examples: int = 4000
    """Number of different training scenes; they are made once and kept in --cache."""
    validation_examples: int = 16
    """Number of held-back scenes."""
    width: int = 256
    """Image width, a multiple of the network's size multiple."""
    height: int = 192
    """Image height, likewise."""
    targets: int = 3
    """Target views per scene."""
    cache: Path | None = None
    """Folder that keeps the scenes; by default RUN_DIR/cache."""
    data_seed: int = 1
    """Seed of the scenes."""
    init: str | None = None
    """Weights to start from (a bundled name or a file); by default the untrained preset."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train."""
    threads: int | None = None
    """CPU threads of each process; by default torch's own choice."""
    train: Annotated[TrainSettings, tyro.conf.OmitArgPrefixes] = field(
        default_factory=TrainSettings
    )
    """How to train."""

    def run(self) -> int:
        """Trains to the end; 0 when done.

        Raises:
            ValueError: for sizes that the network cannot take, or weights of another network.
        """
        multiple = PRESETS[self.preset].size_multiple
        if self.width % multiple or self.height % multiple:
            raise ValueError(
                f"Expected --width and --height that are multiples of {multiple}, got "
                f"{self.width}x{self.height}."
            )
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        with _process_group(self.device) as device:
            torch.manual_seed(self.train.seed)
            model = self._model().to(device)
            trainer = Trainer(
                model,
                self._dataset("train", self.examples, self.data_seed),
                self._dataset("validation", self.validation_examples, self.data_seed + 1_000_000),
                self.train,
                self.run_dir,
            )
            trainer.resume()
            with _progress_line(trainer) as show:
                trainer.run(show)
        return 0

    def _model(self) -> HiSplat:
        if self.init is None:
            return HiSplat(PRESETS[self.preset])
        model = load_model(self.init)
        if model.config != PRESETS[self.preset]:
            raise ValueError(
                f"{self.init} holds another network than {self.preset!r}; pass the right --preset."
            )
        return model

    def _dataset(self, part: str, length: int, seed: int):
        from hisplat_data_tools.datasets.cached import CachedDataset
        from hisplat_data_tools.procedural import ProceduralDataset, ProceduralSettings

        settings = replace(
            ProceduralSettings(),
            width=self.width,
            height=self.height,
            target_views=self.targets,
        )
        root = self.cache or self.run_dir / "cache"
        folder = root / f"{part}-{self.width}x{self.height}-{self.targets}-seed{seed}"
        return CachedDataset(ProceduralDataset(settings, seed, length), folder)


@contextmanager
def _process_group(device: str):
    """The process's device; joins the other processes where a launcher started several."""
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield torch.device("cuda" if cuda else "cpu")
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        if cuda:
            torch.cuda.set_device(local)
        yield torch.device("cuda", local) if cuda else torch.device("cpu")
    finally:
        dist.destroy_process_group()


@contextmanager
def _progress_line(trainer: Trainer):
    """A rich progress line on the first process, nothing on the others."""
    if trainer.rank:
        yield None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns) as bar:
        task = bar.add_task("", total=trainer.settings.steps, completed=trainer.step)

        def show(progress: TrainProgress) -> None:
            text = f"loss {progress.loss:.4f}  {progress.seconds_per_step:.2f} s/step"
            bar.update(task, completed=progress.step, description=text)
            if progress.validation is not None:
                psnr, loss = progress.validation["psnr"], progress.validation["loss"]
                bar.console.print(
                    f"step {progress.step}: validation PSNR {psnr:.2f} dB, loss {loss:.4f}"
                )

        yield show
