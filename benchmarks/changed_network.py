"""A trained network with other parts: what both have keeps its weights, what is new starts at zero.

Usage, for training to go on with more inputs than the weights were trained with:
  python benchmarks/changed_network.py --weights OLD.safetensors --output NEW.safetensors
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from torch import Tensor

from hisplat_app.training_run import Part
from hisplat_models.checkpoints import load_model, save_model
from hisplat_models.config import PRESETS, HiSplatConfig
from hisplat_models.network import HiSplat


@dataclass(frozen=True)
class Options:
    """Makes weights of preset hisplat-small those of the preset as it is now."""

    weights: str
    """Trained weights: a file or a bundled name."""
    output: Path
    """Where to write the result."""


def main(options: Options) -> None:
    """Loads, changes, saves."""
    save_model(changed(load_model(options.weights), PRESETS["hisplat-small"]), options.output)


def without(model: HiSplat, parts: tuple[Part, ...]) -> HiSplat:
    """A network without these parts.

    Without Error Awareness every error map is as if it were zero; without Modulating Fusion
    coarser levels keep their opacities.
    """
    config = model.config
    if "error-awareness" in parts:
        config = replace(config, error_aware=False)
    if "modulating-fusion" in parts:
        config = replace(config, modulating_fusion=False)
    return changed(model, config)


def changed(model: HiSplat, config: HiSplatConfig) -> HiSplat:
    """A network of this configuration with the weights of another.

    Layers may read fewer or more maps of errors, which come last among their inputs.

    Raises:
        ValueError: where weights differ in anything else.
    """
    new = HiSplat(config)
    trained = model.state_dict()
    new.load_state_dict(
        {name: _fitted(trained[name], like) for name, like in new.state_dict().items()}
    )
    return new.eval()


def _fitted(trained: Tensor, like: Tensor) -> Tensor:
    """The weights with as many input channels as ``like``: the last ones dropped, or new zeros."""
    if trained.shape == like.shape:
        return trained
    same = trained.dim() == like.dim() > 1 and trained.shape[::2] == like.shape[::2]
    if not same or trained.shape[3:] != like.shape[3:]:
        raise ValueError(f"Expected weights like {tuple(like.shape)}, got {tuple(trained.shape)}.")
    fitted = torch.zeros_like(like)
    kept = min(trained.shape[1], like.shape[1])
    fitted[:, :kept] = trained[:, :kept]
    return fitted


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
