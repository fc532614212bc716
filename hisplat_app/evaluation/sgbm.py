"""The classical baseline: rectify, OpenCV StereoSGBM both ways, one Gaussian a pixel.

Rectification turns both views so that the baseline is their x axis (Fusiello, Trucco and Verri,
"A compact algorithm for rectification of stereo pairs", 2000). Unlike ``cv2.stereoRectify`` it
takes pairs one above the other without a special case, and here each view gets its own principal
point, so that turned-in cameras stay small.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import SH_C0, Gaussians
from hisplat_models.rendering.base import Renderer

from .methods import Context, MethodFailed, Views

BLOCK = 5
CHECK_PX = 1.0
SIGMA_PX = 0.6
OPACITY_AGREED, OPACITY_FILLED = 0.95, 0.3
LOWEST_AXIS_COSINE = 0.2
"""Rays closer than about 12 degrees to the baseline cannot be rectified."""
LARGEST_GROWTH = 3.0
"""Rectified photos more than this many times as wide or high as the photos are given up."""


@dataclass(frozen=True)
class Disparities:
    """Dense disparities of both views (x_left - x_right) and where both agreed before filling."""

    maps: Float[np.ndarray, "2 height width"]
    agreed: Bool[np.ndarray, "2 height width"]


@dataclass(frozen=True)
class Rectification:
    """Two views turned to a common frame whose x axis is the baseline.

    Attributes:
        world_to_rectified: The shared rotation.
        to_rectified_px: Homographies from photo pixels to rectified pixels, centres at +0.5.
        focal_px: Of both rectified views.
        offset_px: Disparity of points at infinity (difference of the principal points).
        baseline: Distance of the cameras.
        size: (height, width) of the rectified photos.
    """

    world_to_rectified: Float[np.ndarray, "3 3"]
    to_rectified_px: Float[np.ndarray, "2 3 3"]
    focal_px: float
    offset_px: float
    baseline: float
    size: tuple[int, int]


@dataclass(frozen=True)
class SgbmSplats:
    """The method: depth of both photos by StereoSGBM, drawn as one Gaussian a pixel.

    Pixels where the two directions disagree take the farther of their neighbours along the
    rectified row, and a low opacity.
    """

    renderer: Renderer

    def __call__(self, context: Context, targets: Cameras, size: tuple[int, int]) -> Views:
        """The target views; raises MethodFailed where rectification is impossible."""
        depth, agreed = sgbm_depth(context.images, context.cameras)
        gaussians = pixel_gaussians(context.images, context.cameras, depth, agreed)
        drawn = self.renderer(gaussians[None], targets[None], size)
        return Views(drawn.color[0].clamp(0, 1), drawn.alpha[0], drawn.expected_depth()[0])


def sgbm_depth(
    images: Float[Tensor, "2 3 height width"], cameras: Cameras
) -> tuple[Float[Tensor, "2 height width"], Bool[Tensor, "2 height width"]]:
    """Dense z-depth of both photos and whether left and right agreed there.

    Raises:
        MethodFailed: if the pair cannot be rectified.
    """
    height, width = images.shape[-2:]
    rectification = rectify(cameras, height, width)
    photos = to_bytes(images)
    warped, inside = [], []
    for view in range(2):
        # OpenCV puts pixel centres at whole numbers.
        shift = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1.0]])
        homography = shift @ rectification.to_rectified_px[view] @ np.linalg.inv(shift)
        canvas = rectification.size[::-1]
        warped.append(cv2.warpPerspective(photos[view], homography, canvas, flags=cv2.INTER_LINEAR))
        whole = np.full((height, width), 255, np.uint8)
        inside.append(cv2.warpPerspective(whole, homography, canvas, flags=cv2.INTER_NEAREST) > 0)
    lowest, highest = _disparity_range(rectification, cameras, height, width)
    found = match_both_ways(np.stack(warped), np.stack(inside), lowest, highest)
    return _depth_of_photos(found, rectification, cameras, height, width)


def rectify(cameras: Cameras, height: int, width: int) -> Rectification:
    """The common frame of two views.

    Raises:
        MethodFailed: if the cameras share one centre, or one moves too much toward what it sees.
    """
    pose = cameras.camera_to_world.double().cpu().numpy()
    camera = cameras.intrinsics_px(height, width).double().cpu().numpy()
    step = pose[1, :3, 3] - pose[0, :3, 3]
    baseline = float(np.linalg.norm(step))
    if baseline == 0:
        raise MethodFailed("both cameras are at the same place")
    forward = pose[0, :3, 2] + pose[1, :3, 2]
    x_axis = step / baseline
    y_axis = np.cross(forward, x_axis)
    if np.linalg.norm(y_axis) < 1e-6 * np.linalg.norm(forward):
        raise MethodFailed("the camera moves straight along its viewing direction")
    y_axis /= np.linalg.norm(y_axis)
    rotation = np.stack([x_axis, y_axis, np.cross(x_axis, y_axis)])
    turns = [rotation @ pose[v, :3, :3] @ np.linalg.inv(camera[v]) for v in range(2)]
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1.0]]).T
    rays = np.stack([turn @ corners for turn in turns])  # (view, axis, corner)
    cosine = rays[:, 2] / np.linalg.norm(rays, axis=1)
    if cosine.min() < LOWEST_AXIS_COSINE:
        raise MethodFailed("the camera moves too much along its viewing direction to rectify")
    focal = float(camera[:, [0, 1], [0, 1]].mean())
    x, y = focal * rays[:, 0] / rays[:, 2], focal * rays[:, 1] / rays[:, 2]
    size = (int(np.ceil(y.max() - y.min())), int(np.ceil((x.max(axis=1) - x.min(axis=1)).max())))
    if max(size) > LARGEST_GROWTH * max(height, width):
        raise MethodFailed("the camera moves too much along its viewing direction to rectify")
    homographies = [
        np.array([[focal, 0, -x[v].min()], [0, focal, -y.min()], [0, 0, 1]]) @ turns[v]
        for v in range(2)
    ]
    return Rectification(
        world_to_rectified=rotation,
        to_rectified_px=np.stack(homographies),
        focal_px=focal,
        offset_px=float(x[1].min() - x[0].min()),
        baseline=baseline,
        size=size,
    )


def match_both_ways(
    photos: UInt8[np.ndarray, "2 height width 3"],
    inside: Bool[np.ndarray, "2 height width"],
    lowest: float,
    highest: float,
) -> Disparities:
    """Disparities in [lowest, highest] px of a rectified pair, checked and filled.

    Pixels outside the photos (``inside`` false) never agree and are not used to fill others.
    """
    first = int(np.floor(lowest))
    count = int(np.ceil((highest - first + 1) / 16) * 16)
    left = _sgbm(photos[0], photos[1], first, count)
    right = _sgbm(photos[1, :, ::-1], photos[0, :, ::-1], first, count)[:, ::-1]
    maps = np.stack([left, right])
    agreed = np.stack([_agrees(left, right, -1) & inside[0], _agrees(right, left, +1) & inside[1]])
    filled = np.stack([_filled(maps[v], agreed[v]) for v in range(2)])
    return Disparities(filled, agreed)


def pixel_gaussians(
    images: Float[Tensor, "2 3 height width"],
    cameras: Cameras,
    depth: Float[Tensor, "2 height width"],
    agreed: Bool[Tensor, "2 height width"],
) -> Gaussians:
    """One round Gaussian a pixel and view at the given z-depths."""
    height, width = images.shape[-2:]
    points = cameras.positions[:, None, None] + depth[..., None] * cameras.rays(height, width)
    focal = cameras.intrinsics_px(height, width)[:, [0, 1], [0, 1]].mean(dim=1)
    sigma = SIGMA_PX * depth / focal[:, None, None]
    count = depth.numel()
    upright = torch.tensor([1.0, 0, 0, 0]).to(depth)
    colors = images.permute(0, 2, 3, 1).reshape(count, 1, 3)
    opacities = torch.where(agreed, OPACITY_AGREED, OPACITY_FILLED).to(depth)
    return Gaussians(
        means=points.reshape(count, 3),
        scales=sigma.reshape(count, 1).expand(count, 3).contiguous(),
        quaternions_wxyz=upright.expand(count, 4).contiguous(),
        opacities=opacities.reshape(count),
        harmonics=(colors - 0.5) / SH_C0,
        level=torch.zeros(count, dtype=torch.long, device=depth.device),
    )


def to_bytes(
    images: Float[Tensor, "view 3 height width"],
) -> UInt8[np.ndarray, "view height width 3"]:
    """Photos as OpenCV takes them, RGB order."""
    scaled = (images.clamp(0, 1) * 255).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def _disparity_range(
    rectification: Rectification, cameras: Cameras, height: int, width: int
) -> tuple[float, float]:
    turned = torch.from_numpy(rectification.world_to_rectified).to(cameras.near)
    forward = (cameras.rays(height, width) @ turned.mT)[..., 2]
    nearest = float((forward.amin(dim=(1, 2)) * cameras.near).min())
    farthest = float((forward.amax(dim=(1, 2)) * cameras.far).max())
    reach = rectification.focal_px * rectification.baseline
    return reach / farthest + rectification.offset_px, reach / nearest + rectification.offset_px


def _sgbm(base: np.ndarray, other: np.ndarray, first: int, count: int) -> np.ndarray:
    """Disparities of ``base``; NaN where OpenCV gives none."""
    # Without a margin OpenCV gives no answer where part of the search range leaves the image.
    margin = max(abs(first), abs(first + count)) + BLOCK
    base, other = (
        cv2.copyMakeBorder(np.ascontiguousarray(p), 0, 0, margin, margin, cv2.BORDER_REPLICATE)
        for p in (base, other)
    )
    matcher = cv2.StereoSGBM.create(
        minDisparity=first,
        numDisparities=count,
        blockSize=BLOCK,
        P1=8 * 3 * BLOCK**2,
        P2=32 * 3 * BLOCK**2,
        disp12MaxDiff=-1,
        uniquenessRatio=5,
        speckleWindowSize=100,
        speckleRange=2,
        mode=cv2.STEREO_SGBM_MODE_HH,
    )
    fixed = matcher.compute(base, other)[:, margin:-margin]
    return np.where(fixed < first * 16, np.nan, fixed / 16.0)


def _agrees(disparity: np.ndarray, other: np.ndarray, sign: int) -> np.ndarray:
    """Whether the other view's disparity at the matching pixel is within ``CHECK_PX``."""
    height, width = disparity.shape
    columns = np.arange(width) + sign * np.nan_to_num(disparity)
    columns = np.rint(columns).astype(np.int64)
    there = other[np.arange(height)[:, None], columns.clip(0, width - 1)]
    in_frame = (columns >= 0) & (columns < width)
    with np.errstate(invalid="ignore"):
        return in_frame & (np.abs(disparity - there) <= CHECK_PX)


