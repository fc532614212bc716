"""Known cameras of photos: the project's own ``cameras.json`` and nerfstudio's ``transforms.json``.

Both describe any number of photos, found by their file names. Files hold intrinsics in pixels
with pixel centres at +0.5 and camera-to-world poses; poses in ``cameras.json`` have OpenCV axes,
those in ``transforms.json`` have OpenGL axes (y up, z backward) and are converted.
"""

import difflib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from hisplat_models.cameras import Cameras

from .atomic_write import write_atomically

MAX_DISTORTION = 0.001
"""Largest shift by lens distortion that is ignored, as a part of the long side (0.6 px of 640)."""

MAX_ASPECT_CHANGE = 0.01
"""How much a photo's proportions may differ from its camera's; rounding of sizes stays below."""

CONVENTION = (
    "c2w 4x4, OpenCV camera axes (x right, y down, z forward); intrinsics in pixels of the stored "
    "image, pixel centres at +0.5 (top-left corner of image = (0,0)); no distortion"
)

_OPENGL_AXES = np.diag([1.0, -1.0, -1.0, 1.0])


class CameraFileError(ValueError):
    """A camera file cannot be used; the message names it and says what to do."""


@dataclass(frozen=True)
class ImageCamera:
    """The camera of one photo.

    Attributes:
        file: The photo's file name, as the camera file has it.
        width: Of the photo the intrinsics belong to, pixels.
        height: Likewise.
        fx: Focal length in pixels; so is ``fy``.
        cx: Principal point in pixels from the top-left corner of the photo; so is ``cy``.
        camera_to_world: Rigid 4x4 pose, OpenCV axes.
        near: z-depth of the nearest surface in this photo, world units; None if not stated.
        far: Of the farthest one.
    """

    file: str
    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    camera_to_world: Float[np.ndarray, "4 4"]
    near: float | None = None
    far: float | None = None

    @property
    def intrinsics_px(self) -> Float[np.ndarray, "3 3"]:
        """The 3x3 matrix in pixels."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], dtype=np.float64)

    @property
    def intrinsics(self) -> Float[np.ndarray, "3 3"]:
        """The 3x3 matrix with its rows divided by width and height."""
        return self.intrinsics_px / np.array([[self.width], [self.height], [1]])

    def at_size(self, width: int, height: int) -> "ImageCamera":
        """The camera of the same photo stored at another size.

        Raises:
            CameraFileError: if the proportions differ by more than 1 %.
        """
        x, y = width / self.width, height / self.height
        if abs(x / y - 1) > MAX_ASPECT_CHANGE:
            turned = abs(width / self.height * self.width / height - 1) <= MAX_ASPECT_CHANGE
            advice = (
                "The camera belongs to the photo before its EXIF rotation: write both upright."
                if turned
                else "Give the photo the cameras were made for, not a crop of it."
            )
            raise CameraFileError(
                f"{self.file} is {width}x{height} px, but its camera is for "
                f"{self.width}x{self.height} px. {advice}"
            )
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * x,
            fy=self.fy * y,
            cx=self.cx * x,
            cy=self.cy * y,
        )


@dataclass(frozen=True)
class CameraPair:
    """Two photos to reconstruct from and those to compare with; None where the file is silent."""

    left: str
    right: str
    targets: tuple[str, ...] = ()
    near: float | None = None
    far: float | None = None


@dataclass(frozen=True)
class CameraFile:
    """What a camera file says.

    Attributes:
        path: Where it was read.
        images: The cameras of its photos.
        pairs: Which photos belong together.
        near: z-depth of the nearest surface of the scene, world units; None if not stated.
        far: Of the farthest one.
        trajectory: Cameras without photos (their ``file`` is empty), e.g. for a fly-through.
        points: A .ply with points on the scene's surfaces; None if not stated.
    """

    path: Path
    images: tuple[ImageCamera, ...]
    pairs: tuple[CameraPair, ...] = ()
    near: float | None = None
    far: float | None = None
    trajectory: tuple[ImageCamera, ...] = ()
    points: Path | None = None

    def photo_path(self, image: ImageCamera) -> Path:
        """Where a photo should be: paths are relative to the file's folder."""
        path = self.path.parent / image.file
        # Blender's transforms.json leaves the ending out.
        return path if path.suffix else path.with_suffix(".png")

    def find(self, file: str | Path) -> ImageCamera:
        """The camera of a photo: by its path as written in the file, else by its last part.

        Raises:
            CameraFileError: if there is none, or several photos of that name.
        """
        wanted = Path(file)
        found = [i for i in self.images if i.file == wanted.as_posix()]
        found = found or [i for i in self.images if Path(i.file).name == wanted.name]
        # Blender's transforms.json leaves the ending out.
        found = found or [
            i for i in self.images if not Path(i.file).suffix and Path(i.file).name == wanted.stem
        ]
        if len(found) > 1:
            same = ", ".join(i.file for i in found[:4])
            raise CameraFileError(f"{self.path} has several photos named {wanted.name}: {same}.")
        if not found:
            names = [Path(i.file).name for i in self.images]
            close = difflib.get_close_matches(wanted.name, names, n=3, cutoff=0.4) or names[:3]
            raise CameraFileError(
                f"{self.path} has no camera for {wanted.name}; it has {len(names)} photos, such as "
                f"{', '.join(close)}. Photos are looked up by their file names."
            )
        return found[0]

    def depth_range(self, *photos: str | Path) -> tuple[float, float] | None:
        """Near and far for photos: of a pair, else their own, else of the scene; or None.

        Raises:
            CameraFileError: if one of them has no camera.
        """
        views = [self.find(photo) for photo in photos]
        files = {v.file for v in views}
        for pair in self.pairs:
            if {pair.left, pair.right} == files and pair.near and pair.far:
                return pair.near, pair.far
        nears, fars = [v.near for v in views if v.near], [v.far for v in views if v.far]
        if len(nears) == len(fars) == len(views):
            return min(nears), max(fars)
        return (self.near, self.far) if self.near and self.far else None


