"""The training loop of HiSplat with a compression method's step in it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...network import HiSplat
from ...training import Engine, Trainer, TrainSettings
from ...training.feed import ExampleDataset, Sample
from ..groups import ChannelGroup
from ..step import CompressionStep
from ..subnet import Subnet
from .task import DistillationWeights, Reconstruction


@dataclass(frozen=True)
class Method:
    """A step at work on the network, and the groups that its subnets may name."""

    step: CompressionStep[Sample]
    groups: Sequence[ChannelGroup]


CreateMethod = Callable[[HiSplat, Reconstruction], Method]


class CompressionTrainer(Trainer):
    """Trains a network by a method instead of by its loss alone; resumable as any training.

    Validation is that of the subnet sought so far.

    Args:
        model: The whole network, on its device.
        create_method: Makes the step.
        train: Examples to learn from.
        validation: Held-back examples.
        settings: How to train, in one part and full precision.
        run_dir: Where checkpoints and logs go.
        distillation: What subnets are taught.
        extra_learning_rate: Peak for what the method learns besides the network (masks).
        engine: Of a single process.
        facts: What else the run's card should say.

    Raises:
        ValueError: for settings that steps of several passes cannot have.
    """

    def __init__(
        self,
        model: HiSplat,
        create_method: CreateMethod,
        train: ExampleDataset,
        validation: ExampleDataset | None,
        settings: TrainSettings,
        run_dir: Path,
        distillation: DistillationWeights = DistillationWeights(),  # noqa: B008 (immutable)
        extra_learning_rate: float = 0.05,
        engine: Engine | None = None,
        facts: Mapping[str, Any] | None = None,
    ):
        _check(settings, engine)
        super().__init__(model, train, validation, settings, run_dir, engine=engine, facts=facts)
        self.task = Reconstruction(
            settings.losses,
            self.renderer,
            model.size_multiple,
            distillation,
            self.perceptual,
            seed=settings.seed,
        )
        self.method = create_method(model, self.task)
        extra = list(self.method.step.extra_parameters())
        if extra:
            factor = extra_learning_rate / settings.learning_rate
            self.optimizer.add_param_group({"params": extra, "weight_decay": 0.0, "factor": factor})

    @property
    def result(self) -> Subnet:
        """The subnet sought so far."""
        return self.method.step.result()

    def accumulate_gradients(self, parts: Sequence[Sample]) -> list[dict[str, float]]:
        """Gradients of all losses of the method's step; the losses by name."""
        (batch,) = parts
        self.task.step = self.step
        losses = self.method.step.step(batch)
        return [{"loss": losses["task"], **losses}]

    def train_step(self, parts: Sequence[Sample]) -> dict[str, float]:
        """One step of the optimiser and of the method."""
        terms = super().train_step(parts)
        self.method.step.after_step()
        return terms

    def evaluate(self) -> dict[str, float] | None:
        """As in training, of the subnet sought so far."""
        with self.result.active(self.averaged_model, self.method.groups):
            return super().evaluate()

    def more_state(self) -> dict[str, Any]:
        """The method's."""
        return {"method": self.method.step.state_dict()}

    def take_up(self, more: Mapping[str, Any]) -> None:
        """Goes on with the method.

        Raises:
            ValueError: if the run was none of compression.
        """
        if "method" not in more:
            raise ValueError(f"The run in {self.run_dir} is no compression; use another folder.")
        self.method.step.load_state_dict(more["method"])


def _check(settings: TrainSettings, engine: Engine | None) -> None:
    if settings.micro_batches != 1 or settings.recompute or settings.precision == "bf16":
        raise ValueError(
            "Compression works without --micro-batches, --recompute and --precision bf16: its "
            "steps run several networks in each other's place."
        )
    if engine is not None and engine.world_size > 1:
        raise ValueError("Compression works in a single process; start it without torchrun.")