def _filled(disparity: np.ndarray, trusted: np.ndarray) -> np.ndarray:
    """Each untrusted pixel takes the farther of the nearest trusted ones in its row."""
    if not trusted.any():
        raise MethodFailed("StereoSGBM found nothing on which both directions agree")
    width = disparity.shape[1]
    columns = np.arange(width)
    before = np.maximum.accumulate(np.where(trusted, columns, -1), axis=1)
    after = np.minimum.accumulate(np.where(trusted, columns, width)[:, ::-1], axis=1)[:, ::-1]
    rows = np.arange(len(disparity))[:, None]
    left = np.where(before >= 0, disparity[rows, before.clip(0)], np.inf)
    right = np.where(after < width, disparity[rows, after.clip(max=width - 1)], np.inf)
    filled = np.where(trusted, disparity, np.minimum(left, right))
    empty_row = ~trusted.any(axis=1)
    filled[empty_row] = np.quantile(disparity[trusted], 0.1)
    return filled


def _depth_of_photos(
    found: Disparities, rectification: Rectification, cameras: Cameras, height: int, width: int
) -> tuple[Tensor, Tensor]:
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    pixels = np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    turned = torch.from_numpy(rectification.world_to_rectified).to(cameras.near)
    forward = (cameras.rays(height, width) @ turned.mT)[..., 2]
    reach = rectification.focal_px * rectification.baseline
    depths, agreements = [], []
    for view in range(2):
        place = rectification.to_rectified_px[view] @ pixels
        column, row = (place[:2] / place[2]).astype(np.int64)
        column = column.clip(0, rectification.size[1] - 1)
        row = row.clip(0, rectification.size[0] - 1)
        disparity = found.maps[view][row, column] - rectification.offset_px
        rectified_depth = torch.from_numpy(reach / disparity.clip(1e-6)).to(cameras.near)
        depths.append(rectified_depth.view(height, width) / forward[view])
        agreements.append(torch.from_numpy(found.agreed[view][row, column]).view(height, width))
    lower, upper = cameras.near[:, None, None] * 0.5, cameras.far[:, None, None] * 2
    depth = torch.stack(depths).clamp(lower, upper)
    return depth, torch.stack(agreements).to(depth.device)
