"""Rectified stereo pairs with true disparity.

A folder holds ``left.png``, ``right.png``, ``disparity.npy`` (float32, left image,
x_right = x_left - disparity, NaN where unknown) and ``calib.json`` with the pixel focal length
``fx``, ``fy``, the left principal point ``cx``, ``cy``, ``doffs`` (right cx minus left cx) and
``baseline_mm``; any of them may be null.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hisplat_models.cameras import Cameras

from ..images import load_photo

UNKNOWN_FOCAL_IN_WIDTHS = 1.2
"""Focal length assumed for uncalibrated pairs: about 45 degrees. Disparities do not depend on it,
it only sets how deep the scene is drawn."""


@dataclass(frozen=True)
class StereoFolder:
    """A rectified pair; everything about disparity is in pixels of the stored photos.

    Attributes:
        name: The folder's name.
        images: Left and right photo, RGB in [0, 1].
        disparity: Of the left photo, NaN where unknown.
        focal_px: Horizontal focal length, stated or assumed.
        principal_px: Of the left photo (x, y), stated or the centre.
        offset_px: Right principal x minus left principal x, 0 if not stated.
        baseline: In millimetres if stated, else 1: the unit of depth.
        calibrated: Whether focal length, offset and baseline are all stated.
    """

    name: str
    images: Float[Tensor, "2 3 height width"]
    disparity: Float[Tensor, "height width"]
    focal_px: float
    principal_px: tuple[float, float]
    offset_px: float
    baseline: float
    calibrated: bool

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the stored photos."""
        return self.images.shape[-2], self.images.shape[-1]

    def cameras(self, near: float, far: float) -> Cameras:
        """Left and right camera; the world is the left one, lengths are those of ``baseline``."""
        height, width = self.size
        intrinsics = torch.eye(3).repeat(2, 1, 1)
        intrinsics[:, 0, 0] = self.focal_px / width
        intrinsics[:, 1, 1] = self.focal_px / height
        intrinsics[:, 0, 2] = self.principal_px[0] / width
        intrinsics[1, 0, 2] += self.offset_px / width
        intrinsics[:, 1, 2] = self.principal_px[1] / height
        pose = torch.eye(4).repeat(2, 1, 1)
        pose[1, 0, 3] = self.baseline
        return Cameras(pose, intrinsics, torch.full((2,), near), torch.full((2,), far))

    def disparity_of_depth(self, depth: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
        """Disparity in pixels of a z-depth map of the left view (of any resolution)."""
        return self.focal_px * self.baseline / depth - self.offset_px

    def depth_of_disparity(self, disparity: float) -> float:
        """z-depth of a disparity in pixels.

        Raises:
            ValueError: for disparities of points at or beyond infinity.
        """
        if disparity + self.offset_px <= 0:
            raise ValueError(f"A disparity of {disparity} px lies beyond infinity.")
        return self.focal_px * self.baseline / (disparity + self.offset_px)


def is_stereo_folder(path: Path) -> bool:
    """Whether the folder looks like one that ``read_stereo_folder`` reads."""
    return (path / "disparity.npy").is_file()


def read_stereo_folder(path: Path | str) -> StereoFolder:
    """The pair of a folder.

    Raises:
        FileNotFoundError: if one of the four files is missing.
        ValueError: if they contradict each other or cannot be read.
    """
    path = Path(path)
    for name in ("left.png", "right.png", "disparity.npy", "calib.json"):
        if not (path / name).is_file():
            raise FileNotFoundError(f"The stereo folder {path} has no {name}.")
    left, right = (load_photo(path / f"{side}.png").image for side in ("left", "right"))
    if left.shape != right.shape:
        raise ValueError(
            f"Expected two photos of equal size in {path}, got {_size(left)} and {_size(right)}."
        )
    disparity = _read_disparity(path / "disparity.npy")
    if disparity.shape != left.shape[-2:]:
        raise ValueError(
            f"{path / 'disparity.npy'} has shape {tuple(disparity.shape)}, but the photos are "
            f"{_size(left)}."
        )
    calibration = _read_calibration(path / "calib.json")
    height, width = disparity.shape
    focal, baseline, offset = (calibration.get(k) for k in ("fx", "baseline_mm", "doffs"))
    return StereoFolder(
        name=path.name,
        images=torch.stack([left, right]),
        disparity=disparity,
        focal_px=UNKNOWN_FOCAL_IN_WIDTHS * width if focal is None else focal,
        principal_px=(calibration.get("cx") or width / 2, calibration.get("cy") or height / 2),
        offset_px=offset or 0.0,
        baseline=baseline or 1.0,
        calibrated=None not in (focal, baseline, offset),
    )


def _read_disparity(path: Path) -> Tensor:
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"Cannot read {path} as a numpy array: {error}") from error
    if values.ndim != 2 or values.dtype.kind != "f":
        raise ValueError(
            f"Expected a 2-D array of floats in {path}, got {values.dtype} {values.shape}."
        )
    disparity = torch.from_numpy(values.astype(np.float32))
    # Some sources mark unknown pixels with infinity; here unknown is always NaN.
    return torch.where(torch.isfinite(disparity), disparity, torch.nan)


def _read_calibration(path: Path) -> dict[str, float | None]:
    try:
        document: Any = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"Cannot read {path} as JSON: {error}") from error
    if not isinstance(document, dict):
        raise ValueError(f"Expected a JSON object in {path}, got {type(document).__name__}.")
    numbers: dict[str, float | None] = {}
    for key in ("fx", "cx", "cy", "doffs", "baseline_mm"):
        value = document.get(key)
        if value is not None and not isinstance(value, int | float):
            raise ValueError(f"Expected a number or null for {key} in {path}, got {value!r}.")
        numbers[key] = None if value is None else float(value)
    for key in ("fx", "baseline_mm"):
        value = numbers[key]
        if value is not None and value <= 0:
            raise ValueError(f"{key} in {path} must be positive, got {value}.")
    return numbers


def _size(image: Tensor) -> str:
    return f"{image.shape[-1]}x{image.shape[-2]}"
