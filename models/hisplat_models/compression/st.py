"""ST and ST++: the whole network teaches subnets of itself, drawn anew for each batch.

    loss = main * task(f(x)) + distillation * sum_r distance(f(x) detached, f_r(x_r))

f_r skips the ends of stages at random; each loss has its own backward pass, and one optimiser
step follows. ST (Stimulative Training, NeurIPS 2022): one subnet, any prefix of each stage, KL.
ST++ (arXiv 2305.02507): six subnets, smaller inputs for them, KL-, only stages of many blocks are
shortened. Source of what is called published: training script and logs of Sunshine-Ye/NIPS22-ST.
"""

from dataclasses import dataclass
from typing import Literal, TypeVar

from torch import nn

from .common import WeightsOnlyStep, backward
from .distillation import detached
from .samplers import uniform_depths, uniform_share
from .spaces import DepthSpace
from .task import CompressionTask, Prediction

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class StimulativeSettings:
    """How subnets are taught. The distance, KL or KL-, is the task's."""

    main_weight: float = 1.0
    """Of the whole network's own loss; published."""
    distillation_weight: float = 1.0
    """Of each subnet's loss; published."""
    subnets: int = 1
    """Per batch: 1 is published for ST, 6 for ST++."""
    smallest_input: float = 1.0
    """Sides of a subnet's inputs, as a share drawn between this and 1: 0.43 is published for ST++.
    There, each subnet's input was made from that of the subnet before; here, all come from the
    batch, which is our choice."""
    first_step: int = 0
    """Steps of common training before subnets are drawn; published is 0 (an option there)."""
    target: Literal["network", "labels"] = "network"
    """Who teaches subnets. "network" is published; "labels", their own task loss, is the baseline
    that shows what distillation adds."""

    def __post_init__(self) -> None:
        """Refuses settings without a meaning.

        Raises:
            ValueError: without a subnet, or with inputs that are empty or larger than the batch's.
        """
        if self.subnets < 1:
            raise ValueError(f"Expected one subnet per batch or more, got {self.subnets}")
        if not 0 < self.smallest_input <= 1:
            raise ValueError(f"Expected a smallest input in (0, 1], got {self.smallest_input}")


ST = StimulativeSettings()
"""Goes with the whole space and KL."""
ST_PLUS_PLUS = StimulativeSettings(subnets=6, smallest_input=0.43)
"""Goes with ``DepthSpace.inter_stage`` and KL-."""


class Stimulative(WeightsOnlyStep[Batch]):
    """The step of ST and ST++."""

    def __init__(
        self,
        network: nn.Module,
        space: DepthSpace,
        task: CompressionTask[Batch],
        settings: StimulativeSettings = ST,
        seed: int = 0,
    ) -> None:
        """ST; with ``ST_PLUS_PLUS``, its space and a task of KL-, ST++.

        Args:
            network: Trained in place.
            space: Depths of which subnets are drawn.
            task: The network's work, and how far a subnet's output is from the network's.
            settings: How many subnets are taught, and by whom.
            seed: Of all that is drawn.
        """
        super().__init__(network, task, seed)
        self.space = space
        self.settings = settings

    def step(self, batch: Batch) -> dict[str, float]:
        """Gradients of the whole network's loss and of each subnet's; subnets' losses are meant."""
        prediction, loss = self._task_step(batch, self.settings.main_weight)
        if self.steps < self.settings.first_step:
            return {"task": loss, "subnets": 0.0}
        teacher = detached(prediction.knowledge)
        losses = []
        for _ in range(self.settings.subnets):
            subnet = self.space.subnet(uniform_depths(self.space, self.generator))
            share = uniform_share(self.settings.smallest_input, self.generator)
            inputs = self.task.resized(batch, share) if share < 1 else batch
            with subnet.active(self.network, ()):
                student = self.task.predict(self.network, inputs)
                losses.append(self._teach(teacher, student, inputs))
        return {"task": loss, "subnets": sum(losses) / len(losses)}

    def _teach(self, teacher: dict, student: Prediction, inputs: Batch) -> float:
        weight = self.settings.distillation_weight
        if self.settings.target == "labels":
            return backward(self.task.task_loss(student, inputs), weight)
        return self._distil(teacher, student, weight)
