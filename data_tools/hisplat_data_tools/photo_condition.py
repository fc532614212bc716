"""What makes a photo unfit for matching whatever it shows: darkness, glare, blur, noise."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from skimage.measure import blur_effect

SIDE = 384
"""Long side at which photos are judged."""

LEAST_HIGHLIGHT, MOST_GLARE, MOST_BLUR, MOST_NOISE = 0.16, 0.4, 0.5, 3.0
"""Chosen between photos as they are and the same photos spoilt: docs/quality.md."""

_WHITE = 250
_FLAT_SHARE = 0.1
_SECOND_DIFFERENCES = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)


@dataclass(frozen=True)
class PhotoCondition:
    """How well a photo was taken.

    Attributes:
        highlight: Gray value that 5 % of the pixels exceed, in [0, 1].
        glare: Share of pixels that are white.
        blur: In [0, 1], by how little it changes when blurred further (Crete et al., "The blur
            effect", Human Vision and Electronic Imaging XII, 2007).
        noise: Standard deviation where the photo is flattest, 8-bit gray levels (Immerkaer, "Fast
            noise variance estimation", CVIU 64, 1996).
    """

    highlight: float
    glare: float
    blur: float
    noise: float

    @staticmethod
    def of(photo: UInt8[np.ndarray, "height width 3"]) -> "PhotoCondition":
        """The condition of an RGB photo of any size."""
        gray = _reduced(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY))
        return PhotoCondition(
            highlight=float(np.quantile(gray, 0.95)) / 255,
            glare=float((gray >= _WHITE).mean()),
            blur=float(np.max(blur_effect(gray / 255))) if gray.std() > 0 else 1.0,
            noise=_noise(gray),
        )

    @property
    def fault(self) -> str | None:
        """What is wrong with it, if anything: a word of ``REMEDIES``."""
        if self.highlight < LEAST_HIGHLIGHT:
            return "dark"
        if self.glare > MOST_GLARE:
            return "overexposed"
        if self.noise > MOST_NOISE:
            return "noisy"
        return "blurred" if self.blur > MOST_BLUR else None


REMEDIES = {
    "dark": "take them in more light",
    "overexposed": "white has swallowed detail; expose less",
    "noisy": "take them in more light",
    "blurred": "hold still and let the camera focus",
}
"""What helps against each fault."""


def faults_in_words(faults: Sequence[str | None]) -> tuple[str, ...]:
    """Clauses on what is wrong with several photos, given the fault of each; empty if nothing."""
    everyone = "both photos are" if len(faults) == 2 else "all photos are"
    found = []
    for fault, remedy in REMEDIES.items():
        count = faults.count(fault)
        if count:
            some = "one photo is" if count == 1 else f"{count} photos are"
            which = everyone if count == len(faults) else some
            found.append(f"{which} {fault} ({remedy})")
    return tuple(found)


def _reduced(gray: UInt8[np.ndarray, "height width"]) -> UInt8[np.ndarray, "h w"]:
    scale = SIDE / max(gray.shape)
    if scale >= 1:
        return gray
    return np.asarray(cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))


def _noise(gray: UInt8[np.ndarray, "h w"]) -> float:
    """From second differences, which slopes and edges along an axis have none of."""
    rough = np.abs(cv2.filter2D(gray.astype(np.float32), -1, _SECOND_DIFFERENCES))
    local: Float[np.ndarray, "h w"] = np.asarray(cv2.blur(rough, (9, 9)))
    return float(np.quantile(local, _FLAT_SHARE) * np.sqrt(np.pi / 2) / 6)
