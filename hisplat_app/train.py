"""``hisplat train``: one process, or many under torchrun, on any device."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hisplat_models.training import Trainer, TrainProgress

from .training_run import PublishedTrainingRun, TrainingRun

Show = Callable[[TrainProgress], None]


@tyro.conf.configure(tyro.conf.OmitArgPrefixes)
@dataclass
class Train(TrainingRun):
    """Train a network and keep its weights in RUN_DIR.

    Start it again with the same arguments to go on where it stopped. Under torchrun the batch is
    shared by the processes, on one machine or several:

      torchrun --nproc-per-node 2 -m hisplat_app train --run-dir runs/two

    As published: --preset hisplat (its --help shows other defaults).
    """

    @classmethod
    def for_arguments(cls, arguments: Sequence[str]) -> "type[Train] | type[TrainPublished]":
        """The command whose defaults are those of the preset that the arguments name."""
        pairs = zip(arguments, [*arguments[1:], ""], strict=True)
        named = any(
            argument == "--preset=hisplat" or (argument, value) == ("--preset", "hisplat")
            for argument, value in pairs
        )
        return TrainPublished if named else cls

    def progress(self, trainer: Trainer) -> AbstractContextManager[Show | None]:
        """A progress line on the first process, nothing on the others."""
        return progress_line(trainer)


@tyro.conf.configure(tyro.conf.OmitArgPrefixes)
@dataclass
class TrainPublished(PublishedTrainingRun):
    """Train the published network, by default as published, and keep its weights in RUN_DIR.

    Start it again with the same arguments to go on where it stopped. Under torchrun the batch is
    shared by the processes, on one machine or several:

      torchrun --nproc-per-node 8 -m hisplat_app train --preset hisplat --run-dir runs/re10k
        --data re10k --root datasets/re10k --dinov2 FILE --unimatch FILE
    """

    def progress(self, trainer: Trainer) -> AbstractContextManager[Show | None]:
        """A progress line on the first process, nothing on the others."""
        return progress_line(trainer)


def progress_line(trainer: Trainer) -> AbstractContextManager[Show | None]:
    """A line that shows each step of a run; nothing on any process but the first."""
    return nullcontext() if trainer.engine.rank else _progress_line(trainer)


@contextmanager
def _progress_line(trainer: Trainer) -> Iterator[Show]:
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
