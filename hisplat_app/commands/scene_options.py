"""Which part of a scene file is wanted."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from hisplat_models.gaussians import Gaussians

LARGEST_SCALE = 100.0


@dataclass(frozen=True)
class SceneOptions:
    """Which Gaussians of the scene are taken; by default all."""

    levels: tuple[Literal["coarse", "middle", "fine"], ...] = ()
    """Only these levels. Only a .ply that this program wrote knows its levels."""
    min_opacity: Annotated[float, tyro.conf.arg(metavar="0..1")] = 0.0
    """Leave out fainter Gaussians."""
    sizes: Annotated[tuple[float, float] | None, tyro.conf.arg(metavar="LOW HIGH")] = None
    """Leave out the smallest and the largest: `0 99` drops the largest hundredth. Percent of all
    Gaussians by their largest standard deviation, counted before anything else is left out."""
    box: Annotated[
        tuple[float, float, float, float, float, float] | None,
        tyro.conf.arg(metavar="X0 Y0 Z0 X1 Y1 Z1"),
    ] = None
    """Keep what has its centre between two corners, world units."""
    scale: float = 1.0
    """Widen or shrink all Gaussians by this factor."""

    def apply(self, gaussians: "Gaussians") -> "Gaussians":
        """The Gaussians that are wanted.

        Raises:
            ValueError: if none is left, an option is out of range, or levels are asked for of a
                scene that has only one.
        """
        self._check()
        from hisplat_models.gaussian_filters import CropBox, Filters, filtered, size_limits, sizes

        if not gaussians.count:
            raise ValueError("The scene has no Gaussians.")
        ordered = sizes(gaussians).sort().values
        chosen = filtered(
            gaussians,
            Filters(
                levels=frozenset(self._level_numbers(gaussians)) if self.levels else None,
                min_opacity=self.min_opacity,
                sizes=size_limits(ordered, *(self.sizes or (0, 100))),
                box=None if self.box is None else CropBox.between(self.box[:3], self.box[3:]),
                scale=self.scale,
            ),
        )
        if not chosen.count:
            raise ValueError(f"None of the {gaussians.count} Gaussians is left.")
        return chosen

    def _check(self) -> None:
        if not 0 <= self.min_opacity <= 1:
            raise ValueError(f"Expected --min-opacity from 0 to 1, got {self.min_opacity}.")
        if self.sizes is not None and not 0 <= self.sizes[0] < self.sizes[1] <= 100:
            low, high = self.sizes
            raise ValueError(f"Expected --sizes 0 <= LOW < HIGH <= 100, got {low:g} {high:g}.")
        if self.box is not None and not all(
            a < b for a, b in zip(self.box[:3], self.box[3:], strict=True)
        ):
            raise ValueError("Expected --box with its second corner above the first on each axis.")
        if not 0 < self.scale <= LARGEST_SCALE:
            raise ValueError(f"Expected --scale above 0, at most {LARGEST_SCALE:g}.")

    def _level_numbers(self, gaussians: "Gaussians") -> list[int]:
        finest = int(gaussians.level.max()) if gaussians.count else 0
        if finest == 0:
            raise ValueError("This scene tells no levels, so --levels cannot choose among them.")
        names = {0: "coarse", finest: "fine"}
        return [n for n in range(finest + 1) if names.get(n, "middle") in self.levels]
