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
        from hisplat_models.gaussian_filters import Filters, filtered

        levels = frozenset(self._level_numbers(gaussians)) if self.levels else None
        chosen = filtered(gaussians, Filters(levels=levels, min_opacity=self.min_opacity))
        if not chosen.count:
            raise ValueError(f"None of the {gaussians.count} Gaussians is left.")
        return chosen

    def _level_numbers(self, gaussians: "Gaussians") -> list[int]:
        finest = int(gaussians.level.max()) if gaussians.count else 0
        if finest == 0:
            raise ValueError("This scene tells no levels, so --levels cannot choose among them.")
        names = {0: "coarse", finest: "fine"}
        return [n for n in range(finest + 1) if names.get(n, "middle") in self.levels]
