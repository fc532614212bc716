"""Part of a network: some blocks skipped, some channels left out, weights shared with the whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Int64
from torch import Tensor


@dataclass(frozen=True)
class Subnet:
    """Which part of a network runs.

    Attributes:
        skipped: Names of residual blocks that pass their input through.
        kept: Per channel group, the kept channels in ascending order; groups that are not named
            are whole.
    """

    skipped: frozenset[str] = frozenset()
    kept: Mapping[str, Int64[Tensor, " kept"]] = field(default_factory=dict)
