"""Sets learned residuals that do not carry over to photographs back to zero.

On photographs (not on procedural scenes) the colour residuals of all stages, and the shape and
depth residuals of the two backdrop stages, do harm; a stage whose residual is zero keeps the
analytic value. Opacities, Modulating Fusion and the finest stage's geometry stay as trained.

Usage: python benchmarks/reset_heads.py --weights averaged.safetensors --output FILE.safetensors
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch import nn

from hisplat_models.checkpoints import load_model, save_model
from hisplat_models.gaussian_head import HARMONICS_START
from hisplat_models.stage import Stage


@dataclass(frozen=True)
class Options:
    """Resets parts of a trained network of preset hisplat-small."""

    weights: Path
    """Trained weights."""
    output: Path
    """Where to write the result."""


def main(options: Options) -> None:
    """Loads, resets, saves."""
    model = load_model(options.weights)
    *backdrops, finest = model.stages
    for stage in backdrops:
        assert isinstance(stage, Stage)
        reset(stage.head_out, slice(None))
        reset(stage.disparity_out, slice(0, 1))  # the second channel is the opacity
    assert isinstance(finest, Stage)
    reset(finest.head_out, slice(HARMONICS_START, None))
    save_model(model, options.output)


@torch.no_grad()
def reset(layer: nn.Conv2d, channels: slice) -> None:
    """Makes these output channels zero whatever comes in."""
    layer.weight[channels] = 0
    assert layer.bias is not None
    layer.bias[channels] = 0


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
