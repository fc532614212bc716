"""Learned residuals that training leaves at zero, so that what they would adjust stays analytic."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ..gaussian_head import HARMONICS_START
from ..network import HiSplat
from ..stage import Stage

FixedPart = Literal["colors", "backdrops"]
"""Colours of all stages; places, shapes and colours of the coarser stages, not their opacities."""


class FixedParts:
    """The output channels of a network's heads that stay at the layered analytic scene's values.

    Args:
        model: A network with a matching prior, whose heads start at zero.
        parts: What stays as it is.

    Raises:
        ValueError: without a matching prior, where no head starts at an analytic value.
    """

    def __init__(self, model: HiSplat, parts: Sequence[FixedPart]):
        if parts and not model.config.matching_prior:
            raise ValueError("Only a network with a matching prior has parts that can stay fixed.")
        self._rows: list[tuple[Tensor, slice]] = []
        finest = len(model.stages) - 1
        for index, stage in enumerate(model.stages):
            assert isinstance(stage, Stage)
            if "backdrops" in parts and index < finest:
                self._fix(stage.head_out, slice(None))
                self._fix(stage.disparity_out, slice(0, 1))  # the second channel is the opacity
            elif "colors" in parts:
                self._fix(stage.head_out, slice(HARMONICS_START, None))

    def _fix(self, layer: nn.Conv2d, channels: slice) -> None:
        assert layer.bias is not None
        self._rows += [(layer.weight, channels), (layer.bias, channels)]

    @torch.no_grad()
    def reset(self) -> None:
        """Makes the residuals zero; without gradients the optimiser, decay included, keeps them."""
        for parameter, channels in self._rows:
            parameter[channels] = 0

    def clear_gradients(self) -> None:
        """To be called before the optimiser's step."""
        for parameter, channels in self._rows:
            if parameter.grad is not None:
                parameter.grad[channels] = 0
