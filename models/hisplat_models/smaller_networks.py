"""What a file says is left out of a network: channels and blocks for good, blocks at choice.

A slim file holds the tensors of a smaller network under the names of the whole one. An elastic
file holds whole tensors and names the blocks that a faster network skips.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal

from .compression.hisplat.depths import depth_space
from .compression.hisplat.parts import parts_of
from .compression.narrowing import Cut
from .compression.slimming import cut_from_json, cut_to_json
from .model_sources import CheckpointError, shown
from .network import HiSplat

Depth = Literal["fast", "balanced", "full"]
"""How many blocks of an elastic network run."""

CUT_KEY = "hisplat_cut"
DEPTHS_KEY = "hisplat_depths"


def metadata_of(model: HiSplat) -> dict[str, str]:
    """What its file's metadata must say of what is left out, besides the configuration."""
    metadata = {}
    if model.cut is not None:
        metadata[CUT_KEY] = cut_to_json(model.cut)
    if model.depths:
        depths = {depth: sorted(skipped) for depth, skipped in model.depths.items()}
        metadata[DEPTHS_KEY] = json.dumps(depths)
    return metadata


def stored_cut(metadata: Mapping[str, str], skeleton: HiSplat) -> Cut | None:
    """What a file's metadata leaves out for good; None if nothing.

    Args:
        metadata: Of anybody's file.
        skeleton: The whole network of its configuration.

    Raises:
        CheckpointError: if it does not fit the network.
    """
    if CUT_KEY not in metadata:
        return None
    cut = cut_from_json(metadata[CUT_KEY], skeleton)
    _check_blocks(cut.skipped, skeleton)
    return cut


def stored_depths(metadata: Mapping[str, str], skeleton: HiSplat) -> dict[str, frozenset[str]]:
    """Per depth the blocks that are skipped; empty for a file of one depth.

    Raises:
        CheckpointError: if the metadata is broken or does not fit the network.
    """
    if DEPTHS_KEY not in metadata:
        return {}
    try:
        values: Any = json.loads(metadata[DEPTHS_KEY])
        depths = {depth: frozenset(values[depth]) for depth in ("fast", "balanced")}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"The file's depths are broken: {shown(error)}.") from error
    for skipped in depths.values():
        _check_blocks(skipped, skeleton)
    return depths


def _check_blocks(skipped: frozenset[str], skeleton: HiSplat) -> None:
    blocks = depth_space(skeleton, parts_of(skeleton)).blocks
    unknown = skipped - {name for stage in blocks for name in stage}
    if unknown:
        names = shown(", ".join(sorted(map(str, unknown))))
        raise CheckpointError(f"The file skips what no block of this network is: {names}.")
