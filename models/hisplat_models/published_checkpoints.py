"""Checkpoints of the published HiSplat (ICLR 2025), there and back.

They are training states of PyTorch Lightning. Of those only ``state_dict`` matters: every tensor
of the network under its published name with "encoder." in front (``published_keys`` has the
names). Three times as many bytes are Adam's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .checkpoints import (
    CheckpointError,
    MisfitError,
    compare_states,
    create_skeleton,
    read_safetensors,
    save_weights,
)
from .config import PRESETS, HiSplatConfig
from .pickled_tensors import read_pickled
from .published_keys import published_key

PREFIX = "encoder."
_WEIGHTS = "state_dict"


@dataclass(frozen=True)
class Conversion:
    """What became of a published checkpoint.

    Attributes:
        tensors: How many were written; all there were.
        parameters: Numbers that training may change, or has taken from DINOv2.
        size: Bytes of the file written.
        step: Training step of the checkpoint, if it says.
        left_out: The parts of the checkpoint that are no weights.
    """

    tensors: int
    parameters: int
    size: int
    step: int | None
    left_out: tuple[str, ...]


def convert_published(
    source: str | Path,
    target: str | Path,
    *,
    half: bool = False,
    tensors_only: bool = False,
    config: HiSplatConfig = PRESETS["hisplat"],
) -> Conversion:
    """Writes the weights of a published checkpoint as a file that ``load_model`` takes.

    Args:
        source: A Lightning checkpoint, or a state dict alone (pickled or .safetensors), with the
            published names, with or without the prefix.
        target: The .safetensors file to write; it appears whole or not at all.
        half: Store numbers in 16 bits. They are 32 bits again once loaded, rounded to a part in
            2000.
        tensors_only: See ``read_pickled``.
        config: The network that the checkpoint is of.

    Raises:
        CheckpointError: if the file cannot be read or written, or would not be read safely.
        MisfitError: unless its tensors are exactly those of the network.
    """
    source, target = Path(source), Path(target)
    if source.suffix == ".safetensors":
        content = read_safetensors(source)
    else:
        content = read_pickled(source, tensors_only)
    published, step, left_out = _weights(content, source)
    state = from_published(published, config, str(source))
    state = {key: _stored(key, tensor, half) for key, tensor in state.items()}
    save_weights(config, state, target)
    parameters = sum(p.numel() for p in create_skeleton(config).parameters())
    return Conversion(len(state), parameters, target.stat().st_size, step, left_out)


def from_published(
    state: Mapping[str, Tensor],
    config: HiSplatConfig = PRESETS["hisplat"],
    source: str = "The published state dict",
) -> dict[str, Tensor]:
    """Our state dict of a published one; the same tensors under our names.

    Raises:
        MisfitError: unless it has exactly the network's tensors; the names told are published
            ones, without prefix.
    """
    ours = create_skeleton(config).state_dict()
    theirs = {key: published_key(key) for key in ours}
    # Some tools drop the prefix; no published name begins with it by itself.
    bare = {key.removeprefix(PREFIX): tensor for key, tensor in state.items()}
    if len(bare) < len(state):
        raise CheckpointError(f"{source} has tensors both with and without {PREFIX!r}.")
    misfit = compare_states({theirs[key]: tensor for key, tensor in ours.items()}, bare)
    if misfit:
        raise MisfitError(source, misfit)
    return {key: bare[theirs[key]] for key in ours}


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published state dict of ours, as the released code's checkpoints hold it.

    ``torch.save({"state_dict": to_published(model.state_dict())}, path)`` is such a checkpoint.

    Raises:
        KeyError: for tensors that the published network does not have.
    """
    return {PREFIX + published_key(key): tensor for key, tensor in state.items()}


def _weights(content: Any, source: Path) -> tuple[dict[str, Tensor], int | None, tuple[str, ...]]:
    """The tensors by name, the training step, and the names of all else."""
    if not isinstance(content, dict):
        raise CheckpointError(f"{source} holds no tensors by name.")
    step, left_out = None, ()
    if isinstance(content.get(_WEIGHTS), dict):
        said = content.get("global_step")
        step = said if type(said) is int else None
        left_out = tuple(str(key) for key in content if key != _WEIGHTS)
        content = content[_WEIGHTS]
    strange = [key for key, t in content.items() if type(key) is not str or not _is_tensor(t)]
    if strange or not content:
        raise CheckpointError(
            f"{source} holds no state dict: expected tensors by name, or such under {_WEIGHTS!r}."
        )
    return content, step, left_out


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) and value.layout == torch.strided


def _stored(key: str, tensor: Tensor, half: bool) -> Tensor:
    """The tensor as it is written.

    Raises:
        CheckpointError: if it holds numbers that are none, or too large for 16 bits.
    """
    if not tensor.is_floating_point():
        return tensor.contiguous()
    stored = tensor.detach().to(torch.float16 if half else torch.float32)
    if not stored.isfinite().all():
        where = "too large for 16 bits, or not finite" if half else "not finite"
        raise CheckpointError(f"{published_key(key)} holds numbers that are {where}.")
    return stored.contiguous()
