"""What HiSplat teaches a part of itself: distributions of depth, features, Gaussians, renders."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ...network import HiSplat, HiSplatOutput
from ...stage import StageOutput
from ..task import Knowledge


@dataclass
class Features:
    """What the stages read.

    Attributes:
        transformer: Multi-view features.
        cnn: Single-view features per stage, coarsest first.
    """

    transformer: Tensor | None
    cnn: list[Tensor]


@contextmanager
def features_of(network: HiSplat) -> Iterator[Features]:
    """Collects the features of a forward pass inside."""
    seen = Features(None, [])

    def note(_: Any, arguments: tuple[Any, ...]) -> None:
        seen.transformer = arguments[0].flatten(0, 1)
        seen.cnn.append(arguments[1].flatten(0, 1))

    handles = [stage.register_forward_pre_hook(note) for stage in network.stages]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class ReconstructionPrediction:
    """The network's output and what else is taught.

    Attributes:
        output: With graph, where the network ran with gradients.
        features: What the stages read.
        renders: The scene from the first target's camera, or None where none was drawn.
    """

    output: HiSplatOutput
    features: Features
    renders: Float[Tensor, "batch 3 height width"] | None

    @property
    def knowledge(self) -> Knowledge:
        """Maps (batch * view, channel, height, width), of the kind that their names begin with.

        "depth": logits of depth candidates; "disparity": logarithms of inverse depth of each
        stage's Gaussians, "raw", "opacity": what else they are made of; "feature": what the
        stages read; "render": pictures.
        """
        stages = self.output.stages
        taught: dict[str, Tensor | None] = {
            "depth.planes": stages[0].surface.logits,
            "depth.candidates": stages[-1].candidate_logits,
            "feature.transformer": self.features.transformer,
            "render": self.renders,
        }
        for index, stage in enumerate(stages):
            taught[f"disparity.{index}"] = _inner(stage.inverse_depth.log()[:, :, None], stage)
            taught[f"opacity.{index}"] = stage.opacities[:, :, None]
            taught[f"raw.{index}"] = _inner(stage.raw, stage)
            taught[f"feature.{index}"] = self.features.cnn[index]
        return {
            name: values.flatten(0, 1) if values.dim() == 5 else values
            for name, values in taught.items()
            if values is not None
        }


def _inner(maps: Float[Tensor, "batch view c rows cols"], stage: StageOutput) -> Tensor:
    """The part over the photo: what lies beyond is carried on from its border."""
    p = stage.padding
    return maps[..., p : maps.shape[-2] - p, p : maps.shape[-1] - p]
