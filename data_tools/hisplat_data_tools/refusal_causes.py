"""Why two photos may not match, looked for when they have been refused."""

import numpy as np
from jaxtyping import UInt8

from .keypoints import Keypoints, match_keypoints, repeated_share
from .photo_condition import PhotoCondition, faults_in_words

SAME_SHARE = 0.03
"""Mean difference over the standard deviation within which two pictures are the same one."""

FEWEST_MIRRORED, MORE_MIRRORED = 40, 1.5
"""Least number of matches of a mirrored photo, and how many times those of the photo as it is."""

FEW_POINTS = 250
MOST_REPEATED = 0.4
"""Of ``repeated_share``."""

MIRRORED = "One photo is mirrored, as cameras for selfies do: turn mirroring off or mirror it back."
REPEATED = (
    "Much in the photos looks alike, such as equal windows or tiles: what belongs together cannot "
    "be told. Bring something unique into both pictures."
)


def likely_cause(
    left: UInt8[np.ndarray, "height width 3"],
    right: UInt8[np.ndarray, "right_height right_width 3"],
    points: tuple[Keypoints, Keypoints],
    matches: int,
) -> str | None:
    """One or more sentences on the likeliest cause, with what to do; None if none is seen.

    Args:
        left: A photo.
        right: The other one.
        points: Those found in each.
        matches: How many of them match.
    """
    if _is_same(left, right):
        return "Both are the same photo: choose two that were taken from different places."
    faults = faults_in_words([PhotoCondition.of(photo).fault for photo in (left, right)])
    if faults:
        return f"{' and '.join(faults).capitalize()}."
    mirrored = Keypoints.of(np.ascontiguousarray(right[:, ::-1]))
    back = len(match_keypoints(points[0], mirrored))
    if back > max(MORE_MIRRORED * matches, FEWEST_MIRRORED):
        return MIRRORED
    fewest = min(len(p.positions) for p in points)
    if fewest < FEW_POINTS:
        return (
            f"A photo has only {fewest} points that could be matched: even walls, sky and calm "
            "water show no depth. Bring more detail into the picture."
        )
    if repeated_share(*points) > MOST_REPEATED:
        return REPEATED
    return None


def _is_same(
    left: UInt8[np.ndarray, "height width 3"],
    right: UInt8[np.ndarray, "right_height right_width 3"],
) -> bool:
    if left.shape != right.shape:
        return False
    difference = float(np.abs(left.astype(np.int16) - right).mean())
    return difference <= SAME_SHARE * float(left.std())
