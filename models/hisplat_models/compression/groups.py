"""Channel groups: which entries of which parameters are kept or removed together."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Int64
from torch import Tensor


@dataclass(frozen=True)
class GroupMember:
    """One axis of one parameter (or buffer) that a channel group runs along.

    Attributes:
        tensor: Its name in the network's ``state_dict``.
        axis: The axis whose entries belong to the group's channels.
        positions: For channel c, the entries ``positions[c]`` along the axis (several where a
            channel is a head or is repeated). Entries of other groups may lie beside them, as
            after a concatenation.
        role: "produced": the entries make the channel (a filter, its bias, its norm), so L1 norms
            of filters are taken from these; "consumed": they read it, so a soft mask scales these.
    """

    tensor: str
    axis: int
    positions: Int64[Tensor, "channel repeat"]
    role: Literal["produced", "consumed"]


@dataclass(frozen=True)
class GroupSize:
    """A number that a module stores and that shrinks with a channel group.

    Needed where it cannot be read off a sliced parameter of one of torch's own modules: heads of
    an attention, channels of a norm without parameters.

    Attributes:
        module: Its name in the network.
        attribute: An int, or a tuple whose last entry is meant (``normalized_shape``).
        per_channel: By how much it falls for each channel that is left out.
    """

    module: str
    attribute: str
    per_channel: int = 1


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that must be kept or removed together everywhere, as residual sums demand.

    Attributes:
        name: Unique in a network and stable from run to run: that of its first producer.
        channels: How many there are.
        divisor: Numbers of kept channels must be multiples of it.
        members: Every axis along which the group runs.
        sizes: Numbers stored in modules that go along, besides those of sliced parameters.
    """

    name: str
    channels: int
    divisor: int
    members: tuple[GroupMember, ...]
    sizes: tuple[GroupSize, ...] = ()
