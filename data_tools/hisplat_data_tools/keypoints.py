"""Points that photos have in common: SIFT, matched as root-SIFT."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

MATCHING_LONG_SIDE = 1000
MAX_POINTS = 3000
SIFT_CONTRAST = 0.01
MATCH_RATIO = 0.8
ALIKE_DISTANCE = 0.05
"""Squared, of unit descriptors, within which two points look the same."""


@dataclass(frozen=True)
class Keypoints:
    """Points of one photo.

    Attributes:
        positions: The photo being [0, 1] across in both directions.
        descriptors: Unit root-SIFT (Arandjelovic & Zisserman, CVPR 2012).
        width: Of the photo as it was searched, pixels.
    """

    positions: Float[np.ndarray, "n 2"]
    descriptors: Float[np.ndarray, "n 128"]
    width: int

    @staticmethod
    def of(photo: UInt8[np.ndarray, "height width 3"]) -> "Keypoints":
        """The points of an RGB photo; searched at ``MATCHING_LONG_SIDE`` if it is larger."""
        gray = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
        scale = MATCHING_LONG_SIDE / max(gray.shape)
        if scale < 1:
            gray = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        detector = cv2.SIFT.create(nfeatures=MAX_POINTS, contrastThreshold=SIFT_CONTRAST)
        found, sift = detector.detectAndCompute(gray, None)  # pyright: ignore[reportArgumentType, reportCallIssue]
        height, width = gray.shape
        if not len(found):
            return Keypoints(np.zeros((0, 2)), np.zeros((0, 128), dtype=np.float32), width)
        # OpenCV counts pixel centres as whole numbers, we count them from +0.5.
        positions = np.array([k.pt for k in found], dtype=np.float64) + 0.5
        root = np.sqrt(sift / np.maximum(sift.sum(axis=1, keepdims=True), 1e-9))
        return Keypoints(positions / np.array([width, height]), root, width)

    def on_plane(self, intrinsics: Float[Tensor, "3 3"]) -> Float[np.ndarray, "n 2"]:
        """The points on the plane z = 1 of a camera with these normalised intrinsics."""
        inverse = np.linalg.inv(intrinsics.double().cpu().numpy())
        return self.positions @ inverse[:2, :2].T + inverse[:2, 2]

    def only(self, chosen: Int64[np.ndarray, "m"]) -> "Keypoints":
        """Some of the points, in this order."""
        return Keypoints(self.positions[chosen], self.descriptors[chosen], self.width)


def match_keypoints(left: Keypoints, right: Keypoints) -> Int64[np.ndarray, "m 2"]:
    """Indices of mutually best matches that pass the ratio test."""
    if min(len(left.positions), len(right.positions)) < 2:
        return np.zeros((0, 2), dtype=np.int64)
    similarity = left.descriptors @ right.descriptors.T
    forward, distinct = _best(similarity)
    backward, distinct_back = _best(similarity.T)
    index = np.arange(len(forward))
    chosen = (backward[forward] == index) & distinct & distinct_back[forward]
    return np.stack([index[chosen], forward[chosen]], axis=1)


def _best(
    similarity: Float[np.ndarray, "n m"],
) -> tuple[Int64[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
    """The most similar column of each row, and whether it is clearly nearer than the next one."""
    first = similarity.argmax(axis=1)
    rows = np.arange(len(first))
    rest = similarity.copy()
    rest[rows, first] = -1
    # Squared distances of unit vectors are 2 - 2 s.
    nearest, next_nearest = 1 - similarity[rows, first], 1 - rest.max(axis=1)
    return first, nearest < MATCH_RATIO**2 * next_nearest


def repeated_share(left: Keypoints, right: Keypoints) -> float:
    """Share of the left points for which two or more right ones look the same.

    Up to 0.04 on ordinary photos, above 0.5 on walls of equal windows or bricks.
    """
    if not len(left.positions) or len(right.positions) < 2:
        return 0.0
    similarity = left.descriptors @ right.descriptors.T
    nearest_two = 2 - 2 * np.partition(similarity, -2, axis=1)[:, -2:]
    # The ratio test tells them apart where it can.
    second, first = nearest_two[:, 0], nearest_two[:, 1]
    return float(((first < ALIKE_DISTANCE) & (first >= MATCH_RATIO**2 * second)).mean())
