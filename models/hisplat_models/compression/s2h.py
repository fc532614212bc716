"""S2HPruner: a soft network learns how wide to be, and teaches the hard network cut out of it.

    s = f(x; weights, soft masks),  h = f(x; weights cut by the masks' hard sizes)
    weights: task(s), and distance(s detached, h) through the hard network only
    masks:   task(s), distance(s, h detached) through the soft network only, and the budgets

S2HPruner (NeurIPS 2024, arXiv 2410.07046): the distance never moves weights through the soft
network, so they cannot close the gap by making it worse. The hard network is what is left at the
end, without fine-tuning. Which loss the soft network has, how the three gradients of the masks are
weighed, and all speeds are our choice: the published settings are not public.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from .budgets import Budget
from .common import WeightsOnlyStep
from .distillation import detached
from .groups import ChannelGroup
from .masks import SizeMasks, importance_order, in_channel_order, masked, subnet_of_sizes
from .subnet import Subnet
from .task import CompressionTask, Prediction

Batch = TypeVar("Batch")

Gradients = Sequence[Tensor]


@dataclass(frozen=True)
class S2HSettings:
    """How masks and hard network learn. Speeds of weights and masks are the optimiser's."""

    gap: Literal["decoupled", "coupled", "one_way", "none"] = "decoupled"
    """What the distance between soft and hard network moves. "decoupled" is published: weights
    through the hard one, masks through the soft one. Baselines: "coupled", all through both;
    "one_way", weights through the hard one only; "none", nothing: there is no hard network before
    the end (a plain differentiable mask)."""
    gap_weight: float = 1.0
    """Of the distance in the weights' loss; our choice."""
    budget_pull: float = 3.0
    """Length of the budgets' gradient against 1 for task and gap each, per group; our choice. It
    must outweigh both together, or sizes stop short of the budget."""
    tolerance: float = 0.01
    """Share of the cost within which a budget's pull fades; that it fades is published."""
    temperature: float = 1.0
    """Of the softmax over sizes; our choice."""
    warm_up_steps: int = 0
    """Steps of common training before there are masks; our choice (an option there)."""
    centred: bool = True
    """Whether masks' logits are centred after each step, of which nothing depends; published."""
    full_teacher: bool = False
    """Whether the whole network is trained, too, and teaches the soft one; our choice, after a
    teacher in the published code that the paper's figure does not show."""


