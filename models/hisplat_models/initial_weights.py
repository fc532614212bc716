"""Weights of others that training the published network starts from.

HiSplat (ICLR 2025) starts from DINOv2's ViT-B/14 (Oquab et al., TMLR 2024), which stays as it is,
and from the multi-view transformer of UniMatch (Xu et al., TPAMI 2023), which is trained further.
Everything else starts at random. Files are never run, see ``pickled_tensors``.
"""

import logging
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .checkpoints import CheckpointError, MisfitError, compare_states, read_safetensors
from .network import HiSplat
from .pickled_tensors import read_pickled
from .published_keys import TRANSFORMER, VISION_TRANSFORMER, KeyTable, published_key

logger = logging.getLogger(__name__)

_UNIMATCH_PREFIX = "transformer."


def load_dinov2(model: HiSplat, path: str | Path) -> None:
    """DINOv2's ViT-B/14 into the monocular branch, which stays frozen.

    Args:
        model: Of the preset "hisplat".
        path: ``dinov2_vitb14_pretrain.pth`` (without registers), or its tensors as .safetensors.

    Raises:
        CheckpointError: if the file cannot be read, or is not exactly this transformer; the model
            is then unchanged.
        ValueError: if the model has no monocular branch.
    """
    if model.monocular is None:
        raise ValueError("This network has no monocular branch that DINOv2's weights would fit.")
    vit = model.monocular.vit
    _load_exactly(vit, VISION_TRANSFORMER, _tensors(_read(Path(path))), str(path))
    vit.requires_grad_(False)
    logger.info("Read %d tensors of DINOv2 from %s.", len(vit.state_dict()), path)


def load_unimatch(model: HiSplat, path: str | Path) -> None:
    """UniMatch's multi-view transformer; the rest of the file is of another network.

    Args:
        model: Of the preset "hisplat".
        path: ``gmdepth-scale1-resumeflowthings-scannet-5d9d7964.pth``, or its tensors as
            .safetensors with the same names (``transformer.…``).

    Raises:
        CheckpointError: if the file cannot be read, or its transformer is not exactly this one;
            the model is then unchanged.
    """
    content = _read(Path(path))
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    everything = _tensors(content)
    state = {
        key.removeprefix(_UNIMATCH_PREFIX): tensor
        for key, tensor in everything.items()
        if key.startswith(_UNIMATCH_PREFIX)
    }
    _load_exactly(model.transformer, TRANSFORMER, state, str(path))
    left = len(everything) - len(state)
    logger.info("Read %d tensors of UniMatch from %s, left %d.", len(state), path, left)


def _read(path: Path) -> Any:
    return read_safetensors(path) if path.suffix == ".safetensors" else read_pickled(path)


def _tensors(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, dict):
        raise CheckpointError(f"Expected tensors by name, got {type(content).__name__}.")
    return {key: t for key, t in content.items() if isinstance(key, str) and isinstance(t, Tensor)}


def _load_exactly(
    module: nn.Module, table: KeyTable, state: dict[str, Tensor], source: str
) -> None:
    own = module.state_dict()
    theirs = {key: published_key(key, table) for key in own}
    misfit = compare_states({theirs[key]: tensor for key, tensor in own.items()}, state)
    if misfit:
        raise MisfitError(source, misfit)
    module.load_state_dict({key: state[theirs[key]] for key in own})
