"""What a camera does to light: exposure, white balance, vignetting, blur, noise, JPEG."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Float64


@dataclass(frozen=True)
class Exposure:
    """How linear light becomes sRGB values.

    Attributes:
        gains: Factor per channel.
    """

    gains: Float64[np.ndarray, "3"]


def develop(
    radiance: Float32[np.ndarray, "height width 3"], exposure: Exposure
) -> Float32[np.ndarray, "height width 3"]:
    """The picture in sRGB within [0, 1]; bright parts roll off softly before they clip."""
    light = radiance * exposure.gains.astype(np.float32)
    light = np.where(light > 0.6, 0.6 + 0.4 * np.tanh((light - 0.6) / 0.7), light)
    encoded = np.where(
        light < 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-8) ** (1 / 2.4) - 0.055
    )
    return np.clip(encoded, 0, 1).astype(np.float32)


def sample_exposure(
    rng: np.random.Generator, radiance: Float32[np.ndarray, "height width 3"]
) -> Exposure:
    """The exposure that an automatic camera might choose for this picture."""
    level = float(np.quantile(radiance, 0.5) * 0.6 + radiance.mean() * 0.4)
    gain = rng.uniform(0.1, 0.3) / max(level, 1e-4)
    return Exposure(gain * np.exp(rng.normal(0, 0.04, 3)))


def vary_exposure(rng: np.random.Generator, exposure: Exposure, strength: float) -> Exposure:
    """The next picture's exposure: mostly within 2 %, at times 20 %; ``strength`` scales it."""
    spread = 0.2 if rng.random() < 0.25 else 0.02
    change = rng.normal(0, spread) + rng.normal(0, 0.3 * spread, 3)
    return Exposure(exposure.gains * np.exp(strength * np.clip(change, -0.5, 0.5)))


def _vignette(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    y = (np.arange(height)[:, None] + 0.5) / width - 0.5 * height / width
    x = (np.arange(width)[None] + 0.5) / width - 0.5
    radius_squared = (x * x + y * y) / (0.25 + 0.25 * (height / width) ** 2)
    return (1 - rng.uniform(0, 0.3) * radius_squared)[..., None].astype(np.float32)


def photograph(
    rng: np.random.Generator,
    radiance: Float32[np.ndarray, "height width 3"],
    exposure: Exposure,
    strength: float = 1.0,
) -> Float32[np.ndarray, "height width 3"]:
    """A picture with the faults of real photos; ``strength`` 0 gives ``develop``'s clean one."""
    if strength == 0:
        return develop(radiance, exposure)
    height, width = radiance.shape[:2]
    if rng.random() < 0.5:
        radiance = radiance * _vignette(rng, height, width) ** strength
    picture = develop(radiance, exposure)
    if rng.random() < 0.4:
        picture = cv2.GaussianBlur(picture, (0, 0), max(strength * rng.uniform(0.1, 0.8), 0.05))
    noise = strength * np.exp(rng.uniform(np.log(0.001), np.log(0.02)))
    grain = rng.standard_normal(picture.shape, dtype=np.float32)
    picture = picture + noise * grain * np.sqrt(0.3 + picture)
    if rng.random() < 0.5:
        picture = _through_jpeg(picture, int(100 - strength * rng.uniform(3, 35)))
    return np.clip(picture, 0, 1).astype(np.float32)


def _through_jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    stored = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
    done, code = cv2.imencode(".jpg", stored[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    read = cv2.imdecode(code, cv2.IMREAD_COLOR)
    assert read is not None
    return read[..., ::-1].astype(np.float32) / 255
