"""Rectified stereo pairs of random scenes, with exact disparity at every pixel."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..datasets.stereo import StereoFolder
from .dataset import ProceduralSettings
from .layouts import sample_layout, sample_scene
from .photo_effects import Exposure, draw_faults, draw_metering, draw_tint, photograph
from .render import Camera, Rendering, render, render_depth
from .scene import Scene
from .views import covisible, sample_cameras

HIGHEST_SHARE = 0.3
"""Pairs whose nearest percent of pixels moves by more of the width than this are drawn anew."""


@dataclass(frozen=True)
class StereoSettings:
    """What procedural stereo pairs are like."""

    height: int = 368
    """Rows of both photos."""
    width: int = 480
    """Columns of both photos."""
    samples_per_pixel: int = 6
    """Shaded rays a pixel."""
    texture_size: int = 512
    """Side of the textures in texels, a power of two."""
    disparity_range: tuple[float, float] = (0.03, 0.12)
    """Least and greatest disparity of a pair's median depth, as a share of the width."""
    least_covisibility: float = 0.6
    """Share of the left photo that the right one must see as well."""
    photo_effects: float = 0.5
    """Strength of exposure changes, noise, blur, vignetting and JPEG; 0 for none."""


def make_stereo_pair(rng: np.random.Generator, settings: StereoSettings, name: str) -> StereoFolder:
    """A random scene seen by two cameras side by side; lengths in the scene's unit."""
    while True:
        layout = sample_layout(rng, ProceduralSettings.layouts)
        scene = sample_scene(rng, layout, settings.texture_size)
        cameras = _sample_stereo(rng, scene, settings)
        if cameras is not None:
            break
    left, right = cameras
    size = settings.height, settings.width, settings.samples_per_pixel
    views = [render(scene, camera, *size) for camera in cameras]
    focal = left.intrinsics[0, 0] * settings.width
    baseline = float(np.linalg.norm(right.camera_to_world[:3, 3] - left.camera_to_world[:3, 3]))
    return StereoFolder(
        name=name,
        images=_photos(rng, views, settings),
        disparity=torch.from_numpy((focal * baseline / views[0].depth).astype(np.float32)),
        focal_px=float(focal),
        principal_px=(
            float(left.intrinsics[0, 2] * settings.width),
            float(left.intrinsics[1, 2] * settings.height),
        ),
        offset_px=0.0,
        baseline=baseline,
        calibrated=True,
    )


def _sample_stereo(
    rng: np.random.Generator, scene: Scene, settings: StereoSettings
) -> tuple[Camera, Camera] | None:
    """A camera with a clear view and one to its right; None where the overlap is too small."""
    found = sample_cameras(rng, scene, settings.width / settings.height, 1, 0)
    if found is None:
        return None
    # Square pixels, so that rows stay rows: the sampled cameras have them.
    left = found.context[0]
    shape = settings.height // 4, settings.width // 4
    depth, is_sky = render_depth(scene, left, *shape)
    low, high = np.log(settings.disparity_range)
    share = math.exp(rng.uniform(low, high))
    baseline = share * float(np.median(depth[~is_sky])) / left.intrinsics[0, 0]
    if left.intrinsics[0, 0] * baseline / np.quantile(depth, 0.01) > HIGHEST_SHARE:
        return None
    pose = left.camera_to_world.copy()
    pose[:3, 3] += baseline * pose[:3, 0]
    right = replace(left, camera_to_world=pose)
    other_depth, _ = render_depth(scene, right, *shape)
    if covisible(depth, left, other_depth, right, 0.05).mean() < settings.least_covisibility:
        return None
    return left, right


def _photos(
    rng: np.random.Generator, views: list[Rendering], settings: StereoSettings
) -> torch.Tensor:
    """Both views with the faults of photos, (2, 3, H, W)."""
    strength = settings.photo_effects
    first = draw_metering(rng).exposure(views[0].radiance)
    exposures = (first, Exposure(first.gains * draw_tint(rng, strength)))
    photos = []
    for view, exposure in zip(views, exposures, strict=True):
        size = settings.height, settings.width
        faults = draw_faults(rng, *size, strength) if strength > 0 else None
        photos.append(photograph(view.radiance, exposure, faults))
    return torch.from_numpy(np.ascontiguousarray(np.stack(photos).transpose(0, 3, 1, 2)))
