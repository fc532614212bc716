"""A smaller HiSplat for good, which is saved and loaded as any other."""

import copy
from collections.abc import Sequence

from ...network import HiSplat
from ..groups import ChannelGroup
from ..narrowing import cut_by
from ..slimming import cut_down
from ..subnet import Subnet


def slim_copy(network: HiSplat, groups: Sequence[ChannelGroup], subnet: Subnet) -> HiSplat:
    """A network of its own that computes what the active subnet does.

    Raises:
        ValueError: for blocks or channels that the network does not have, or a network that is
            not whole.
    """
    if network.cut is not None:
        raise ValueError("Expected a whole network, got one that is cut down already.")
    slim = copy.deepcopy(network)
    slim.depths = {}
    slim.cut = cut_by(slim, groups, subnet.kept, subnet.skipped)
    cut_down(slim, slim.cut)
    return slim
