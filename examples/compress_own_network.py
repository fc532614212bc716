"""A residual network of one's own, cut to half of its operations in one training run.

The network is any ``nn.Module``; ``Digits`` tells the library what it is for. S2HPruner learns how
many channels each layer keeps while the weights are trained, and what is left needs no fine-tuning.
Needs the extra ``compress``, and scikit-learn for its data.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from hisplat_models.compression.budgets import Budget, flop_cost
from hisplat_models.compression.dependency import find_groups
from hisplat_models.compression.distillation import kl
from hisplat_models.compression.s2h import S2HPruner
from hisplat_models.compression.slim_files import load_slimmed, save_slimmed
from hisplat_models.compression.slimming import slimmed
from hisplat_models.compression.statistics import reestimated_statistics
from hisplat_models.compression.task import Knowledge

Batch = tuple[Float[Tensor, "image 1 8 8"], Int64[Tensor, " image"]]


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1):
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.shortcut = nn.Conv2d(channels_in, channels, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Features of the next block."""
        return torch.relu(self.inner(x) + self.shortcut(x))


def resnet() -> nn.Sequential:
    """The network, whole and untrained."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        *(Block(16, 16), Block(16, 16), Block(16, 32, stride=2), Block(32, 32)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


@dataclass(frozen=True)
class Logits:
    """The network's output."""

    logits: Float[Tensor, "image classes"]

    @property
    def knowledge(self) -> Knowledge:
        """What one network teaches another."""
        return {"logits": self.logits}


class Digits:
    """What the network is for: its output, its loss, and how two outputs differ."""

    def predict(self, network: nn.Module, batch: Batch) -> Logits:
        """Runs the network."""
        return Logits(network(batch[0]))

    def task_loss(self, prediction: Logits, batch: Batch) -> Float[Tensor, ""]:
        """Cross-entropy on labels."""
        return functional.cross_entropy(prediction.logits, batch[1])

    def distillation_loss(self, teacher: Knowledge, student: Knowledge) -> Float[Tensor, ""]:
        """Divergence of classes."""
        return kl(teacher["logits"], student["logits"])

    def resized(self, batch: Batch, share: float) -> Batch:
        """Smaller images, for methods that want them (ST++)."""
        return functional.interpolate(batch[0], scale_factor=share), batch[1]


def main(output: Path, epochs: int = 30, keep: float = 0.5) -> tuple[nn.Module, float]:
    """Trains, cuts, saves, loads; the small network and the percent of new digits it gets right."""
    pixels, classes = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16 - 0.3
    labels = torch.tensor(classes, dtype=torch.int64)
    train, test = (images[:1200], labels[:1200]), (images[1200:], labels[1200:])

    network, task = resnet(), Digits()
    groups = find_groups(network, (images[:1],))
    budget = Budget(flop_cost(network, groups, (images[:1],)), keep)
    method = S2HPruner(network, groups, task, [budget])
    weights = torch.optim.SGD(network.parameters(), 0.05, 0.9, weight_decay=5e-4, nesterov=True)
    masks = torch.optim.SGD(method.extra_parameters(), 0.1, 0.9)
    for _ in range(epochs):
        for chosen in torch.randperm(len(train[0])).split(64):
            weights.zero_grad()
            method.step((train[0][chosen], train[1][chosen]))
            weights.step()
            masks.step()
            method.after_step()

    subnet = method.result()
    small = slimmed(network, groups, subnet)
    reestimated_statistics(small, [train], task.predict)
    save_slimmed(small, subnet.cut(network, groups), output)

    loaded = load_slimmed(resnet(), output).eval()
    with torch.no_grad():
        right = 100 * (loaded(test[0]).argmax(1) == test[1]).double().mean().item()
    print(f"{100 * method.shares()[0]:.0f} % of operations, {right:.1f} % of digits right")
    return loaded, right


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "small.safetensors"))
