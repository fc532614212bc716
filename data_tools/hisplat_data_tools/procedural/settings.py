"""What procedural samples are like."""

from dataclasses import dataclass

from .layouts import LAYOUTS


@dataclass(frozen=True)
class ProceduralSettings:
    """What procedural samples are like."""

    height: int = 128
    """Rows of every picture."""
    width: int = 192
    """Columns of every picture."""
    context_views: int = 2
    """Photos to reconstruct from."""
    target_views: int = 3
    """Pictures to compare with: between the first two photos and slightly beyond."""
    samples_per_pixel: int = 4
    """Shaded rays a pixel; fewer are faster and rougher at edges."""
    baseline_range: tuple[float, float] = (0.03, 0.6)
    """Least and greatest distance of the photos, as a share of the first one's median depth."""
    least_covisibility: float = 0.4
    """Share of either photo that the other must see as well."""
    photo_effects: float = 1.0
    """Strength of exposure changes, noise, blur, vignetting and JPEG in the photos; 0 for none."""
    rotation_error_deg: float = 0.05
    """Greatest error of the rotation given between photos, as estimates have; 0 for exact."""
    translation_error_deg: float = 0.3
    """Greatest error of the direction given between photos; 0 for exact."""
    focal_error: float = 0.0
    """Greatest relative error of the given focal length, the same for all photos; 0 for exact."""
    layouts: tuple[str, ...] = tuple(LAYOUTS)
    """Kinds of scenes to choose from."""
    texture_size: int = 256
    """Side of the textures in texels, a power of two; larger for larger pictures."""

    def __post_init__(self) -> None:
        """Refuses what cannot be rendered.

        Raises:
            ValueError: for sizes, counts or ranges out of bounds, or unknown layouts.
        """
        if min(self.height, self.width) < 8:
            raise ValueError(f"Expected pictures of 8x8 or more, got {self.width}x{self.height}")
        if self.context_views < 1 or self.target_views < 0 or self.samples_per_pixel < 1:
            raise ValueError(
                "Expected at least one context view and one sample per pixel, got "
                f"{self.context_views} and {self.samples_per_pixel}"
            )
        low, high = self.baseline_range
        if not 0 < low <= high:
            raise ValueError(f"Expected 0 < low <= high in baseline_range, got {low}, {high}")
        if self.texture_size < 16 or self.texture_size & (self.texture_size - 1):
            raise ValueError(f"Expected a power of two >= 16 texels, got {self.texture_size}")
        unknown = set(self.layouts) - set(LAYOUTS)
        if unknown or not self.layouts:
            raise ValueError(f"Unknown layouts {sorted(unknown)}; choose from {sorted(LAYOUTS)}")
