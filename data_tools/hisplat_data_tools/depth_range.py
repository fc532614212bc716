"""How deep a scene is, from the depths of its matched points."""

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import KDTree

NEAR_MARGIN, FAR_MARGIN = 0.75, 1.5
"""The range goes from this times the 2 % quantile of depth to that times the 98 % quantile."""

FEW_POINTS = 40
"""Fewer points tell a range only roughly."""


def depth_range(
    positions: Float[np.ndarray, "n 2"], depths: Float[np.ndarray, "view n"]
) -> tuple[float, float]:
    """Near and far with their margins, wider where few matches show them."""
    widening = 1.5
    if len(positions) >= FEW_POINTS:
        widening = 1.0
        supported = _supported(positions, depths[0])
        # A scene so ragged that most points stand alone tells nothing about mismatches.
        depths = depths[:, supported] if supported.mean() > 0.5 else depths
    low, high = np.quantile(depths, [0.02, 0.98])
    return float(low * NEAR_MARGIN / widening), float(high * FAR_MARGIN * widening)


def _supported(
    positions: Float[np.ndarray, "n 2"], depth: Float[np.ndarray, "n"]
) -> Bool[np.ndarray, "n"]:
    """Whether two of the eight nearest points in the photo have a similar inverse depth.

    Mismatches along an epipolar line fit the cameras, but rarely their surroundings.
    """
    neighbours = np.asarray(KDTree(positions).query(positions, k=9)[1])[:, 1:]
    inverse = 1 / depth
    difference = np.abs(inverse[neighbours] - inverse[:, None])
    similar = difference < 0.2 * np.maximum(inverse[neighbours], inverse[:, None])
    return similar.sum(axis=1) >= 2
