"""A capture of the composed room: many photos along a path, with exact cameras and points.

What nerfstudio reads: a ``transforms.json`` beside a folder ``images``, and a cloud of coloured
points as structure from motion would find them, only exact.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from ..cameras_json import ImageCamera
from ..nerfstudio_capture import write_nerfstudio_capture
from .demo import demo_scene
from .photo_effects import Exposure, develop
from .render import Camera, render
from .views import look_at

MIDDLE_GRAY = 0.2
"""Linear brightness that the median of the first picture gets."""


@dataclass(frozen=True)
class CaptureSettings:
    """What the capture is like."""

    views: int = 12
    """Photos."""
    width: int = 96
    """Columns of every photo."""
    height: int = 72
    """Rows of every photo."""
    focal: float = 0.9
    """Focal length over the width."""
    reach: float = 1.0
    """Width of the arc along which the camera moves, metres; things are 2 to 4 m away."""
    samples_per_pixel: int = 4
    """Shaded rays a pixel."""
    points: int = 1500
    """Points of the cloud; 0 writes none."""


def write_capture(folder: Path, settings: CaptureSettings | None = None, seed: int = 0) -> None:
    """Writes the photos, ``transforms.json`` and the points; the same for the same settings.

    Args:
        folder: Where to; made if it isn't there.
        settings: See there.
        seed: Of the choice of points.

    Raises:
        OSError: if a photo cannot be written.
    """
    settings = settings or CaptureSettings()
    scene = demo_scene()
    focal_px = settings.focal * settings.width
    intrinsics = np.array(
        [[settings.focal, 0, 0.5], [0, focal_px / settings.height, 0.5], [0, 0, 1.0]]
    )
    exposure: Exposure | None = None
    photos, views, clouds = [], [], []
    for number, pose in enumerate(_poses(settings)):
        camera = Camera(pose, intrinsics)
        view = render(scene, camera, settings.height, settings.width, settings.samples_per_pixel)
        exposure = exposure or Exposure(np.full(3, MIDDLE_GRAY / float(np.median(view.radiance))))
        photo = (develop(view.radiance, exposure) * 255 + 0.5).astype(np.uint8)
        middle = settings.width / 2, settings.height / 2
        size = settings.width, settings.height
        photos.append(photo)
        views.append(ImageCamera(f"{number:03d}", *size, focal_px, focal_px, *middle, pose))
        clouds.append(_world_points(camera, view.depth, photo))
    points = None
    if settings.points:
        every = np.concatenate(clouds)
        chosen = np.random.default_rng(seed).choice(len(every), settings.points, replace=False)
        points = every[chosen, :3], every[chosen, 3:].astype(np.uint8)
    write_nerfstudio_capture(folder, photos, views, points)


def _poses(settings: CaptureSettings) -> list[Float[np.ndarray, "4 4"]]:
    """Along an arc in front of the room, up and down in waves, always looking at its middle."""
    shares = (np.arange(settings.views) + 0.5) / settings.views - 0.5
    return [
        look_at(
            np.array(
                [
                    0.1 + settings.reach * share,
                    -2.1 + 0.4 * settings.reach * share**2,
                    1.45 + 0.15 * math.sin(3 * math.pi * share),
                ]
            ),
            np.array([0.05 + 0.3 * settings.reach * share, 2.0, 0.95]),
        )
        for share in shares
    ]


def _world_points(
    camera: Camera, depth: Float[np.ndarray, "h w"], photo: UInt8[np.ndarray, "h w 3"]
) -> Float[np.ndarray, "n 6"]:
    """What each pixel sees: position and colour."""
    height, width = depth.shape
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(camera.intrinsics).T
    local = rays * depth[..., None]
    pose = camera.camera_to_world
    world = local @ pose[:3, :3].T + pose[:3, 3]
    return np.concatenate([world, photo], axis=-1).reshape(-1, 6)
