"""The constants of hand-made matching, with their units."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MatchingSettings:
    """How depth is found without learning; colour differences are on a 0-255 scale."""

    plane_spacing_px: float = 1.2
    """Displacement in the other view between neighbouring planes."""
    min_planes: int = 64
    """Fewest planes of a sweep, however small the parallax."""
    max_planes: int = 192
    """Most planes of a sweep: beyond it the spacing grows."""
    whole_search_px: int = 800
    """Photos with longer sides are searched at half their size, on CPUs."""
    census_weight: float = 0.7
    """Cost of each differing bit of the 9x7 census."""
    census_limit: int = 40
    """Differing bits above this many cost no more."""
    census_margin: float = 1.0
    """Levels by which a neighbour must exceed the centre to count as brighter: less is noise."""
    color_weight: float = 0.5
    """Cost of one level of mean absolute RGB difference."""
    color_limit: float = 10.0
    """Highest cost of the colour difference."""
    outside_cost: float = 24.0
    """Cost of a hypothesis that falls outside the other frame."""
    small_jump: float = 4.0
    """Penalty for a change of one plane between neighbours in a sweep of 96 planes."""
    small_jump_growth: tuple[float, float] = (3.0, 5.0)
    """Power of (96 / planes) by which that penalty grows, in the first and in the second pass. Few
    planes mean little parallax: surfaces slope by fewer planes a pixel, noise is as large."""
    small_jump_least: float = 2.0
    """Lowest penalty for a change of one plane, however many planes."""
    small_jump_most: tuple[float, float] = (12.0, 27.0)
    """Highest such penalty in the first and in the second pass, however few planes."""
    large_jump: float = 200.0
    """Penalty for any larger change between neighbours of equal colour."""
    large_jump_edge: float = 0.15
    """How fast the large penalty falls with the intensity difference of the neighbours."""
    tolerance_px: float = 2.0
    """Largest left-right error of a trusted pixel."""
    anchor_tolerance_px: float = 0.8
    """Largest left-right error of a pixel whose choice the second pass takes as given."""
    pair_tolerance_px: float = 1.0
    """Distance in the other view by which all views together must disagree with the first two,
    where these agree with each other, to be believed instead."""
    occlusion_margin_px: float = 2.4
    """Distance from the other view's trusted surface that counts as clearly off it."""
    neutral_cost: float = 14.0
    """Second pass: cost of hypotheses hidden from the other view or outside it."""
    contradiction_cost: float = 10.0
    """Second pass: added to hypotheses the other view sees through."""
    background_bias: float = 2.0
    """Cost of the nearest plane over the farthest: where nothing else tells, the far one wins."""
    second_background_bias: float = 1.0
    """Second pass: added to that bias."""
    anchor_cost: float = 6.0
    """Second pass: cost of each plane between a hypothesis and an anchored pixel's choice."""
    anchor_limit: float = 28.0
    """Highest cost of that distance."""
    fill_scales_px: tuple[float, float, float] = (4.0, 16.0, 64.0)
    """Window sizes of the moving-least-squares fill, tried in this order."""
    fill_color_sigma: float = 0.03
    """Colour difference (0-1 scale) at which a trusted pixel loses its say in a fill."""
    fill_slope: float = 0.5
    """Share of the fitted slope that fills follow."""
    fill_min_weight: float = 12.0
    """Sum of weights that a window needs to be used."""
    fill_mismatch: float = 0.05
    """How much worse (mean absolute colour difference, 0-1 scale) a fit may look in the other
    photo than the second pass's choice and still be preferred to it."""
    fill_unseen_mismatch: float = 0.15
    """How bad the second pass's choice counts where the other photo cannot show it."""
    background_quantile: float = 0.1
    """Quantile of trusted inverse depths around a pixel that stands for its background."""
    background_radius_px: float = 16.0
    """Half the side of the window of that quantile; doubled where too few pixels are trusted."""
    max_consistency_px: float = 8.0
    """Left-right errors are clamped here; it also stands for 'none'."""
    coarse_planes: int = 32
    """Planes of the coarse cost."""
