"""How good a scene will look, in words: checked against photos that the scenes were not made from.

``benchmarks/verdicts.py`` measures how well grades tell the quality, ``benchmarks/hard_inputs.py``
whether spoilt photos are graded down and told why; see docs/quality.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hisplat_data_tools.photo_condition import faults_in_words
from hisplat_data_tools.refusal_causes import MOST_REPEATED

from .self_check import Signs

Grade = Literal["good", "usable", "poor"]

GOOD_DB, USABLE_DB = 25.0, 20.0
"""Least ``expected_psnr`` of a good and of a usable scene."""

LEAST_COMMON, LEAST_FITTING = 0.5, 0.75
"""Least ``overlap`` of a good scene, of whose rest the photos say little, and least share of the
matching points that fit its cameras."""

LEAST_OVERLAP, LEAST_AGREED, LEAST_TEXTURED, MOST_UNEXPLAINED = 0.75, 0.7, 0.5, 0.06
SMALL_PARALLAX_DEG, LARGE_PARALLAX_DEG = 1.5, 25.0
LEAST_CAMERA_POINTS = 60
MOST_REASONS = 3
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


def expected_psnr(signs: Signs) -> float:
    """About the gain-corrected PSNR of views between the photos, dB.

    Fitted to the views of seven scenes, see docs/quality.md. Where photos are not matched, the part
    of it that needs no matching.
    """
    if signs.mismatch is None:
        return signs.cross_psnr - 1.5
    return 30.0 + 0.75 * signs.cross_psnr - 32.0 * signs.mismatch


def verdict_of(signs: Signs, camera_quality: Mapping[str, float], photos: int) -> Verdict:
    """The verdict on a scene of so many photos.

    Faulty photos, doubtful cameras and little in common make a scene at best usable, however well
    the photos agree: blurred ones agree best of all, and make a blurred scene.

    Args:
        signs: Of the scene.
        camera_quality: Figures of estimated cameras; empty for given ones.
        photos: How many there are.
    """
    flaws = _flaws(signs, camera_quality)
    expected = expected_psnr(signs)
    if expected >= GOOD_DB and signs.overlap >= LEAST_COMMON and not flaws:
        return Verdict("good", ())
    reasons = [*flaws, *_limits(signs, camera_quality, photos)][:MOST_REASONS]
    if not reasons:
        reasons = [
            "the photos differ in fine detail, reflections or light where they show the same"
        ]
    return Verdict("usable" if expected >= USABLE_DB else "poor", tuple(reasons))


def _flaws(signs: Signs, camera_quality: Mapping[str, float]) -> list[str]:
    """What spoils a scene even where the photos agree with each other."""
    found = list(faults_in_words(signs.faults))
    zoom = camera_quality.get("fitting_zoom", 1.0)
    if zoom != 1:
        found.append(
            f"a focal length {zoom:.1f} times as long fits the photos clearly better (check the "
            "one given; or were the photos cropped?)"
        )
    if "matches" in camera_quality:
        fitting = camera_quality["inliers"] / camera_quality["matches"]
        if fitting < LEAST_FITTING:
            found.append(
                f"{1 - fitting:.0%} of the matching points contradict the others (did something "
                "move between the photos?)"
            )
    if camera_quality.get("repeated_share", 0.0) > MOST_REPEATED:
        found.append(
            "much in the photos looks alike, such as equal windows or tiles, so the cameras may be "
            "wrong (bring something unique into both pictures)"
        )
    if signs.parallax_deg < SMALL_PARALLAX_DEG:
        found.append(
            f"the camera moved little (rays differ by {signs.parallax_deg:.1f} degrees; step "
            "farther to the side)"
        )
    return found


def _limits(signs: Signs, camera_quality: Mapping[str, float], photos: int) -> list[str]:
    """What keeps the photos from agreeing."""
    found: list[str] = []
    which = "the other photo shows" if photos == 2 else "other photos show"
    if signs.overlap < LEAST_OVERLAP:
        found.append(
            f"{which} only {signs.overlap:.0%} of what a photo shows (move or turn less between "
            "photos)"
        )
    if signs.parallax_deg > LARGE_PARALLAX_DEG:
        found.append(
            f"the camera moved far (rays differ by {signs.parallax_deg:.0f} degrees; take photos "
            "nearer to each other)"
        )
    if signs.texture < LEAST_TEXTURED:
        found.append(f"only {signs.texture:.0%} of the photos has texture to match")
    if signs.unexplained is not None and signs.unexplained > MOST_UNEXPLAINED:
        found.append(
            f"{signs.unexplained:.0%} of what photos should have in common could not be matched "
            "(moving things, reflections, leaves or grass?)"
        )
    elif signs.agreed is not None and signs.agreed < LEAST_AGREED:
        found.append(f"the photos agree on the depth of only {signs.agreed:.0%} of pixels")
    points = [camera_quality[name] for name in POINT_COUNTS if name in camera_quality]
    if points and min(points) < LEAST_CAMERA_POINTS:
        found.append(f"only {min(points):.0f} matching points tell where the cameras stood")
    return found
