"""Weights in and out: safetensors files that carry their configuration."""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .config import PRESETS, HiSplatConfig, StageConfig, ViTConfig
from .network import HiSplat

WEIGHTS_DIR = Path(__file__).parent / "weights"
_METADATA_KEY = "hisplat_config"


class CheckpointError(ValueError):
    """Weights that cannot be found, read, or fitted into the network; says what to do."""


def load_model(
    name_or_path: str | Path = "hisplat-small", device: str | torch.device = "cpu"
) -> HiSplat:
    """A network with trained weights, in evaluation mode.

    Args:
        name_or_path: A bundled name (``bundled_models()``) or a .safetensors file written by
            ``save_model``.
        device: Where to put it.

    Raises:
        CheckpointError: if there is no such model, or the file does not hold exactly the weights
            of its configuration.
    """
    path = Path(name_or_path)
    if str(name_or_path) in PRESETS:
        path = WEIGHTS_DIR / f"{name_or_path}.safetensors"
        if not path.is_file():
            raise CheckpointError(
                f"No weights are bundled for {name_or_path!r}; bundled: {bundled_models()}. "
                "Pass the path of a .safetensors file instead."
            )
    if not path.is_file():
        raise CheckpointError(
            f"Expected a bundled model {bundled_models()} or a .safetensors file, got {path}."
        )
    config, state = read_checkpoint(path)
    model = HiSplat(config)
    fit_state(model, state, str(path))
    return model.to(device).eval()


def bundled_models() -> list[str]:
    """Names that ``load_model`` takes without a file."""
    return sorted(p.stem for p in WEIGHTS_DIR.glob("*.safetensors"))


def save_model(model: HiSplat, path: str | Path, state: Mapping[str, Tensor] | None = None) -> None:
    """Writes the weights (or ``state`` instead, e.g. averaged ones) and the configuration."""
    path = Path(path)
    tensors = {k: v.detach().cpu().contiguous() for k, v in (state or model.state_dict()).items()}
    metadata = {_METADATA_KEY: json.dumps(asdict(model.config)), "format": "pt"}
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    os.close(handle)
    try:
        save_file(tensors, temporary, metadata)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def read_checkpoint(path: Path) -> tuple[HiSplatConfig, dict[str, Tensor]]:
    """Configuration and tensors of a file written by ``save_model``.

    Raises:
        CheckpointError: if it is not such a file.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"Cannot read {path} as safetensors: {error}.") from error
    if _METADATA_KEY not in metadata:
        raise CheckpointError(
            f"{path} holds no HiSplat configuration; expected a file written by this program."
        )
    return config_from_dict(json.loads(metadata[_METADATA_KEY])), state


def config_from_dict(values: dict[str, Any]) -> HiSplatConfig:
    """The inverse of ``dataclasses.asdict`` for network configurations.

    Raises:
        CheckpointError: for missing or unknown fields.
    """
    try:
        values = dict(values)
        values["stages"] = tuple(StageConfig(**stage) for stage in values["stages"])
        values["cnn_widths"] = tuple(values["cnn_widths"])
        values["vit"] = ViTConfig(**values["vit"]) if values["vit"] else None
        return HiSplatConfig(**values)
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"The file's configuration does not fit this version: {error}."
        ) from error


def fit_state(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Loads exactly these tensors.

    Raises:
        CheckpointError: listing what is missing, left over, or of another shape.
    """
    own = model.state_dict()
    problems = [f"missing {key}" for key in own if key not in state]
    problems += [f"unknown {key}" for key in state if key not in own]
    problems += [
        f"{key}: expected {tuple(own[key].shape)}, got {tuple(state[key].shape)}"
        for key in own
        if key in state and own[key].shape != state[key].shape
    ]
    if problems:
        shown = "; ".join(problems[:5]) + (" …" if len(problems) > 5 else "")
        raise CheckpointError(f"{source} does not fit the network ({len(problems)}): {shown}.")
    model.load_state_dict(dict(state))
