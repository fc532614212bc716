"""Files of smaller networks.

A file holds the smaller tensors under the names of the whole network and, in its metadata, JSON of
what was kept. It is read into a network that was built whole, so nothing in it is ever run.
"""

from pathlib import Path

from torch import nn

from ..checkpoints import (
    CheckpointError,
    fit_state,
    read_metadata,
    read_safetensors,
    write_safetensors,
)
from .narrowing import Cut
from .slimming import cut_down, cut_from_json, cut_to_json

METADATA_KEY = "hisplat_cut"
"""Under which a file's metadata says what was kept."""


def save_slimmed(slim: nn.Module, cut: Cut, path: str | Path) -> None:
    """Writes a network that was cut down; the file appears whole or not at all.

    Raises:
        CheckpointError: if the file cannot be written.
    """
    write_safetensors(slim.state_dict(), {METADATA_KEY: cut_to_json(cut)}, path)


def load_slimmed(network: nn.Module, path: str | Path) -> nn.Module:
    """The network of a file.

    Args:
        network: Built whole, as that which was cut; it is cut down and its values are lost.
        path: Of what ``save_slimmed`` wrote.

    Raises:
        CheckpointError: if the file holds no part of such a network.
    """
    path = Path(path)
    metadata = read_metadata(path)
    if METADATA_KEY not in metadata:
        raise CheckpointError(f"{path} does not say what was cut: expected a slimmed network.")
    cut_down(network, cut_from_json(metadata[METADATA_KEY], network))
    fit_state(network, read_safetensors(path), str(path))
    return network
