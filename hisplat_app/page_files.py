"""The files that the page offers besides scenes: cameras, depth maps, pictures, videos."""

import io
import re
import tempfile
import threading
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hisplat_data_tools.camera_files import write_camera_file
from hisplat_data_tools.cameras_json import CameraPair, ImageCamera, from_cameras
from hisplat_data_tools.depth_maps import to_depth_png_bytes, to_npy_bytes
from hisplat_data_tools.video import Frame, write_video
from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import Gaussians
from hisplat_viewer.saving import CameraFormat, Color, PhotoCameras, Progress, VideoPlan

from . import camera_paths
from .drawing import SceneDrawer

COLMAP_FOLDER = "sparse/0"
"""Where other programs look for the model, beside the folder of photos."""
PNG_LEVEL = 3
"""Twice as fast as the usual 6, and a few per cent larger."""


class PageFiles:
    """Makes the page's files (``hisplat_viewer.SceneSaver``).

    One picture is drawn at a time, whoever asks for it: a picture takes all cores anyway, and
    memory for one is enough.
    """

    def __init__(self) -> None:
        self._pencil = threading.Lock()

    def camera_file(self, photos: PhotoCameras, gaussians: Gaussians, kind: CameraFormat) -> bytes:
        """The cameras of the photos; COLMAP's model also has points of the finest level.

        Raises:
            ValueError: if the format cannot hold a photo's name.
        """
        images = from_cameras(photos.cameras, distinct_names(photos.names), photos.sizes)
        near, far = float(photos.cameras.near.min()), float(photos.cameras.far.max())
        pairs = [CameraPair(images[0].file, images[-1].file, near=near, far=far)]
        with tempfile.TemporaryDirectory(prefix="hisplat-") as folder:
            path = Path(folder) / ("model" if kind == "colmap.zip" else kind)
            write_camera_file(path, images, pairs, near, far, gaussians)
            if path.is_file():
                return path.read_bytes()
            return zipped({f"{COLMAP_FOLDER}/{f.name}": f.read_bytes() for f in path.iterdir()})

    def depth_maps(
        self,
        gaussians: Gaussians,
        cameras: Cameras,
        size: tuple[int, int],
        names: Sequence[str],
        progress: Progress,
    ) -> bytes:
        """A .zip with the z-depth from each of cameras (view,) as .npy and as 16-bit .png."""
        drawer = SceneDrawer(gaussians)
        files = {}
        for i, name in enumerate(distinct_names([harmless_stem(name) for name in names])):
            progress(f"drawing the depth of photo {i + 1}", i / len(names))
            with self._pencil:
                depth = drawer.draw(cameras[i], size).depth
            files[f"{name}.npy"] = to_npy_bytes(depth)
            files[f"{name}.depth.png"] = to_depth_png_bytes(depth)
        return zipped(files)

    def still(
        self, gaussians: Gaussians, camera: Cameras, size: tuple[int, int], background: Color
    ) -> bytes:
        """A .png of what a camera of shape () sees."""
        with self._pencil:
            pixels = SceneDrawer(gaussians, background=background).draw(camera, size).pixels
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "png", compress_level=PNG_LEVEL)
        return buffer.getvalue()

    def video(self, gaussians: Gaussians, plan: VideoPlan, progress: Progress) -> bytes:
        """The frames along a path in the plan's format.

        Raises:
            ValueError: if the path needs other cameras, or they see nothing of the scene.
        """
        drawer = SceneDrawer(gaussians, background=plan.background)
        with self._pencil:
            cameras = _path(drawer, plan)
        frames = self._frames(drawer, cameras, plan.size, progress)
        with tempfile.TemporaryDirectory(prefix="hisplat-") as folder:
            path = Path(folder) / f"video{plan.ending}"
            write_video(path, frames, plan.frames_per_second)
            return path.read_bytes()

    def _frames(
        self, drawer: SceneDrawer, cameras: Cameras, size: tuple[int, int], progress: Progress
    ) -> Iterator[Frame]:
        count = len(cameras.near)
        for i in range(count):
            progress(f"drawing frame {i + 1} of {count}", i / count)
            with self._pencil:
                pixels = drawer.draw(cameras[i], size).pixels
            yield pixels


def photo_cameras(images: Sequence[ImageCamera], near: float, far: float) -> PhotoCameras:
    """The cameras of whole photos, as the page passes them on."""
    cameras = Cameras(
        torch.from_numpy(np.stack([image.camera_to_world for image in images])),
        torch.from_numpy(np.stack([image.intrinsics for image in images])),
        torch.full((len(images),), near, dtype=torch.float64),
        torch.full((len(images),), far, dtype=torch.float64),
    )
    sizes = tuple((image.height, image.width) for image in images)
    return PhotoCameras(tuple(image.file for image in images), sizes, cameras)


def distinct_names(names: Sequence[str]) -> list[str]:
    """The names, numbered if two are the same: phones call every photo image.jpg."""
    if len({name.lower() for name in names}) == len(names):
        return list(names)
    return [f"{i}_{name}" for i, name in enumerate(names, start=1)]


def harmless_stem(name: str) -> str:
    """A stranger's file name without its ending and without what a file system may trip over."""
    stem = Path(name.replace("\\", "/")).stem
    return re.sub(r"[^\w.-]", "_", stem).strip(".")[:60] or "photo"


def zipped(files: dict[str, bytes]) -> bytes:
    """The content of a .zip with these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _path(drawer: SceneDrawer, plan: VideoPlan) -> Cameras:
    """A camera a frame."""
    frames = max(1, round(plan.seconds * plan.frames_per_second))
    match plan.path:
        case "between":
            return camera_paths.between(plan.cameras, frames)
        case "keyframes":
            return camera_paths.spline(plan.cameras, frames)
    camera = plan.cameras[0]
    _, focus, _ = drawer.depth_range(camera, plan.size)
    move = camera_paths.wobble if plan.path == "wobble" else camera_paths.orbit
    return move(camera, focus, frames)
