"""Which part of a scene file is wanted."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from hisplat_models.gaussians import Gaussians


@dataclass(frozen=True)
class SceneOptions:
    """Which Gaussians of the scene are taken; by default all."""

    levels: tuple[Literal["coarse", "middle", "fine"], ...] = ()
    """Only these levels. Only a .ply that this program wrote knows its levels."""
    min_opacity: Annotated[float, tyro.conf.arg(metavar="0..1")] = 0.0
    """Leave out fainter Gaussians."""

    def apply(self, gaussians: "Gaussians") -> "Gaussians":
        """The Gaussians that are wanted.

        Raises:
            ValueError: if none is left, or levels are asked for of a scene that has only one.
        """
        if not 0 <= self.min_opacity <= 1:
            raise ValueError(f"Expected --min-opacity from 0 to 1, got {self.min_opacity}.")
        wanted = gaussians.opacities >= self.min_opacity
        if self.levels:
            finest = int(gaussians.level.max()) if gaussians.count else 0
            if finest == 0:
                raise ValueError(
                    "This scene tells no levels, so --levels cannot choose among them."
                )
            names = {0: "coarse", finest: "fine"}
            for level in range(finest + 1):
                if names.get(level, "middle") not in self.levels:
                    wanted &= gaussians.level != level
        if not bool(wanted.any()):
            raise ValueError(f"None of the {gaussians.count} Gaussians is left.")
        return gaussians[wanted]
