"""GKT, Group Knowledge Training (AAAI 2024, arXiv 2308.13772): groups of subnets teach the next.

Subnets are drawn within subnets; the i-th of each chain belongs to group i. The knowledge of a
group is an exponential moving average of what its subnets predicted for this batch, and teaches
the next group:

    K_0 = f(x),  a_0 = whole network
    a_i within a_(i-1),  loss_i = distance(K_(i-1), f(x; a_i))
    K_i <- averaging K_i + (1 - averaging) f(x; a_i)

Several loops start again from the whole network. Public are the abstract and captions: sampling
of subnets in subnets, the moving average, the neighbouring teacher, loops, and a preference for
large subnets called "inheriting exponential decay". The decay law, all numbers and weights, and
that knowledge is forgotten after each batch (logits belong to their samples) are our choice.
"""

from dataclasses import dataclass
from typing import Literal, TypeVar

from torch import Tensor, nn

from .common import WeightsOnlyStep
from .distillation import averaged, detached
from .samplers import decaying_depths, nested_depths
from .spaces import Depths, DepthSpace
from .task import CompressionTask

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class GroupKnowledgeSettings:
    """How groups are drawn and teach. The distance, KL or KL-, is the task's."""

    groups: int = 2
    """Length of a chain of subnets; ours."""
    loops: int = 1
    """Chains per batch, each from the whole network; that there may be several is published, the
    number is ours. A batch costs 1 + groups * loops forward passes."""
    averaging: float = 0.5
    """Weight of a group's knowledge so far when a further subnet of it is averaged in; that an
    exponential moving average is taken is published, the number is ours. Without effect for one
    loop."""
    decay: float = 0.5
    """A stage loses d blocks with a probability proportional to decay^d; ours. 1 draws evenly."""
    distillation_weight: float = 1.0
    """Of each subnet's loss; ours."""
    inherit: bool = True
    """Whether a subnet is drawn within that of the group above, and smaller (published), or within
    the whole network (to see what nesting adds)."""
    teacher: Literal["group_above", "network"] = "group_above"
    """"group_above" is published; "network" is ST with GKT's sampling."""

    def __post_init__(self) -> None:
        """Refuses settings without a meaning.

        Raises:
            ValueError: without a group or loop, or with an averaging outside [0, 1) or a decay
                outside (0, 1].
        """
        if self.groups < 1 or self.loops < 1:
            raise ValueError(
                f"Expected one group and loop or more, got {self.groups} and {self.loops}"
            )
        if not 0 <= self.averaging < 1:
            raise ValueError(f"Expected an averaging in [0, 1), got {self.averaging}")
        if not 0 < self.decay <= 1:
            raise ValueError(f"Expected a decay in (0, 1], got {self.decay}")


GKT = GroupKnowledgeSettings()
"""Three forward passes per batch."""


class GroupKnowledge(WeightsOnlyStep[Batch]):
    """The step of GKT."""

    def __init__(
        self,
        network: nn.Module,
        space: DepthSpace,
        task: CompressionTask[Batch],
        settings: GroupKnowledgeSettings = GKT,
        seed: int = 0,
    ) -> None:
        """A chain of subnets within subnets for every batch.

        Args:
            network: Trained in place.
            space: Depths of which subnets are drawn.
            task: The network's work, and how far a subnet's output is from the network's.
            settings: How chains are drawn, and who teaches whom.
            seed: Of all that is drawn.
        """
        super().__init__(network, task, seed)
        self.space = space
        self.settings = settings

    def step(self, batch: Batch) -> dict[str, float]:
        """Gradients of the whole network's loss and of all subnets'; losses by group."""
        prediction, loss = self._task_step(batch)
        losses = {"task": loss}
        knowledge: list[dict[str, Tensor]] = [detached(prediction.knowledge)]
        for loop in range(self.settings.loops):
            for group, depths in enumerate(self.chain(), start=1):
                above = group - 1 if self.settings.teacher == "group_above" else 0
                distance, said = self._taught(batch, depths, knowledge[above])
                name = f"group {group}"
                losses[name] = losses.get(name, 0.0) + distance / self.settings.loops
                if loop == 0:
                    knowledge.append(said)
                else:
                    knowledge[group] = averaged(knowledge[group], said, self.settings.averaging)
        return losses

    def chain(self) -> list[Depths]:
        """The depths of one loop, group by group."""
        chain = [self.space.full]
        for _ in range(self.settings.groups):
            if self.settings.inherit:
                chain.append(
                    nested_depths(self.space, chain[-1], self.settings.decay, self.generator)
                )
            else:
                chain.append(
                    decaying_depths(
                        self.space, self.space.full, self.settings.decay, self.generator
                    )
                )
        return chain[1:]

    def _taught(
        self, batch: Batch, depths: Depths, teacher: dict[str, Tensor]
    ) -> tuple[float, dict[str, Tensor]]:
        """Gradients of one subnet's loss; the loss, and what the subnet predicted."""
        with self.space.subnet(depths).active(self.network, ()):
            student = self.task.predict(self.network, batch)
            distance = self._distil(teacher, student, self.settings.distillation_weight)
        return distance, detached(student.knowledge)
