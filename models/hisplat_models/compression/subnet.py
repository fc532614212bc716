"""Part of a network: some blocks skipped, some channels left out, weights shared with the whole."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Int64
from torch import Tensor, nn

from .groups import ChannelGroup
from .narrowing import Cut, cut_by
from .swapping import swapped


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

    @contextmanager
    def active(self, network: nn.Module, groups: Sequence[ChannelGroup]) -> Iterator[None]:
        """While entered, the network is this subnet; afterwards, whatever happens, it is whole.

        It really runs narrow: parameters are slices, through which gradients reach the whole ones;
        what lies outside gets none. A skipped block returns its first argument. Weights are sliced
        on entry, so gradients can be taken once per entry, and a step of an optimiser is seen by
        the next entry. Sliced buffers are copies: what a norm learns of the data while active is
        forgotten. While active, ``state_dict`` holds the subnet's tensors under the same names.

        Args:
            network: Changed in place; torch's own modules learn of their new sizes.
            groups: Those that ``kept`` may name.

        Raises:
            ValueError: for blocks, groups or channels that the network does not have.
            RuntimeError: if the network, or a part of it, is a subnet already.
        """
        cut = self.cut(network, groups)
        attributes = [
            *cut.attributes(network),
            *((network.get_submodule(name), "forward", _first_argument) for name in self.skipped),
        ]
        with swapped(network, cut.tensors(network), attributes):
            yield

    def cut(self, network: nn.Module, groups: Sequence[ChannelGroup]) -> Cut:
        """What is left of the network's tensors and sizes.

        Raises:
            ValueError: for blocks, groups or channels that the network does not have.
        """
        return cut_by(network, groups, self.kept, self.skipped)

    @property
    def is_whole(self) -> bool:
        """Whether it names nothing that is left out."""
        return not self.skipped and not self.kept


def _first_argument(x: Any, *_: Any, **__: Any) -> Any:
    return x
