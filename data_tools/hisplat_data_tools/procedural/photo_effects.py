"""What a camera does to light: exposure, white balance, vignetting, blur, noise, JPEG."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Float64

SHOULDER, SHOULDER_WIDTH = 0.6, 0.7
"""Where bright parts begin to roll off, and over how much light."""
MEDIAN_SHARE = 0.6
"""How much of a meter's reading is the median; the rest is the mean."""
DARK_NOISE = 0.3
"""Noise of black as if it had this brightness."""


@dataclass(frozen=True)
class Exposure:
    """How linear light becomes sRGB values.

    Attributes:
        gains: Factor per channel.
    """

    gains: Float64[np.ndarray, "3"]


@dataclass(frozen=True)
class Metering:
    """How an automatic camera chooses its exposure.

    Attributes:
        brightness: What the light of the picture is brought to.
        tint: Factor per channel.
    """

    brightness: float
    tint: Float64[np.ndarray, "3"]

    def exposure(self, radiance: Float32[np.ndarray, "height width 3"]) -> Exposure:
        """The exposure that this camera chooses for a picture."""
        median, mean = np.quantile(radiance, 0.5), radiance.mean()
        level = float(median * MEDIAN_SHARE + mean * (1 - MEDIAN_SHARE))
        return Exposure(self.brightness / max(level, 1e-4) * self.tint)


@dataclass(frozen=True)
class Faults:
    """What is wrong with one photo.

    Attributes:
        vignetting: Share of the light that the corners lose; 0 for none.
        strength: Exponent of the vignetting.
        blur_px: Standard deviation of the blur; 0 for none.
        noise: Standard deviation at brightness 1 - ``DARK_NOISE``.
        grain: The noise, standard normal.
        jpeg_quality: In percent; None without JPEG.
    """

    vignetting: float
    strength: float
    blur_px: float
    noise: float
    grain: Float32[np.ndarray, "height width 3"]
    jpeg_quality: int | None


def develop(
    radiance: Float32[np.ndarray, "height width 3"], exposure: Exposure
) -> Float32[np.ndarray, "height width 3"]:
    """The picture in sRGB within [0, 1]; bright parts roll off softly before they clip."""
    light = radiance * exposure.gains.astype(np.float32)
    rest = 1 - SHOULDER
    rolled = SHOULDER + rest * np.tanh((light - SHOULDER) / SHOULDER_WIDTH)
    light = np.where(light > SHOULDER, rolled, light)
    encoded = np.where(
        light < 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-8) ** (1 / 2.4) - 0.055
    )
    return np.clip(encoded, 0, 1).astype(np.float32)


def draw_metering(rng: np.random.Generator) -> Metering:
    """An automatic camera: mostly a little dark, colours nearly right."""
    return Metering(rng.uniform(0.1, 0.3), np.exp(rng.normal(0, 0.04, 3)))


def draw_tint(rng: np.random.Generator, strength: float) -> Float64[np.ndarray, "3"]:
    """Factors of the next picture's exposure: mostly within 2 %, at times 20 %."""
    spread = 0.2 if rng.random() < 0.25 else 0.02
    change = rng.normal(0, spread) + rng.normal(0, 0.3 * spread, 3)
    return np.exp(strength * np.clip(change, -0.5, 0.5))


def draw_faults(rng: np.random.Generator, height: int, width: int, strength: float) -> Faults:
    """The faults of a real photo; ``strength`` scales them, and is above 0."""
    vignetting = rng.uniform(0, 0.3) if rng.random() < 0.5 else 0.0
    blur_px = max(strength * rng.uniform(0.1, 0.8), 0.05) if rng.random() < 0.4 else 0.0
    noise = strength * np.exp(rng.uniform(np.log(0.001), np.log(0.02)))
    grain = rng.standard_normal((height, width, 3), dtype=np.float32)
    has_jpeg = rng.random() < 0.5
    quality = int(100 - strength * rng.uniform(3, 35)) if has_jpeg else None
    return Faults(vignetting, strength, blur_px, noise, grain, quality)


def photograph(
    radiance: Float32[np.ndarray, "height width 3"], exposure: Exposure, faults: Faults | None
) -> Float32[np.ndarray, "height width 3"]:
    """A picture with these faults; without any, ``develop``'s clean one."""
    if faults is None:
        return develop(radiance, exposure)
    if faults.vignetting:
        height, width = radiance.shape[:2]
        radiance = radiance * _vignette(height, width, faults.vignetting) ** faults.strength
    picture = develop(radiance, exposure)
    if faults.blur_px:
        picture = cv2.GaussianBlur(picture, (0, 0), faults.blur_px)
    picture = picture + faults.noise * faults.grain * np.sqrt(DARK_NOISE + picture)
    if faults.jpeg_quality is not None:
        picture = _through_jpeg(picture, faults.jpeg_quality)
    return np.clip(picture, 0, 1).astype(np.float32)


def _vignette(height: int, width: int, loss: float) -> Float32[np.ndarray, "height width 1"]:
    y = (np.arange(height)[:, None] + 0.5) / width - 0.5 * height / width
    x = (np.arange(width)[None] + 0.5) / width - 0.5
    radius_squared = (x * x + y * y) / (0.25 + 0.25 * (height / width) ** 2)
    return (1 - loss * radius_squared)[..., None].astype(np.float32)


def _through_jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    stored = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
    done, code = cv2.imencode(".jpg", stored[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    read = cv2.imdecode(code, cv2.IMREAD_COLOR)
    assert read is not None
    return read[..., ::-1].astype(np.float32) / 255
