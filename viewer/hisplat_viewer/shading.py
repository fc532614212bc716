"""The colours in which a scene's Gaussians are shown: their own, or what is known about them."""

from typing import Literal

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from hisplat_models.spherical_harmonics import sh_basis

from .photo_errors import PhotoErrors
from .scene import DisplayFrame, Scene

Shade = Literal["color", "depth", "opacity", "confidence", "level", "error"]

DRAWN_DEGREE = 3
"""Bands above this one are not drawn; no file has them either."""
DEPTH_ENDS = (0.02, 0.98)
"""Shares of the Gaussians that are nearer than the colour map's first and last depth."""
LARGEST_ERROR = 0.25
"""Mean absolute difference of the channels that gets the last colour."""
LEVEL_COLORS = ((214, 94, 60), (240, 190, 70), (70, 130, 200))
"""Coarse, middle, fine; further levels start over."""
UNKNOWN_COLOR = (128, 128, 128)


def shades_of(scene: Scene) -> tuple[Shade, ...]:
    """What can be shown of this scene."""
    shades: list[Shade] = ["color", "depth", "opacity"]
    if scene.confidence is not None:
        shades.append("confidence")
    if len(scene.gaussians.level.unique()) > 1:
        shades.append("level")
    if scene.renderer is not None and scene.photos is not None:
        shades.append("error")
    return tuple(shades)


def shaded(
    scene: Scene, frame: DisplayFrame, shade: Shade, errors: PhotoErrors | None = None
) -> UInt8[np.ndarray, "n 3"]:
    """The colour of each Gaussian.

    Args:
        scene: With a confidence for "confidence".
        frame: Depth is measured along its z axis.
        shade: What to show.
        errors: For "error".
    """
    match shade:
        case "color":
            return _bytes(seen_colors(scene, frame))
        case "depth":
            return depth_colors(frame.points(scene.gaussians.means)[:, 2].numpy())
        case "opacity":
            return mapped(scene.gaussians.opacities.numpy(), cv2.COLORMAP_VIRIDIS)
        case "confidence":
            assert scene.confidence is not None
            return mapped(scene.confidence.numpy(), cv2.COLORMAP_VIRIDIS)
        case "level":
            colors = np.array(LEVEL_COLORS, np.uint8)
            return colors[scene.gaussians.level.numpy() % len(colors)]
        case "error":
            assert errors is not None
            return error_colors(errors.of_gaussians(scene.gaussians))


def seen_colors(scene: Scene, frame: DisplayFrame) -> Float[Tensor, "n 3"]:
    """Colours as seen from the middle of the cameras, or from the first view.

    The browser draws one colour a splat, whatever the direction it is seen from.
    """
    gaussians = scene.gaussians
    degree = min(gaussians.sh_degree, DRAWN_DEGREE)
    if degree == 0:
        return gaussians.base_colors.clamp(0, 1)
    if scene.cameras is None:
        eye = frame.world_points(torch.zeros(3))
    else:
        eye = scene.cameras.positions.mean(dim=0)
    directions = torch.nn.functional.normalize(gaussians.means - eye, dim=-1)
    basis = sh_basis(directions, degree)
    bands = gaussians.harmonics[:, : basis.shape[-1]]
    return (0.5 + torch.einsum("nb,nbc->nc", basis, bands)).clamp(0, 1)


def depth_colors(depth_z: Float[np.ndarray, "n"]) -> UInt8[np.ndarray, "n 3"]:
    """Near red, far blue, evenly in inverse depth; what lies behind the eye counts as near."""
    in_front = depth_z[depth_z > 0]
    if not len(in_front):
        return mapped(np.ones_like(depth_z), cv2.COLORMAP_TURBO)
    near, far = np.quantile(in_front, DEPTH_ENDS)
    inverse = 1 / np.maximum(depth_z, near)
    span = max(1 / near - 1 / far, 1e-9)
    return mapped((inverse - 1 / far) / span, cv2.COLORMAP_TURBO)


def error_colors(error: Float[np.ndarray, "*n"]) -> UInt8[np.ndarray, "*n 3"]:
    """Dark where the render is like the photo, bright where not; gray for NaN, the unseen."""
    colors = mapped(np.nan_to_num(error) / LARGEST_ERROR, cv2.COLORMAP_INFERNO)
    colors[np.isnan(error)] = UNKNOWN_COLOR
    return colors


def mapped(values: Float[np.ndarray, "*n"], color_map: int) -> UInt8[np.ndarray, "*n 3"]:
    """RGB of values in [0, 1]; others are clamped."""
    steps = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    table = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], color_map)[:, 0, ::-1]
    return table[steps]


def _bytes(colors: Tensor) -> UInt8[np.ndarray, "n 3"]:
    return (colors.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
