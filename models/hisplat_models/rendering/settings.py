"""The constants of the blending equation, and the published network's own values."""

from dataclasses import dataclass
from typing import Literal

# Side in pixels of the tiles that `RasterizationSettings.extent` speaks of; our renderers may work
# in others.
EXTENT_TILE = 16


@dataclass(frozen=True)
class RasterizationSettings:
    """What a renderer does at the edges of the formulas; the defaults are gsplat's.

    Attributes:
        dilation_px2: Added to the diagonal of each projected covariance, so that no Gaussian is
            thinner than about half a pixel.
        alpha_max: Upper bound of opacity times falloff, below 1.
        alpha_min: A Gaussian is left out of pixels where it is fainter than this; > 0.
        transmittance_min: A pixel is finished before its transmittance falls below this.
        near_plane: Gaussians whose z-depth is at most this are not drawn, world units. Absolute
            rather than a part of ``cameras.near``: a small value only keeps the projection finite.
        frustum_margin: The Jacobian is taken no farther outside the image than this times half
            the image size, so that Gaussians beside the camera don't smear over it.
        extent: How far a Gaussian reaches. ``"alpha"``: as far as ``alpha_min`` lets it.
            ``"three_sigma_tiles"``: moreover, only into the tiles of 16x16 pixels that the square
            of three standard deviations of its longer axis touches, so that it may end at a
            tile's border while it is still visible.
        frustum: ``"pinhole"`` projects by the intrinsics. ``"symmetric"`` takes only the field of
            view from them and puts the principal point into the image centre, wherever it was.
        depth_order: Which of two Gaussians is in front if their depths differ by rounding alone,
            as those do that the published network puts on its near plane. ``"exact"``: as the
            renderer's best arithmetic says. ``"float32"``: as single precision says when it goes
            from world coordinates to depths at once; gsplat on CUDA has an order of its own.
    """

    dilation_px2: float = 0.3
    alpha_max: float = 0.999
    alpha_min: float = 1 / 255
    transmittance_min: float = 1e-4
    near_plane: float = 0.01
    frustum_margin: float = 0.3
    extent: Literal["alpha", "three_sigma_tiles"] = "alpha"
    frustum: Literal["pinhole", "symmetric"] = "pinhole"
    depth_order: Literal["exact", "float32"] = "exact"

    def __post_init__(self):
        if not 0 < self.alpha_min < self.alpha_max < 1:
            raise ValueError(
                "Expected 0 < alpha_min < alpha_max < 1, "
                f"got alpha_min={self.alpha_min}, alpha_max={self.alpha_max}."
            )
        if self.near_plane <= 0:
            raise ValueError(f"Expected near_plane > 0, got {self.near_plane}.")


DEFAULT = RasterizationSettings()

PAPER = RasterizationSettings(
    alpha_max=0.99,
    near_plane=0.2,
    extent="three_sigma_tiles",
    frustum="symmetric",
    depth_order="float32",
)
"""What the rasteriser does that the published network was trained with.

Images agree with the published ones up to rounding, in float32. That rasteriser counts pixel
centres as whole numbers and puts the middle of the image at (width - 1) / 2; ours are at +0.5 and
the middle at width / 2, which is the same place in the picture.
"""
