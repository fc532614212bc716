"""Rotation and direction between two photos from matches, by their distance from epipolar lines.

A robust essential matrix first (MAGSAC++: Barath et al., CVPR 2020, or another method), then the
pose that makes the robust Sampson distances of all matches smallest (Hartley & Zisserman, Multiple
View Geometry, 11.4.3).
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import least_squares

KEYPOINT_NOISE_PX, DENSE_NOISE_PX = 0.3, 0.1
"""How far matches of either kind typically lie from their epipolar lines."""

INLIER_PX = 1.5
"""Farthest that a match may lie from its epipolar line, in pixels of the matched size."""

_ROBUST_METHODS = (cv2.USAC_MAGSAC, cv2.USAC_ACCURATE, cv2.RANSAC)

_Points = Float[np.ndarray, "n 2"]


@dataclass(frozen=True)
class RayPairs:
    """Matched points on the planes z = 1 of both cameras.

    Attributes:
        left: x and y in the left camera's frame.
        right: Likewise.
        focal_px: Turns distances on the planes into pixels of the photos as they were matched.
    """

    left: _Points
    right: _Points
    focal_px: float

    def zoomed(self, zoom: float) -> "RayPairs":
        """The rays if both focal lengths were this much longer."""
        return RayPairs(self.left / zoom, self.right / zoom, self.focal_px * zoom)

    def only(self, chosen: Bool[np.ndarray, "n"]) -> "RayPairs":
        """Some of the matches."""
        return RayPairs(self.left[chosen], self.right[chosen], self.focal_px)


@dataclass(frozen=True)
class PoseFit:
    """x_right ~ rotation x_left + direction, with focal lengths ``zoom`` times the given ones."""

    rotation: Float[np.ndarray, "3 3"]
    direction: Float[np.ndarray, "3"]
    zoom: float

    def error_px(self, pair: RayPairs) -> Float[np.ndarray, "n"]:
        """Signed distance of matches from the epipolar constraint."""
        zoomed = pair.zoomed(self.zoom)
        return sampson(zoomed, self.rotation, self.direction) * zoomed.focal_px

    def inliers(self, pair: RayPairs) -> Bool[np.ndarray, "n"]:
        """Which matches lie within ``INLIER_PX`` of their epipolar lines."""
        return np.abs(self.error_px(pair)) < INLIER_PX


def coarse_fit(pair: RayPairs) -> PoseFit | None:
    """Rotation and direction of a robust essential matrix: the best that several methods find.

    Each of them stops early now and then with a handful of inliers, but not on the same photos.
    None if no method finds any.
    """
    fits = [fit for method in _ROBUST_METHODS if (fit := _essential_fit(pair, method)) is not None]
    return max(fits, key=lambda fit: fit.inliers(pair).sum(), default=None)


def _essential_fit(pair: RayPairs, method: int) -> PoseFit | None:
    essential, mask = cv2.findEssentialMat(
        pair.left, pair.right, np.eye(3), method, 0.9999, 1.0 / pair.focal_px, 10000
    )
    if essential is None or essential.shape != (3, 3):
        return None
    _, rotation, direction, _ = cv2.recoverPose(
        essential, pair.left, pair.right, np.eye(3), mask=mask.copy()
    )
    return PoseFit(rotation, direction[:, 0], 1.0)


def soft_l1(error_px: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Residuals of keypoints, whose squares grow like the distance beyond the noise."""
    ratio = error_px / KEYPOINT_NOISE_PX
    return np.sign(ratio) * np.sqrt(2 * (np.sqrt(1 + ratio**2) - 1))


def cauchy(error_px: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Residuals of dense matches: where depth was wrong, whole regions are off the same way.

    Neighbours tell much the same, so none weighs more than a keypoint, however near its line.
    """
    ratio = error_px / DENSE_NOISE_PX
    weight = DENSE_NOISE_PX / KEYPOINT_NOISE_PX
    return weight * np.sign(ratio) * np.sqrt(np.log1p(ratio**2))


def refined_fit(
    pair: RayPairs,
    start: PoseFit,
    focal_uncertainty: float,
    robust: Callable[[Float[np.ndarray, "n"]], Float[np.ndarray, "n"]] = soft_l1,
) -> PoseFit:
    """The most probable rotation, direction and zoom given all matches.

    ``robust`` makes residuals of distances from epipolar lines; the logarithm of the zoom has a
    normal prior. Matches are chosen anew as the fit gets better.
    """
    fit = start
    for threshold_px in (3.0, 2.0, INLIER_PX):
        part = pair.only(np.abs(fit.error_px(pair)) < threshold_px)
        if len(part.left) < 8:
            break
        steps = _PoseSteps(fit.rotation, fit.direction)

        def residuals(change: np.ndarray) -> np.ndarray:
            log_zoom = change[5] if focal_uncertainty else 0.0
            moved = PoseFit(*steps.pose(change), float(np.exp(log_zoom)))  # noqa: B023
            errors = robust(moved.error_px(part))  # noqa: B023
            return np.append(errors, log_zoom / focal_uncertainty) if focal_uncertainty else errors

        begin = np.array([0, 0, 0, 0, 0, np.log(fit.zoom)])[: 6 if focal_uncertainty else 5]
        solution = least_squares(residuals, begin, max_nfev=30).x
        zoom = float(np.exp(solution[5])) if focal_uncertainty else 1.0
        fit = PoseFit(*steps.pose(solution), zoom)
    return fit


def misfit(pair: RayPairs, fit: PoseFit) -> float:
    """Mean robust error, as ``refined_fit`` minimises it; outliers count the same however far."""
    return float(np.mean(soft_l1(np.minimum(np.abs(fit.error_px(pair)), INLIER_PX)) ** 2)) / 2


@dataclass(frozen=True)
class _PoseSteps:
    """Small changes of a rotation (3 numbers) and of a direction (2 numbers)."""

    rotation: Float[np.ndarray, "3 3"]
    direction: Float[np.ndarray, "3"]

    def pose(self, change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        tangents = np.linalg.svd(self.direction[None])[2][1:]
        moved = self.direction + change[3:5] @ tangents
        return cv2.Rodrigues(change[:3])[0] @ self.rotation, moved / np.linalg.norm(moved)


def sampson(
    pair: RayPairs, rotation: Float[np.ndarray, "3 3"], translation: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "n"]:
    """Signed first-order distance of each match from the epipolar constraint, on z = 1."""
    x, y, z = translation
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ rotation
    in_right = pair.left @ essential[:, :2].T + essential[:, 2]
    in_left = pair.right @ essential[:2] + essential[2]
    value = (pair.right * in_right[:, :2]).sum(axis=1) + in_right[:, 2]
    slope = (in_right[:, :2] ** 2).sum(axis=1) + (in_left[:, :2] ** 2).sum(axis=1)
    return value / np.sqrt(np.maximum(slope, 1e-18))


def triangulate(
    pair: RayPairs, rotation: Float[np.ndarray, "3 3"], translation: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "n 3"]:
    """Points in the left camera's frame; not finite where the rays are parallel."""
    if len(pair.left) == 0:
        return np.zeros((0, 3))
    projection = np.column_stack([rotation, translation])
    points = cv2.triangulatePoints(np.eye(3, 4), projection, pair.left.T, pair.right.T)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(points[:3] / points[3], dtype=np.float64).T
