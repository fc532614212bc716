"""Depth maps as files: 16-bit .png with a stated step, .npy, and as pictures to look at."""

import io

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, PngImagePlugin

MILLI = 0.001
"""The step that other programs expect of a 16-bit depth map, if the unit is a metre."""

STEP_KEY = "depth_step"
_MOST = 65535


def depth_step(depth: Float[np.ndarray, "height width"]) -> float:
    """World units a grey level: a thousandth if the largest depth fits into 16 bits, else more."""
    return max(MILLI, float(depth.max(initial=0.0)) / _MOST)


def to_depth_png_bytes(
    depth: Float[np.ndarray, "height width"], step: float | None = None
) -> bytes:
    """A 16-bit .png: z-depth divided by the step, 0 where nothing is; its text states the step.

    Args:
        depth: World units; 0 where nothing is.
        step: World units a grey level; by default ``depth_step``.

    Raises:
        ValueError: if the depth is negative or NaN, or does not fit into 16 bits.
    """
    if not np.isfinite(depth).all() or (depth < 0).any():
        raise ValueError("Cannot write depths that are negative, NaN or infinite.")
    step = depth_step(depth) if step is None else step
    levels = np.rint(depth.astype(np.float64) / step)
    if levels.max(initial=0) > _MOST:
        raise ValueError(
            f"The depth reaches {depth.max():.4g}, but 16 bits in steps of {step:g} end at "
            f"{_MOST * step:.4g}: choose a larger step."
        )
    text = PngImagePlugin.PngInfo()
    text.add_text(STEP_KEY, repr(step))
    buffer = io.BytesIO()
    Image.fromarray(levels.astype(np.uint16)).save(buffer, "png", pnginfo=text)
    return buffer.getvalue()


def from_depth_png_bytes(content: bytes) -> Float[np.ndarray, "height width"]:
    """The depth in world units, 0 where nothing is; steps of a thousandth if none is stated."""
    with Image.open(io.BytesIO(content)) as image:
        step = float(image.info.get(STEP_KEY, MILLI))
        return np.asarray(image, dtype=np.float64) * step


def to_npy_bytes(depth: Float[np.ndarray, "height width"]) -> bytes:
    """A .npy of float32."""
    buffer = io.BytesIO()
    np.save(buffer, depth.astype(np.float32), allow_pickle=False)
    return buffer.getvalue()


def color_depth(
    depth: Float[np.ndarray, "height width"], near: float, far: float
) -> UInt8[np.ndarray, "height width 3"]:
    """Near red, far blue, evenly in inverse depth; black where the depth is 0.

    Raises:
        ValueError: unless 0 < near < far.
    """
    if not 0 < near < far:
        raise ValueError(f"Expected 0 < near < far, got {near} and {far}.")
    inverse = 1 / np.maximum(depth, near / 10)
    part = ((inverse - 1 / far) / (1 / near - 1 / far)).clip(0, 1)
    colors = cv2.applyColorMap(np.rint(part * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    colors = np.ascontiguousarray(colors[..., ::-1])
    colors[depth <= 0] = 0
    return colors
