"""Common training, beside which methods are judged, and what the steps of ST and GKT share."""

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from .groups import ChannelGroup
from .subnet import Subnet
from .task import CompressionTask, Knowledge, Prediction

Batch = TypeVar("Batch")


class WeightsOnlyStep(Generic[Batch]):
    """Part of a step that learns nothing but the network's weights and seeks no subnet.

    Attributes:
        network: Trained in place.
        task: Its work.
        groups: Its channel groups, as ``Subnet.active`` wants them.
        generator: All randomness of the step; on the CPU, so that it does not depend on devices.
        steps: How many steps were made.
    """

    def __init__(
        self,
        network: nn.Module,
        task: CompressionTask[Batch],
        seed: int = 0,
        groups: Sequence[ChannelGroup] = (),
    ) -> None:
        """Equal seeds draw equal subnets, which all processes of one training must do."""
        self.network = network
        self.task = task
        self.groups = groups
        self.generator = torch.Generator().manual_seed(seed)
        self.steps = 0

    def step(self, batch: Batch) -> Mapping[str, float]:
        """Gradients of all losses of one batch; the losses by name."""
        raise NotImplementedError

    def after_step(self) -> None:
        """Counts."""
        self.steps += 1

    def extra_parameters(self) -> tuple[nn.Parameter, ...]:
        """None."""
        return ()

    def result(self) -> Subnet:
        """The whole network."""
        return Subnet()

    def state_dict(self) -> dict[str, Any]:
        """Where the random numbers and the count stand."""
        return {"generator": self.generator.get_state(), "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up where ``state_dict`` was taken."""
        self.generator.set_state(state["generator"].cpu())
        self.steps = state["steps"]

    def _task_step(self, batch: Batch, weight: float = 1.0) -> tuple[Prediction, float]:
        """Gradients of the whole network's own loss; its output and the loss."""
        prediction = self.task.predict(self.network, batch)
        loss = self.task.task_loss(prediction, batch)
        (weight * loss).backward()
        return prediction, loss.item()

    def _distil(self, teacher: Knowledge, student: Prediction, weight: float) -> float:
        """Gradients of the student's distance from the teacher; the distance."""
        return backward(self.task.distillation_loss(teacher, student.knowledge), weight)


class CommonTraining(WeightsOnlyStep[Batch]):
    """The whole network on its own loss, nothing else."""

    def step(self, batch: Batch) -> dict[str, float]:
        """Gradients of the task's loss."""
        _, loss = self._task_step(batch)
        return {"task": loss}


def backward(loss: Tensor, weight: float) -> float:
    """Adds the gradients of the weighted loss; returns the loss itself."""
    (weight * loss).backward()
    return loss.item()
