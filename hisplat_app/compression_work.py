"""What one compression works on, and what comes out of it."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import nn

from hisplat_models.compression.budgets import Budget
from hisplat_models.compression.depth_choice import LossOfDepths, depths_by_loss, depths_within
from hisplat_models.compression.gkt import GroupKnowledge
from hisplat_models.compression.groups import ChannelGroup
from hisplat_models.compression.hisplat import Part
from hisplat_models.compression.hisplat.slim import slim_copy
from hisplat_models.compression.hisplat.task import Reconstruction
from hisplat_models.compression.hisplat.trainer import CompressionTrainer, Method
from hisplat_models.compression.s2h import S2HPruner
from hisplat_models.compression.spaces import DepthSpace
from hisplat_models.compression.st import Stimulative
from hisplat_models.compression.statistics import reestimated_statistics
from hisplat_models.compression.stp import STP, STPSettings
from hisplat_models.compression.subnet import Subnet
from hisplat_models.network import HiSplat
from hisplat_models.training import TrainSettings
from hisplat_models.training.feed import Sample, SampleKey, TrainingSamples

MethodName = Literal["st", "gkt", "stp", "s2h"]
SHORTENING: tuple[MethodName, ...] = ("st", "gkt")
"""Methods that train subnets of every depth and seek none."""

DEPTH_SAMPLES = 4
"""Samples on which the loss of skipping a block is measured."""
STATISTICS_SAMPLES = 64
"""Samples from which batch norms' statistics are taken again."""


@dataclass
class CompressionWork:
    """A network and how it is made smaller.

    Attributes:
        whole: As it came.
        parts: That are made smaller.
        groups: Channels that may be left out.
        space: Blocks that may be skipped.
        budgets: What may be kept; the first is that of all parts' operations.
        method: By which.
        pool_size: Depths that "stp" narrows side by side.
        settings: Of the training.
        subnet: What was kept, once ``results`` was called.
    """

    whole: HiSplat
    parts: tuple[Part, ...]
    groups: Sequence[ChannelGroup]
    space: DepthSpace
    budgets: Sequence[Budget]
    method: MethodName
    pool_size: int
    settings: TrainSettings
    subnet: Subnet = field(default_factory=Subnet)

    def trained_copy(self) -> HiSplat:
        """The network to train; its ViT too, if that is among the parts."""
        network = copy.deepcopy(self.whole)
        network.depths = {}
        if "vit" in self.parts:
            assert network.monocular is not None
            network.monocular.vit.requires_grad_(True)
        return network

    def create_method(self, network: HiSplat, task: Reconstruction) -> Method:
        """The method's step."""
        return Method(self._step(network, task), self.groups)

    def _step(self, network: HiSplat, task: Reconstruction) -> Any:
        seed = self.settings.seed
        if self.method == "st":
            return Stimulative(network, self.space, task, seed=seed)
        if self.method == "gkt":
            return GroupKnowledge(network, self.space, task, seed=seed)
        if self.method == "s2h":
            return S2HPruner(network, self.groups, task, self.budgets)
        settings = STPSettings(pool_size=self.pool_size)
        steps = self.settings.steps
        return STP(network, self.groups, task, self.budgets, steps, self.space, settings, seed=seed)

    def results(self, trainer: CompressionTrainer) -> dict[str, HiSplat]:
        """Networks to compare.

        "whole" as it came, "slim", and of an elastic one "trained" at its full depth, "balanced".
        """
        trained = trainer.averaged_model.eval()
        if self.method not in SHORTENING:
            self.subnet = trainer.result
            return {"whole": self.whole, "slim": self._slim(trainer, trained, self.subnet)}
        fast, balanced = self._depths(trainer, trained)
        self.subnet = fast
        trained.depths = {"fast": fast.skipped, "balanced": balanced.skipped}
        return {
            "whole": self.whole,
            "trained": trained,
            "balanced": self._slim(trainer, trained, balanced),
            "slim": self._slim(trainer, trained, fast),
        }

    def _slim(self, trainer: CompressionTrainer, trained: HiSplat, subnet: Subnet) -> HiSplat:
        slim = slim_copy(trained, self.groups, subnet).eval()
        if any(isinstance(module, nn.BatchNorm2d) for module in slim.modules()):
            samples = _samples(trainer, STATISTICS_SAMPLES)
            reestimated_statistics(slim, samples, trainer.task.predict)
        return slim

    def _depths(self, trainer: CompressionTrainer, trained: HiSplat) -> tuple[Subnet, Subnet]:
        """The depth of the budget, and one half-way to it."""
        weights = replace(trainer.task.distillation, render_every=0)
        task = replace(trainer.task, distillation=weights)
        samples = list(_samples(trainer, DEPTH_SAMPLES))
        loss = LossOfDepths(trained, self.groups, self.space, task, samples)
        budget = self.budgets[0]
        order = list(depths_by_loss(self.space, budget, loss))
        halfway = replace(budget, keep=(1 + budget.keep) / 2)
        fast, balanced = (depths_within(self.space, b, iter(order)) for b in (budget, halfway))
        return self.space.subnet(fast), self.space.subnet(balanced)

    def description(self, slim: HiSplat) -> dict[str, Any]:
        """What was kept of blocks, channels, operations, parameters."""
        cost = self.budgets[0].cost
        kept = self.subnet.kept
        skipped = sorted(self.subnet.skipped)
        return {
            "parts": list(self.parts),
            "flops": {
                "whole": cost.of(),
                "kept": cost.of(self.subnet),
                "share": round(cost.of(self.subnet) / cost.of(), 4),
                "of": "all layers of the parts, two photos of the training's size",
            },
            "parameters": {"whole": _parameters(self.whole), "kept": _parameters(slim)},
            "skipped_blocks": skipped,
            "kept_channels": {
                group.name: {
                    "of": group.channels,
                    "kept": kept[group.name].tolist()
                    if group.name in kept
                    else list(range(group.channels)),
                }
                for group in self.groups
                if not any(group.name.startswith(f"{block}.") for block in skipped)
            },
        }


def _parameters(network: HiSplat) -> int:
    return sum(p.numel() for p in network.parameters())


def _samples(trainer: CompressionTrainer, count: int) -> Iterable[Sample]:
    """The first training samples, as they are."""
    with_prior = trainer.model.config.matching_prior
    samples = TrainingSamples(trainer.train_data, with_prior, seed=0, augment="none")
    for index in range(min(count, len(samples))):
        yield samples[SampleKey(0, index)].to(trainer.device)
