"""A weighted mean of networks that were trained from one another, and a shift of fine opacities.

Networks fine-tuned from the same weights can be averaged; the mean lies between them in size and
opacity of the Gaussians. The shift moves the opacity logits of the finest level as a whole, e.g.
when the analytic constant under a learned residual has changed. Usage:
  python benchmarks/mix_weights.py --weights A.safetensors B.safetensors --shares .7 .3
    --fine-opacity-shift -.7 --output FILE.safetensors
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from hisplat_models.checkpoints import load_model, save_model
from hisplat_models.depth_heads import CandidateDepth
from hisplat_models.stage import Stage


@dataclass(frozen=True)
class Options:
    """What to mix."""

    weights: tuple[str, ...]
    """Weights of preset hisplat-small: files or bundled names."""
    shares: tuple[float, ...]
    """How much each counts; they sum to one."""
    output: Path
    """Where to write the result."""
    fine_opacity_shift: float = 0.0
    """Added to the opacity logits of the finest level, before they are bounded."""


@torch.no_grad()
def main(options: Options) -> None:
    """Loads, mixes, shifts, saves.

    Raises:
        ValueError: unless there is one share for each network and they sum to one.
    """
    if len(options.shares) != len(options.weights) or abs(sum(options.shares) - 1) > 1e-6:
        raise ValueError(
            f"Expected {len(options.weights)} shares that sum to 1, got {options.shares}."
        )
    models = [load_model(name) for name in options.weights]
    states = [model.state_dict() for model in models]
    mixed = models[0]
    mixed.load_state_dict(
        {
            key: sum(
                share * state[key] for share, state in zip(options.shares, states, strict=True)
            )
            for key in states[0]
        }
    )
    finest = mixed.stages[-1]
    assert isinstance(finest, Stage)
    assert isinstance(finest.placement, CandidateDepth)
    bias = finest.placement.residual.bias
    assert bias is not None
    bias[-1] += options.fine_opacity_shift  # the last channel is the opacity
    save_model(mixed, options.output)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
