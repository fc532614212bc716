"""Matches of nearly every pixel of two photos, for cameras finer than keypoints give.

The cameras so far predict where each pixel of one photo lies in the other; what optical flow finds
between the photo and the other one warped accordingly corrects that, also across the epipolar
lines, which the prediction cannot leave. The remaining motion is small whatever the baseline, so
flow finds it to a fraction of a pixel (DIS: Kroeger et al., ECCV 2016).
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from hisplat_data_tools.epipolar import RayPairs
from hisplat_models.cameras import Cameras
from hisplat_models.matching import match_views

from .texture import LEAST_TEXTURE, gray_pixels, texture

STRIDE = 3
"""Pixels between matches: nearer ones tell little that is new."""

LARGEST_LOOP_PX = 0.3
"""Forth and back again, flow must come back to within this."""

LARGEST_CORRECTION_PX = 4.0
"""More is another surface rather than a better place on the same one."""

_BORDER = 2
_NOWHERE = 1e3


def dense_matches(images: Float[Tensor, "2 3 height width"], cameras: Cameras) -> RayPairs:
    """Matches that the photos support, as rays of the cameras' intrinsics; possibly none.

    Args:
        images: RGB in [0, 1].
        cameras: Shape (2,), near the truth, with a range of depths.
    """
    with torch.no_grad():
        prior = match_views(images[None], cameras[None])
    grays = [gray_pixels(image) for image in images]
    found = [
        _one_way(
            grays[a],
            grays[b],
            _places(cameras, a, b, prior.inverse_depth[0, a].cpu().numpy()),
            prior.trusted[0, a].cpu().numpy(),
        )
        for a, b in ((0, 1), (1, 0))
    ]
    left = np.concatenate([found[0].here, found[1].there])
    right = np.concatenate([found[0].there, found[1].here])
    height, width = images.shape[-2:]
    pixels = [_pixel_matrix(cameras, view, (height, width)) for view in (0, 1)]
    rays = [_on_plane(p, k) for p, k in zip((left, right), pixels, strict=True)]
    return RayPairs(rays[0], rays[1], float(pixels[0][0, 0]))


@dataclass(frozen=True)
class _OneWay:
    """Matched positions in pixels, centres at +0.5."""

    here: Float[np.ndarray, "n 2"]
    there: Float[np.ndarray, "n 2"]


def _one_way(
    here: UInt8[np.ndarray, "h w"],
    there: UInt8[np.ndarray, "h w"],
    places: Float[np.ndarray, "h w 2"],
    trusted: Bool[np.ndarray, "h w"],
) -> _OneWay:
    """Where ``places``, the predicted positions in the other photo, are corrected by flow."""
    height, width = here.shape
    warped = cv2.remap(there, places, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)  # pyright: ignore[reportArgumentType, reportCallIssue]
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow.setFinestScale(0)
    forth, back = (np.asarray(flow.calc(*p, None)) for p in ((here, warped), (warped, here)))  # pyright: ignore[reportArgumentType, reportCallIssue]

    y, x = np.mgrid[_BORDER : height - _BORDER : STRIDE, _BORDER : width - _BORDER : STRIDE]
    corrected = (np.stack([x, y], axis=-1) + forth[y, x]).astype(np.float32)
    loop = corrected + _sampled(back, corrected, _NOWHERE) - np.stack([x, y], axis=-1)
    target = _sampled(places, corrected, -_NOWHERE)
    inside = (target > 1).all(-1) & (target < [width - 2, height - 2]).all(-1)
    chosen = (
        inside
        & (np.linalg.norm(loop, axis=-1) < LARGEST_LOOP_PX)
        & (np.linalg.norm(forth[y, x], axis=-1) < LARGEST_CORRECTION_PX)
        & (texture(here)[y, x] > LEAST_TEXTURE)
        & (cv2.erode(trusted.astype(np.uint8), np.ones((3, 3), np.uint8))[y, x] > 0)
    )
    positions = np.stack([x, y], axis=-1)[chosen]
    return _OneWay(positions + 0.5, target[chosen].astype(np.float64) + 0.5)


def _places(
    cameras: Cameras, here: int, there: int, inverse_depth: Float[np.ndarray, "h w"]
) -> Float[np.ndarray, "h w 2"]:
    """Where each pixel of one view lies in the other: pixels, counted from the first's centre."""
    height, width = inverse_depth.shape
    across = cameras.world_to_camera[there].double() @ cameras.camera_to_world[here].double()
    rotation, translation = across[:3, :3].numpy(), across[:3, 3].numpy()
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    plane = _on_plane(np.stack([x, y], -1), _pixel_matrix(cameras, here, (height, width)))
    rays = np.concatenate([plane, np.ones_like(plane[..., :1])], axis=-1)
    # Points at 1 / inverse_depth, all scaled by it: nothing to divide by where it is tiny.
    seen = rays @ rotation.T + inverse_depth[..., None] * translation
    pixels = seen @ _pixel_matrix(cameras, there, (height, width)).T
    ahead = np.maximum(pixels[..., 2:], 1e-6)
    return (pixels[..., :2] / ahead - 0.5).astype(np.float32)


def _pixel_matrix(cameras: Cameras, view: int, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    return cameras.intrinsics[view].double().cpu().numpy() * np.array([[width], [height], [1]])


def _on_plane(
    positions: Float[np.ndarray, "*n 2"], pixels: Float[np.ndarray, "3 3"]
) -> Float[np.ndarray, "*n 2"]:
    """Pixel positions as points on the plane z = 1."""
    inverse = np.linalg.inv(pixels)
    return positions @ inverse[:2, :2].T + inverse[:2, 2]


def _sampled(
    maps: Float[np.ndarray, "h w 2"], at: Float[np.ndarray, "a b 2"], outside: float
) -> Float[np.ndarray, "a b 2"]:
    border = (outside, outside, outside, outside)
    return cv2.remap(maps, at, None, cv2.INTER_LINEAR, borderValue=border)  # pyright: ignore[reportArgumentType, reportCallIssue]
