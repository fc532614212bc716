"""What a compression method must know of a network's work: its loss, and what can be taught."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

from torch import Tensor, nn

Batch = TypeVar("Batch")

Knowledge = Mapping[str, Tensor]
"""What a network teaches another by, e.g. {"logits": (sample, class)}: tensors that may be
averaged over networks (logits, log-disparities), named alike for teacher and student."""


@runtime_checkable
class Prediction(Protocol):
    """A network's output; tasks add what their losses need."""

    @property
    def knowledge(self) -> Knowledge:
        """With gradients, where the network ran with gradients."""
        ...


@runtime_checkable
class CompressionTask(Protocol[Batch]):
    """Classification in the experiments, two-view reconstruction for HiSplat."""

    def predict(self, network: nn.Module, batch: Batch) -> Prediction:
        """Runs the network as it is now: whole, or as the subnet that is active."""
        ...

    def task_loss(self, prediction: Any, batch: Batch) -> Tensor:
        """What the network is trained for, a scalar, of what ``predict`` returned."""
        ...

    def distillation_loss(self, teacher: Knowledge, student: Knowledge) -> Tensor:
        """How far the student is from the teacher, a scalar >= 0; 0 for equals.

        Gradients flow into whichever side is not detached. Maps of different size are brought to
        the student's.
        """
        ...

    def resized(self, batch: Batch, share: float) -> Batch:
        """The batch with inputs of about this share of their side; never changes the batch."""
        ...