class S2HPruner(WeightsOnlyStep[Batch]):
    """The step of S2HPruner.

    Attributes:
        masks: Learned beside the network, at a speed of their own and without weight decay.
        budgets: None of which is to be exceeded; the tightest is to be used up.
    """

    def __init__(
        self,
        network: nn.Module,
        groups: Sequence[ChannelGroup],
        task: CompressionTask[Batch],
        budgets: Sequence[Budget],
        settings: S2HSettings = S2HSettings(),
    ) -> None:
        """Masks start with nearly all channels kept.

        Args:
            network: Trained in place.
            groups: May be narrowed.
            task: The network's work.
            budgets: All are met.
            settings: How soft and hard network learn of each other.

        Raises:
            ValueError: for a group whose channels nothing reads.
        """
        super().__init__(network, task, groups=groups)
        self.masks = SizeMasks(groups, settings.temperature)
        self.masks.to(next(network.parameters()).device)
        self.budgets = budgets
        self.settings = settings

    def step(self, batch: Batch) -> dict[str, float]:
        """Gradients of weights and masks; losses of task and gap, kept shares of the budgets."""
        shares = {f"keep_{i}": share for i, share in enumerate(self.shares())}
        if self.steps < self.settings.warm_up_steps:
            _, loss = self._task_step(batch)
            return {"task": loss, "gap": 0.0, **shares}
        soft, loss, of_task = self._soft_pass(batch)
        gap, of_gap = self._gap_pass(batch, soft)
        self._set_mask_gradients(of_task, of_gap)
        return {"task": loss, "gap": gap, **shares}

    def after_step(self) -> None:
        """Counts, and centres the masks' logits."""
        super().after_step()
        if self.settings.centred:
            self.masks.centre()

    def extra_parameters(self) -> tuple[nn.Parameter, ...]:
        """The masks' logits."""
        return tuple(self.masks.logits)

    def result(self) -> Subnet:
        """The hard network as masks and weights are now."""
        return subnet_of_sizes(self.network, self.groups, self.masks.hard_sizes())

    def shares(self) -> list[float]:
        """How much of each budget's cost the hard network keeps."""
        sizes = self.masks.hard_sizes()
        return [budget.share(sizes) for budget in self.budgets]

    @contextmanager
    def soft_masks_active(self, network: nn.Module) -> Iterator[None]:
        """While entered, the network (this one, or a copy) is the soft one."""
        orders = importance_order(network, self.groups)
        with masked(network, self.groups, in_channel_order(self.masks.by_rank(), orders)):
            yield

    def soft_prediction(self, batch: Batch) -> Prediction:
        """The soft network's output."""
        with self.soft_masks_active(self.network):
            return self.task.predict(self.network, batch)

    def state_dict(self) -> dict[str, Any]:
        """The masks, besides the count."""
        return {**super().state_dict(), "masks": self.masks.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up where ``state_dict`` was taken."""
        super().load_state_dict(state)
        self.masks.load_state_dict(state["masks"])

    def _soft_pass(self, batch: Batch) -> tuple[Prediction, float, Gradients]:
        """Output, task loss and the masks' gradients of it; the weights' are accumulated.

        The output's graph is kept for the gap.
        """
        teacher = None
        if self.settings.full_teacher:
            whole, _ = self._task_step(batch)
            teacher = detached(whole.knowledge)
        soft = self.soft_prediction(batch)
        loss = self.task.task_loss(soft, batch)
        total = loss
        if teacher is not None:
            total = total + self.task.distillation_loss(teacher, soft.knowledge)
        self.masks.zero_grad()
        total.backward(retain_graph=self.settings.gap != "none")
        return soft, loss.item(), self._taken_gradients()

    def _gap_pass(self, batch: Batch, soft: Prediction) -> tuple[float, Gradients]:
        """Distance of the hard network from the soft one, and the masks' gradients of it."""
        how = self.settings.gap
        if how == "none":
            return 0.0, self._zeros()
        with self.result().active(self.network, self.groups):
            hard = self.task.predict(self.network, batch)
        if how == "coupled":
            gap = self.task.distillation_loss(soft.knowledge, hard.knowledge)
            (self.settings.gap_weight * gap).backward()
            return gap.item(), self._taken_gradients()
        gap = self._distil(detached(soft.knowledge), hard, self.settings.gap_weight)
        if how == "one_way":
            return gap, self._zeros()
        for_masks = self.task.distillation_loss(soft.knowledge, detached(hard.knowledge))
        return gap, torch.autograd.grad(for_masks, list(self.masks.logits))

    def _set_mask_gradients(self, of_task: Gradients, of_gap: Gradients) -> None:
        """Adds the directions of task, gap and, as far as they are missed, budgets."""
        excess, of_budgets = self.budget_gradients()
        fade = min(excess / self.settings.tolerance**2, 1.0)
        for logits, task, gap, budget in zip(
            self.masks.logits, of_task, of_gap, of_budgets, strict=True
        ):
            pull = fade * self.settings.budget_pull
            logits.grad = _unit(task) + _unit(gap) + pull * _unit(budget)

    def budget_gradients(self) -> tuple[float, Gradients]:
        """Square of the excess over the tightest budget, at hard sizes, and the masks' gradients.

        The tightest is that which is exceeded most, or undercut least: sizes grow until one budget
        is used up, and no other is exceeded then.
        """
        sizes = self.masks.straight_through_sizes()
        excess = [budget.soft_share(sizes) - budget.keep for budget in self.budgets]
        total = torch.stack(excess).max().square()
        gradients = torch.autograd.grad(total, list(self.masks.logits), allow_unused=True)
        zeros = self._zeros()
        return total.item(), [
            zero if gradient is None else gradient
            for zero, gradient in zip(zeros, gradients, strict=True)
        ]

    def _taken_gradients(self) -> Gradients:
        """The masks' gradients, which are cleared."""
        gradients = [logits.grad for logits in self.masks.logits]
        self.masks.zero_grad()
        return [
            zero if gradient is None else gradient
            for zero, gradient in zip(self._zeros(), gradients, strict=True)
        ]

    def _zeros(self) -> Gradients:
        return [torch.zeros_like(logits) for logits in self.masks.logits]


def _unit(gradient: Tensor) -> Tensor:
    """Its direction; zero if it has none."""
    return gradient / gradient.norm().clamp_min(1e-12)
