"""Compiled loops of the plane sweep: inner products with samples that are never stored."""

import numpy as np

from .compilation import reordering_kernel


@reordering_kernel
def correlate_rows(
    features: np.ndarray,
    others: np.ndarray,
    rays: np.ndarray,
    origin: np.ndarray,
    inverse_depths: np.ndarray,
    center: float,
    min_depth: float,
    volume: np.ndarray,
    start: int,
    stop: int,
) -> None:
    """Adds correlations to some rows of the volume.

    Args:
        features: (maps, height, width, channels).
        others: The same of the view that each map is compared with.
        rays: (maps, height, width, 3); a pixel at inverse depth d is seen by the other view at
            ray / d + origin, in pixels before the division by z.
        origin: (maps, 3).
        inverse_depths: (maps, candidates).
        center: Where in a pixel its sample lies, along both axes: 0.5, or 0 for its corner.
        min_depth: Smaller z are replaced by it.
        volume: (maps, height, width, candidates), added to.
        start: First row; rows of all maps are counted through.
        stop: Row behind the last one.
    """
    _, height, width, channels = features.shape
    candidates = inverse_depths.shape[1]
    real = features.dtype.type  # positions are found in float64, features are summed as they are
    factor = real(1 / np.sqrt(channels))
    for row in range(start, stop):
        n, i = row // height, row % height
        for j in range(width):
            for k in range(candidates):
                depth = 1 / inverse_depths[n, k]
                z = max(rays[n, i, j, 2] * depth + origin[n, 2], min_depth)
                x = (rays[n, i, j, 0] * depth + origin[n, 0]) / z - center
                y = (rays[n, i, j, 1] * depth + origin[n, 1]) / z - center
                if not (x > -1 and x < width and y > -1 and y < height):
                    continue
                left, top = int(np.floor(x)), int(np.floor(y))
                u, v = x - left, y - top
                # Samples beyond the border count zero: their neighbour inside is read for them.
                u0, u1 = (1 - u) * (left >= 0), u * (left + 1 < width)
                v0, v1 = (1 - v) * (top >= 0), v * (top + 1 < height)
                left, right = max(left, 0), min(left + 1, width - 1)
                top, bottom = max(top, 0), min(top + 1, height - 1)
                w00, w01, w10, w11 = real(v0 * u0), real(v0 * u1), real(v1 * u0), real(v1 * u1)
                total = real(0)
                for c in range(channels):
                    sample = (
                        w00 * others[n, top, left, c]
                        + w01 * others[n, top, right, c]
                        + w10 * others[n, bottom, left, c]
                        + w11 * others[n, bottom, right, c]
                    )
                    total += features[n, i, j, c] * sample
                volume[n, i, j, k] += total * factor
