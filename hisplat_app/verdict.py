"""How good a scene will look, in words: checked against photos that the scenes were not made from.

``benchmarks/verdicts.py`` measures how well grades tell the quality; see docs/quality.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .self_check import Signs

Grade = Literal["good", "usable", "poor"]

GOOD_DB, USABLE_DB = 26.0, 21.5
"""Least ``cross_psnr`` of a good and of a usable scene."""

LEAST_OVERLAP, LEAST_AGREED, LEAST_TEXTURED = 0.75, 0.7, 0.5
SMALL_PARALLAX_DEG, LARGE_PARALLAX_DEG = 2.0, 25.0
LEAST_CAMERA_POINTS = 60
POINT_COUNTS = ("inliers", "fewest_points")
"""Figures of estimated cameras of two and of more photos: points that tell where they stood."""

HEADLINES: dict[Grade, str] = {
    "good": "Quality: good",
    "usable": "Quality: usable, with flaws away from the photos' viewpoints",
    "poor": "Quality: poor",
}


@dataclass(frozen=True)
class Verdict:
    """What to expect of a scene.

    Attributes:
        grade: In one word.
        reasons: What limits it and what would help, the most telling first; may be empty.
    """

    grade: Grade
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        """One or more sentences for the user."""
        if not self.reasons:
            return f"{HEADLINES[self.grade]}."
        return f"{HEADLINES[self.grade]}, because {'; '.join(self.reasons)}."


def verdict_of(signs: Signs, camera_quality: Mapping[str, float], photos: int) -> Verdict:
    """The verdict on a scene of so many photos.

    Args:
        signs: Of the scene.
        camera_quality: Figures of estimated cameras; empty for given ones.
        photos: How many there are.
    """
    reasons = _reasons(signs, camera_quality, photos)
    if signs.cross_psnr >= GOOD_DB:
        return Verdict("good", ())
    if not reasons:
        reasons = [
            "the photos differ where they show the same (fine detail, reflections, motion, light, "
            "or wrong cameras)"
        ]
    return Verdict("usable" if signs.cross_psnr >= USABLE_DB else "poor", tuple(reasons))


def _reasons(signs: Signs, camera_quality: Mapping[str, float], photos: int) -> list[str]:
    found: list[str] = []
    which = "the other photo shows" if photos == 2 else "other photos show"
    if signs.overlap < LEAST_OVERLAP:
        found.append(
            f"{which} only {signs.overlap:.0%} of what a photo shows (move or turn less between "
            "photos)"
        )
    if signs.agreed is not None and signs.agreed < LEAST_AGREED:
        found.append(f"the photos agree on the depth of only {signs.agreed:.0%} of pixels")
    if signs.texture < LEAST_TEXTURED:
        found.append(f"only {signs.texture:.0%} of the photos has texture to match")
    if signs.parallax_deg < SMALL_PARALLAX_DEG:
        found.append(
            f"the camera moved little (rays differ by {signs.parallax_deg:.1f} degrees; step "
            "farther to the side)"
        )
    if signs.parallax_deg > LARGE_PARALLAX_DEG:
        found.append(
            f"the camera moved far (rays differ by {signs.parallax_deg:.0f} degrees; take photos "
            "nearer to each other)"
        )
    points = [camera_quality[name] for name in POINT_COUNTS if name in camera_quality]
    if points and min(points) < LEAST_CAMERA_POINTS:
        found.append(f"only {min(points):.0f} matching points tell where the cameras stood")
    return found
