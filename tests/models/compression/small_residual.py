"""A small residual network, its work and its batches, for tests of training steps."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from benchmarks.compression.networks import ResidualNet, depth_space
from benchmarks.compression.tasks import Classification, ClassPrediction, ImageBatch
from hisplat_models.compression.spaces import DepthSpace
from hisplat_models.compression.task import Knowledge

CLASSES = 5


def network(seed: int = 0, blocks: tuple[int, ...] = (2, 3)) -> ResidualNet:
    torch.manual_seed(seed)
    return ResidualNet(CLASSES, widths=(4, 8), blocks=blocks)


def space(blocks: tuple[int, ...] = (2, 3)) -> DepthSpace:
    return depth_space(network(blocks=blocks))


def batch(count: int = 8, seed: int = 0) -> ImageBatch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 1, 12, 12, generator=generator)
    return ImageBatch(images, torch.randint(CLASSES, (count,), generator=generator))


def gradients(net: nn.Module) -> dict[str, Tensor]:
    """By name; zeros where there is none."""
    return {
        name: torch.zeros_like(values) if values.grad is None else values.grad.clone()
        for name, values in net.named_parameters()
    }


@dataclass(frozen=True)
class Watched(Classification):
    """Remembers the batches it predicted, and what teachers and students were."""

    seen: list[Tensor] = field(default_factory=list)
    taught: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def predict(self, network: nn.Module, batch: ImageBatch) -> ClassPrediction:
        self.seen.append(batch.images)
        return super().predict(network, batch)

    def distillation_loss(self, teacher: Knowledge, student: Knowledge) -> Tensor:
        self.taught.append((teacher["logits"], student["logits"]))
        return super().distillation_loss(teacher, student)