def to_cameras(views: Sequence[ImageCamera], near: float, far: float) -> Cameras:
    """Cameras of shape (view,) with one range of depths.

    Raises:
        ValueError: unless 0 < near < far.
    """
    if not 0 < near < far:
        raise ValueError(f"Expected 0 < near < far, got {near} and {far}.")
    poses = np.stack([v.camera_to_world for v in views])
    intrinsics = np.stack([v.intrinsics for v in views])
    return Cameras(
        torch.from_numpy(poses).float(),
        torch.from_numpy(intrinsics).float(),
        torch.full((len(views),), near),
        torch.full((len(views),), far),
    )


def from_cameras(
    cameras: Cameras, files: Sequence[str], sizes: Sequence[tuple[int, int]]
) -> list[ImageCamera]:
    """What to write for cameras of shape (view,), given their photos' names and (height, width).

    Raises:
        ValueError: if the numbers of cameras, names and sizes differ.
    """
    views = []
    for camera, file, (height, width) in zip(range(len(cameras.near)), files, sizes, strict=True):
        size = np.array([[width], [height], [1]])
        k = cameras.intrinsics[camera].double().cpu().numpy() * size
        pose = cameras.camera_to_world[camera].double().cpu().numpy()
        near, far = float(cameras.near[camera]), float(cameras.far[camera])
        fx, fy, cx, cy = (float(v) for v in (k[0, 0], k[1, 1], k[0, 2], k[1, 2]))
        views.append(ImageCamera(file, width, height, fx, fy, cx, cy, pose, near, far))
    return views


def write_cameras(
    path: Path | str,
    images: Sequence[ImageCamera],
    pairs: Sequence[CameraPair] = (),
    near: float | None = None,
    far: float | None = None,
) -> None:
    """Writes ``cameras.json``; ``read_cameras`` gives exactly the same back.

    Raises:
        FileNotFoundError: if the folder does not exist.
    """
    document: dict[str, Any] = {"convention": CONVENTION, **_range(near, far)}
    document["images"] = [
        {
            "file": i.file,
            "width": i.width,
            "height": i.height,
            "fx": i.fx,
            "fy": i.fy,
            "cx": i.cx,
            "cy": i.cy,
            "c2w": i.camera_to_world.tolist(),
            **_range(i.near, i.far),
        }
        for i in images
    ]
    if pairs:
        document["pairs"] = [
            {"left": p.left, "right": p.right, "targets": list(p.targets), **_range(p.near, p.far)}
            for p in pairs
        ]
    write_atomically(path, (json.dumps(document, indent=1) + "\n").encode())


