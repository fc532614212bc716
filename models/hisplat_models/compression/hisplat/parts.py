"""The parts of HiSplat that are made smaller, each with a budget of its own if wanted."""

from collections.abc import Sequence
from typing import Literal

from ...network import HiSplat

Part = Literal["cnn", "transformer", "vit", "decoder", "stages"]
"""The U-Net that reads the photos; the multi-view transformer; the monocular transformer; the
decoder behind it; the U-Nets and heads of all stages, and what weighs the cost volume."""

PREFIXES: dict[Part, str] = {
    "cnn": "cnn.",
    "transformer": "transformer.",
    "vit": "monocular.vit.",
    "decoder": "monocular.decoder.",
    "stages": "stages.",
}
"""How names of a part's modules and tensors begin."""

BACKBONE: tuple[Part, ...] = ("cnn", "transformer", "vit", "decoder")
"""What makes features of the photos: HiSplat (ICLR 2025), section 3.2."""


def parts_of(network: HiSplat) -> tuple[Part, ...]:
    """Those that the network has."""
    return tuple(
        part for part in PREFIXES if network.monocular is not None or part not in ("vit", "decoder")
    )


def check_parts(network: HiSplat, parts: Sequence[Part]) -> None:
    """Refuses parts that cannot be chosen.

    Raises:
        ValueError: naming them.
    """
    missing = [part for part in parts if part not in parts_of(network)]
    if missing or not parts:
        raise ValueError(f"Expected some of the parts {list(parts_of(network))}, got {list(parts)}")


def part_of(name: str) -> Part | None:
    """The part that a module or tensor of this name belongs to."""
    return next((part for part, prefix in PREFIXES.items() if name.startswith(prefix)), None)
