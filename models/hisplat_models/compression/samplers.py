"""Subnets at random. Every draw comes from a generator on the CPU and depends on nothing else.

Processes whose generators were seeded alike therefore draw the same, whatever their data.
Sources: uniform prefixes are those of ST (NeurIPS 2022), uniform shares of input sides those of
ST++ (arXiv 2305.02507), nested draws with "inheriting exponential decay" those of GKT (AAAI 2024);
GKT's law itself is not public, the truncated geometric one is our choice.
"""

from collections.abc import Mapping, Sequence

import torch

from .groups import ChannelGroup
from .spaces import Depths, DepthSpace


def uniform_depths(space: DepthSpace, generator: torch.Generator) -> Depths:
    """Depths of the space, each stage for itself, all numbers of kept blocks alike."""
    return decaying_depths(space, space.full, 1.0, generator)


def decaying_depths(
    space: DepthSpace, parent: Depths, decay: float, generator: torch.Generator
) -> Depths:
    """Depths within the parent's: d blocks fewer with a probability proportional to decay^d.

    Args:
        space: Bounds from below.
        parent: Bounds from above.
        decay: Below 1, large subnets are preferred; 1 makes all alike.
        generator: On the CPU.
    """
    return tuple(
        kept - _dropped(kept - least, decay, generator)
        for kept, least in zip(parent, space.minimum, strict=True)
    )


def nested_depths(
    space: DepthSpace, parent: Depths, decay: float, generator: torch.Generator
) -> Depths:
    """As ``decaying_depths``, but smaller than the parent in at least one stage.

    Only the smallest subnet of the space has no smaller one within: it comes back itself.
    """
    if parent == space.minimum:
        return parent
    while (depths := decaying_depths(space, parent, decay, generator)) == parent:
        pass
    return depths


def uniform_widths(
    groups: Sequence[ChannelGroup],
    at_least: Mapping[str, int],
    generator: torch.Generator,
) -> dict[str, int]:
    """How many channels each group keeps: multiples of its divisor, or all, each alike.

    Args:
        groups: Of the network.
        at_least: By name of group, the fewest channels to keep, at least 1.
        generator: On the CPU.
    """
    return {group.name: _drawn(_widths(group, at_least[group.name]), generator) for group in groups}


def uniform_share(smallest: float, generator: torch.Generator) -> float:
    """A share of an input's side, from the smallest to 1; nothing is drawn if that is 1."""
    if smallest == 1:
        return 1.0
    return smallest + (1 - smallest) * torch.rand((), generator=generator).item()


def _dropped(most: int, decay: float, generator: torch.Generator) -> int:
    weights = torch.tensor([decay**dropped for dropped in range(most + 1)])
    return int(torch.multinomial(weights, 1, generator=generator))


def _widths(group: ChannelGroup, at_least: int) -> list[int]:
    multiples = range(group.divisor, group.channels, group.divisor)
    return [width for width in multiples if width >= at_least] + [group.channels]


def _drawn(choices: Sequence[int], generator: torch.Generator) -> int:
    return choices[int(torch.randint(len(choices), (), generator=generator))]
