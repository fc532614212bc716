"""Where a photo has texture."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

LEAST_TEXTURE = 12.0
"""Mean gradient below which matching is a guess."""


def rgb_pixels(image: Float[Tensor, "3 h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """An RGB image in [0, 1] as 8-bit values."""
    return (image.permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8)


def gray_pixels(image: Float[Tensor, "3 h w"]) -> UInt8[np.ndarray, "h w"]:
    """An RGB image in [0, 1] as 8-bit gray values."""
    return cv2.cvtColor(rgb_pixels(image), cv2.COLOR_RGB2GRAY)


def texture(gray: UInt8[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Mean gradient (Sobel, of 8-bit values) over 9x9 pixels."""
    slopes = [cv2.Sobel(gray, cv2.CV_32F, dx, 1 - dx) for dx in (1, 0)]
    return cv2.blur(np.hypot(*slopes), (9, 9))