def write_transforms(
    path: Path | str, images: Sequence[ImageCamera], points: str | None = None
) -> None:
    """Writes nerfstudio's ``transforms.json``; ``read_cameras`` gives the same cameras back.

    Args:
        path: Where to.
        images: The cameras.
        points: A .ply with points of the scene, relative to the file's folder.

    Raises:
        FileNotFoundError: if the folder does not exist.
    """
    frames = [
        {
            "file_path": i.file,
            "w": i.width,
            "h": i.height,
            "fl_x": i.fx,
            "fl_y": i.fy,
            "cx": i.cx,
            "cy": i.cy,
            "transform_matrix": (i.camera_to_world @ _OPENGL_AXES).tolist(),
        }
        for i in images
    ]
    document: dict[str, Any] = {"camera_model": "OPENCV", "frames": frames}
    if points is not None:
        document["ply_file_path"] = points
    write_atomically(path, (json.dumps(document, indent=1) + "\n").encode())


def read_cameras(path: Path | str) -> CameraFile:
    """Reads ``cameras.json`` or nerfstudio's ``transforms.json``, told apart by their content.

    Raises:
        FileNotFoundError: if there is no such file.
        CameraFileError: if it cannot be understood, or its photos are not undistorted.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no camera file {path}.")
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise CameraFileError(f"{path} is no JSON file in UTF-8: {error}.") from error
    except (ValueError, RecursionError) as error:
        raise CameraFileError(f"Cannot read {path} as JSON: {error}.") from error
    if not isinstance(document, dict):
        raise CameraFileError(f"{path} is not laid out as expected: it is no JSON object.")
    try:
        if "frames" in document:
            return _read_transforms(document, path)
        if "images" in document or "context" in document:
            return _read_posed_folder(document, path)
    except KeyError as error:
        raise CameraFileError(f"{path} lacks {error} where it is needed.") from error
    except (TypeError, AttributeError, OverflowError) as error:
        raise CameraFileError(f"{path} is not laid out as expected: {error}.") from error
    raise CameraFileError(
        f'{path} describes no photos: expected "images" (cameras.json) or "frames" '
        "(transforms.json of nerfstudio)."
    )


def _range(near: float | None, far: float | None) -> dict[str, float]:
    return {k: v for k, v in (("near", near), ("far", far)) if v is not None}


def _read_posed_folder(document: dict[str, Any], path: Path) -> CameraFile:
    entries = document["images"] if "images" in document else document["context"]
    images = tuple(_read_image(entry, document, path) for entry in entries)
    unnamed = [t for t in document.get("targets", []) if not t.get("file")]
    pairs = tuple(
        CameraPair(
            left=str(p["left"]),
            right=str(p["right"]),
            targets=tuple(str(t) for t in p.get("targets", [])),
            near=_optional(p, "near", path),
            far=_optional(p, "far", path),
        )
        for p in document.get("pairs", [])
    )
    known = {i.file for i in images}
    for pair in pairs:
        unknown = sorted({pair.left, pair.right, *pair.targets} - known)
        if unknown:
            raise CameraFileError(f"A pair in {path} names {', '.join(unknown)}, not described.")
    return CameraFile(
        path=path,
        images=images,
        pairs=pairs,
        near=_optional(document, "near", path),
        far=_optional(document, "far", path),
        trajectory=tuple(_read_image(entry, document, path) for entry in unnamed),
    )


def _read_image(entry: dict[str, Any], document: dict[str, Any], path: Path) -> ImageCamera:
    file = str(entry.get("file") or "")
    sizes = {**document, **entry}
    suffix = "_px" if "fx_px" in entry else ""
    fx, fy, cx, cy = (_number(entry, f"{k}{suffix}", path) for k in ("fx", "fy", "cx", "cy"))
    return _checked(
        ImageCamera(
            file=file,
            width=int(_number(sizes, "width", path)),
            height=int(_number(sizes, "height", path)),
            fx=fx,
            fy=fy,
            cx=cx,
            cy=cy,
            camera_to_world=_pose(entry["c2w"], file, path),
            near=_optional(entry, "near", path),
            far=_optional(entry, "far", path),
        ),
        path,
    )


def _read_transforms(document: dict[str, Any], path: Path) -> CameraFile:
    images = []
    for frame in document["frames"]:
        values = {**document, **frame}
        file = str(frame["file_path"]).removeprefix("./")
        width, height = _transforms_size(values, file, path)
        fx = _transforms_focal(values, "fl_x", "camera_angle_x", width, path)
        if fx is None:
            raise CameraFileError(f"{path} has neither fl_x nor camera_angle_x for {file}.")
        fy = _transforms_focal(values, "fl_y", "camera_angle_y", height, path) or fx
        cx = _number(values, "cx", path) if "cx" in values else width / 2
        cy = _number(values, "cy", path) if "cy" in values else height / 2
        pose = _pose(frame["transform_matrix"], file, path) @ _OPENGL_AXES
        image = _checked(ImageCamera(file, width, height, fx, fy, cx, cy, pose), path)
        _refuse_distortion(values, image, path)
        images.append(image)
    points = document.get("ply_file_path")
    return CameraFile(
        path, tuple(images), points=None if points is None else path.parent / str(points)
    )


def _transforms_size(values: dict[str, Any], file: str, path: Path) -> tuple[int, int]:
    if "w" in values and "h" in values:
        return int(_number(values, "w", path)), int(_number(values, "h", path))
    # Blender's files state no size: the photos beside the file do.
    for photo in (path.parent / file, path.parent / f"{file}.png"):
        if photo.is_file():
            with Image.open(photo) as image:
                return image.size
    raise CameraFileError(f"{path} states no w and h, and the photo {file} is not beside it.")


def _transforms_focal(
    values: dict[str, Any], focal: str, angle: str, side: int, path: Path
) -> float | None:
    if focal in values:
        return _number(values, focal, path)
    return 0.5 * side / math.tan(0.5 * _number(values, angle, path)) if angle in values else None


def _refuse_distortion(values: dict[str, Any], image: ImageCamera, path: Path) -> None:
    """Raises CameraFileError if the lens shifts the photo's corners noticeably."""
    model = str(values.get("camera_model", "OPENCV"))
    if model not in ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL"):
        raise CameraFileError(f"{path}: cameras of the model {model} are not supported.")
    names = ("k1", "k2", "k3", "k4", "p1", "p2")
    k1, k2, k3, k4, p1, p2 = (_number(values, n, path) if n in values else 0.0 for n in names)
    u, v = np.meshgrid([0.0, image.width], [0.0, image.height])
    x, y = (u - image.cx) / image.fx, (v - image.cy) / image.fy
    r2 = x * x + y * y
    radial = r2 * (k1 + r2 * (k2 + r2 * (k3 + r2 * k4)))
    shift_x = image.fx * (x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x))
    shift_y = image.fy * (y * radial + 2 * p2 * x * y + p1 * (r2 + 2 * y * y))
    shift = float(np.hypot(shift_x, shift_y).max())
    if shift > MAX_DISTORTION * max(image.width, image.height):
        raise CameraFileError(
            f"{path} describes distorted photos (lens distortion moves a corner of {image.file} by "
            f"{shift:.1f} px). Undistort them first, for example with `colmap image_undistorter`."
        )


