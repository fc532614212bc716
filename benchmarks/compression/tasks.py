"""Classification of images: data, batches, and what compression methods must know of the work."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from hisplat_models.compression.distillation import LogitDistillation, normalised_logits
from hisplat_models.compression.task import Knowledge


@dataclass(frozen=True)
class ImageBatch:
    """Images and their classes."""

    images: Float[Tensor, "batch channels height width"]
    labels: Int64[Tensor, " batch"]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, chosen: Int64[Tensor, " chosen"] | slice) -> "ImageBatch":
        return ImageBatch(self.images[chosen], self.labels[chosen])

    def moved(self, most_px: int, generator: torch.Generator) -> "ImageBatch":
        """Images shifted by up to so many pixels, at random."""
        return ImageBatch(moved(self.images, most_px, generator), self.labels)


@dataclass(frozen=True)
class Data:
    """What is trained on, and what is measured on."""

    train: ImageBatch
    test: ImageBatch
    classes: int


@dataclass(frozen=True)
class ClassPrediction:
    """A classifier's output; its knowledge is the logits."""

    logits: Float[Tensor, "batch classes"]

    @property
    def knowledge(self) -> Knowledge:
        """The logits by name."""
        return {"logits": self.logits}


@dataclass(frozen=True)
class Classification:
    """Cross-entropy on labels, distillation of logits."""

    distillation: LogitDistillation = field(default_factory=LogitDistillation)
    """How two networks' logits are compared."""
    normalise_task_logits: bool = False
    """Whether the cross-entropy, too, sees layer-normalised logits, as published for ST++; raw
    logits are then not calibrated."""

    def predict(self, network: nn.Module, batch: ImageBatch) -> ClassPrediction:
        """Logits of the network as it is now."""
        return ClassPrediction(network(batch.images))

    def task_loss(self, prediction: ClassPrediction, batch: ImageBatch) -> Float[Tensor, ""]:
        """Mean cross-entropy."""
        logits = prediction.logits
        if self.normalise_task_logits:
            logits = normalised_logits(logits, self.distillation.amplitude)
        return functional.cross_entropy(logits, batch.labels)

    def distillation_loss(self, teacher: Knowledge, student: Knowledge) -> Float[Tensor, ""]:
        """Divergence of the logits."""
        return self.distillation(teacher["logits"], student["logits"])

    def resized(self, batch: ImageBatch, share: float) -> ImageBatch:
        """Images of this share of their side, rounded to whole pixels."""
        height, width = batch.images.shape[-2:]
        size = (round(share * height), round(share * width))
        if size == (height, width):
            return batch
        images = functional.interpolate(
            batch.images, size, mode="bilinear", align_corners=False, antialias=True
        )
        return ImageBatch(images, batch.labels)


@torch.no_grad()
def accuracy(network: nn.Module, batch: ImageBatch, at_once: int = 500) -> float:
    """Percent of images whose class is found, with the norms' stored statistics."""
    network.eval()
    found = sum(
        int((network(part.images).argmax(-1) == part.labels).sum())
        for part in parts(batch, at_once)
    )
    return 100 * found / len(batch)


def parts(batch: ImageBatch, at_once: int) -> list[ImageBatch]:
    """The batch in pieces of at most this many images."""
    return [batch[slice(start, start + at_once)] for start in range(0, len(batch), at_once)]


def moved(
    images: Float[Tensor, "batch channels height width"], most_px: int, generator: torch.Generator
) -> Float[Tensor, "batch channels height width"]:
    """Each image shifted by up to so many pixels along both axes; edge pixels are repeated."""
    if most_px == 0:
        return images
    padded = functional.pad(images, (most_px,) * 4, mode="replicate")
    height, width = images.shape[-2:]
    shifts = torch.randint(2 * most_px + 1, (2, len(images)), generator=generator)
    rows = (torch.arange(height) + shifts[0][:, None])[:, None, :, None]
    columns = (torch.arange(width) + shifts[1][:, None])[:, None, None, :]
    sample = torch.arange(len(images))[:, None, None, None]
    channel = torch.arange(images.shape[1])[None, :, None, None]
    return padded[sample, channel, rows, columns]


def mean_losses(losses: list[Mapping[str, float]]) -> dict[str, float]:
    """Mean of every loss by name."""
    return {
        name: sum(each[name] for each in losses) / len(losses)
        for name in (losses[0] if losses else ())
    }
