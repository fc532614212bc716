"""Captures as nerfstudio reads them: photos, ``transforms.json``, a cloud of coloured points."""

import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from plyfile import PlyData, PlyElement

from .atomic_write import write_atomically
from .cameras_json import ImageCamera, to_cameras, write_transforms
from .known_cameras import matched_points
from .two_view import TwoViewError

IMAGES = "images"
POINTS_FILE = "points.ply"
TRANSFORMS_FILE = "transforms.json"

PARTNERS = (1, 2, 4)
"""Photos this many places further in the capture's order are matched for points."""

LEAST_PARALLAX = 0.03
"""Distance of two cameras over the depth of a point, below which the point is left out."""

Pixels = UInt8[np.ndarray, "height width 3"]


def write_nerfstudio_capture(
    folder: Path,
    photos: Sequence[Pixels],
    views: Sequence[ImageCamera],
    points: tuple[Float[np.ndarray, "n 3"], UInt8[np.ndarray, "n 3"]] | None = None,
) -> None:
    """Writes the photos as PNG files, ``transforms.json`` last, and the points if there are any.

    Args:
        folder: Made if only its last part is missing.
        photos: sRGB.
        views: The cameras at the photos' sizes; files are named after the last parts of theirs.
        points: Positions in the cameras' world, and their sRGB.

    Raises:
        ValueError: if two photos have the same name.
        OSError: if something cannot be written.
    """
    names = [f"{IMAGES}/{Path(view.file).stem}.png" for view in views]
    if len(set(names)) < len(names):
        raise ValueError("Two photos of the capture have the same name: rename one of them.")
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    for name, photo in zip(names, photos, strict=True):
        done, content = cv2.imencode(".png", photo[..., ::-1])
        assert done
        write_atomically(folder / name, content.tobytes())
    if points is not None:
        write_atomically(folder / POINTS_FILE, _points_ply(*points))
    named = [
        ImageCamera(
            name, view.width, view.height, view.fx, view.fy, view.cx, view.cy, view.camera_to_world
        )
        for name, view in zip(names, views, strict=True)
    ]
    write_transforms(folder / TRANSFORMS_FILE, named, POINTS_FILE if points is not None else None)


def sparse_points(
    photos: Sequence[Pixels], views: Sequence[ImageCamera], most: int = 10_000, seed: int = 0
) -> tuple[Float[np.ndarray, "n 3"], UInt8[np.ndarray, "n 3"]]:
    """What keypoints of neighbouring photos show under the known cameras: positions and colours.

    Args:
        photos: sRGB, in the order in which they were taken.
        views: Their cameras, at their sizes.
        most: Points at most.
        seed: Of the choice among more.
    """
    cameras = to_cameras(views, 1.0, 2.0)
    positions, colors = [np.empty((0, 3))], [np.empty((0, 3), np.uint8)]
    for left in range(len(photos)):
        for right in (left + step for step in PARTNERS if left + step < len(photos)):
            pair = cameras[[left, right]]
            try:
                points = matched_points(photos[left], photos[right], pair)
            except TwoViewError:
                continue  # not every neighbour overlaps
            x, y, depth = pair[0].project(torch.from_numpy(points).float()).numpy().T
            baseline = (pair.positions[0] - pair.positions[1]).norm().item()
            kept = depth * LEAST_PARALLAX < baseline
            height, width = photos[left].shape[:2]
            row = (y[kept] * height).astype(int).clip(0, height - 1)
            column = (x[kept] * width).astype(int).clip(0, width - 1)
            positions.append(points[kept])
            colors.append(photos[left][row, column])
    every, shades = np.concatenate(positions), np.concatenate(colors)
    chosen = np.random.default_rng(seed).permutation(len(every))[:most]
    return every[chosen], shades[chosen]


def _points_ply(positions: Float[np.ndarray, "n 3"], colors: UInt8[np.ndarray, "n 3"]) -> bytes:
    kinds = [(name, "f4") for name in "xyz"] + [(name, "u1") for name in ("red", "green", "blue")]
    records = np.empty(len(positions), dtype=kinds)
    for axis, name in enumerate("xyz"):
        records[name] = positions[:, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        records[name] = colors[:, channel]
    buffer = io.BytesIO()
    PlyData([PlyElement.describe(records, "vertex")], byte_order="<").write(buffer)
    return buffer.getvalue()