def _checked(image: ImageCamera, path: Path) -> ImageCamera:
    if min(image.width, image.height) < 1 or min(image.fx, image.fy) <= 0:
        raise CameraFileError(
            f"The camera of {image.file or 'a view'} in {path} is impossible: size "
            f"{image.width}x{image.height}, focal lengths {image.fx} and {image.fy}."
        )
    return image


def _pose(value: Any, file: str, path: Path) -> Float[np.ndarray, "4 4"]:
    where = f"the pose of {file or 'a view'} in {path}"
    try:
        pose = np.array(value, dtype=np.float64)
    except ValueError as error:
        raise CameraFileError(f"Expected numbers for {where}: {error}.") from error
    if pose.shape == (3, 4):
        pose = np.vstack([pose, [0.0, 0.0, 0.0, 1.0]])
    if pose.shape != (4, 4):
        raise CameraFileError(f"Expected a 4x4 matrix for {where}, got {pose.shape}.")
    if not np.isfinite(pose).all():
        raise CameraFileError(f"Expected finite numbers for {where}, got NaN or infinite ones.")
    rotation = pose[:3, :3]
    rigid = np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3)
    affine = np.allclose(pose[3], [0, 0, 0, 1], atol=1e-5)
    if not rigid or np.linalg.det(rotation) < 0 or not affine:
        raise CameraFileError(f"Expected a rotation and a translation for {where}.")
    pose[3] = [0, 0, 0, 1]
    return pose


def _optional(entry: dict[str, Any], key: str, path: Path) -> float | None:
    return None if entry.get(key) is None else _number(entry, key, path)


def _number(entry: dict[str, Any], key: str, path: Path) -> float:
    value = entry[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise CameraFileError(f"Expected a number for {key!r} in {path}, got {value!r}.")
    return float(value)
