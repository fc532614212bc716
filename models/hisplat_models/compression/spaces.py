"""Which depths a network may have: how many blocks of each stage are kept, counted from its start.

The space of ST (NeurIPS 2022; repository Sunshine-Ye/NIPS22-ST, training script) keeps any prefix
of a stage down to its first block; that of ST++ (arXiv 2305.02507; same script, ``space3``)
shortens only stages of many blocks.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from .subnet import Subnet

Depths = tuple[int, ...]
"""Kept blocks per stage."""
INTER_STAGE_BLOCKS = 3
"""Blocks that each stage keeps in ST++. Published are {3}, {3, 4}, {3..6}, {3} kept of 3, 4, 6, 3
blocks; that this number is the rule behind them is our reading."""


@dataclass(frozen=True)
class DepthSpace:
    """All ways to shorten the stages of a network from their ends.

    Attributes:
        blocks: Per stage the names of its residual blocks in the order in which they run; a block
            that cannot be skipped because it changes shapes may be among them.
        minimum: Per stage, how many blocks are kept at least.
    """

    blocks: tuple[tuple[str, ...], ...]
    minimum: Depths

    def __post_init__(self) -> None:
        """Refuses what is no space.

        Raises:
            ValueError: unless every stage has a minimum within its number of blocks and all names
                differ.
        """
        if len(self.minimum) != len(self.blocks):
            raise ValueError(
                f"Expected a minimum for each of {len(self.blocks)} stages, got {self.minimum}"
            )
        for least, names in zip(self.minimum, self.blocks, strict=True):
            if not 0 <= least <= len(names):
                raise ValueError(f"Expected 0 to {len(names)} blocks to be kept, got {least}")
        names = list(itertools.chain(*self.blocks))
        if len(set(names)) != len(names):
            raise ValueError(f"Expected blocks of different names, got {names}")

    @property
    def full(self) -> Depths:
        """The depths of the whole network."""
        return tuple(len(names) for names in self.blocks)

    def __len__(self) -> int:
        return math.prod(len(choices) for choices in self._choices())

    def __iter__(self) -> Iterator[Depths]:
        """All depths, the smallest first."""
        return itertools.product(*self._choices())

    def __contains__(self, depths: object) -> bool:
        return isinstance(depths, tuple) and all(
            kept in choices for kept, choices in zip(depths, self._choices(), strict=True)
        )

    def subnet(self, depths: Depths) -> Subnet:
        """The subnet of these depths: the ends of its stages are skipped.

        Raises:
            ValueError: if the depths are not of this space.
        """
        if depths not in self:
            raise ValueError(f"Expected depths from {self.minimum} to {self.full}, got {depths}")
        skipped = (names[kept:] for names, kept in zip(self.blocks, depths, strict=True))
        return Subnet(skipped=frozenset(itertools.chain(*skipped)))

    def dropping_at_most(self, dropped: Sequence[int]) -> "DepthSpace":
        """The space in which a stage loses at most so many blocks, never below the minimum."""
        return replace(
            self,
            minimum=tuple(
                max(least, whole - most)
                for least, whole, most in zip(self.minimum, self.full, dropped, strict=True)
            ),
        )

    def inter_stage(self, keep: int = INTER_STAGE_BLOCKS) -> "DepthSpace":
        """The space of ST++: stages keep at least so many blocks, shorter ones all of theirs."""
        return self.dropping_at_most([max(0, whole - keep) for whole in self.full])

    def _choices(self) -> list[range]:
        return [
            range(least, whole + 1) for least, whole in zip(self.minimum, self.full, strict=True)
        ]
