"""Cameras and points as COLMAP's text model: cameras.txt, images.txt, points3D.txt.

COLMAP's world and camera axes are ours (x right, y down, z forward), its pixels too (centres at
+0.5); it stores world-to-camera poses.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from hisplat_models.gaussians import Gaussians

from .atomic_write import write_atomically
from .cameras_json import ImageCamera

SOLID_OPACITY = 0.5
"""Gaussians below it are no points of a surface."""


def write_colmap_text(
    folder: Path | str, images: Sequence[ImageCamera], gaussians: Gaussians | None = None
) -> None:
    """Writes the three files of a text model, making the folder if only its last part is missing.

    Args:
        folder: Where to; ``sparse/0`` beside a folder ``images`` is what other programs expect.
        images: The cameras of the photos, each with its own intrinsics.
        gaussians: Where points are taken from: the means of the finest level that are at least
            half opaque. No points if None.

    Raises:
        ValueError: if a photo's name holds a space, which the format cannot.
        FileNotFoundError: if the folder cannot be made because the one above is missing.
    """
    folder = Path(folder)
    spaced = [image.file for image in images if len(image.file.split()) != 1]
    if spaced:
        raise ValueError(
            f"COLMAP's text model cannot hold the name {spaced[0]!r}: rename the photo without "
            "spaces."
        )
    if not folder.parent.is_dir():
        raise FileNotFoundError(
            f"Cannot write {folder}: the folder {folder.parent} does not exist."
        )
    folder.mkdir(exist_ok=True)
    cameras = ["# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"]
    poses = ["# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME", "# POINTS2D[]"]
    for number, image in enumerate(images, start=1):
        lens = " ".join(repr(float(v)) for v in (image.fx, image.fy, image.cx, image.cy))
        cameras.append(f"{number} PINHOLE {image.width} {image.height} {lens}")
        pose = " ".join(repr(float(v)) for v in _world_to_camera(image.camera_to_world))
        poses += [f"{number} {pose} {number} {image.file}", ""]
    points = ["# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[]"]
    if gaussians is not None:
        points += _points(gaussians)
    for name, lines in (("cameras", cameras), ("images", poses), ("points3D", points)):
        write_atomically(folder / f"{name}.txt", ("\n".join(lines) + "\n").encode())


def _world_to_camera(camera_to_world: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "7"]:
    """Rotation (wxyz) and translation."""
    rotation = camera_to_world[:3, :3].T
    x, y, z, w = Rotation.from_matrix(rotation).as_quat(canonical=True)
    return np.concatenate([[w, x, y, z], -rotation @ camera_to_world[:3, 3]])


def _points(gaussians: Gaussians) -> list[str]:
    if not gaussians.count:
        return []
    solid = (gaussians.level == gaussians.level.max()) & (gaussians.opacities >= SOLID_OPACITY)
    gaussians = gaussians[solid]
    colors = (gaussians.base_colors.clamp(0, 1) * 255).round().int().tolist()
    means = gaussians.means.double().tolist()
    return [
        f"{number} {x:.9g} {y:.9g} {z:.9g} {r} {g} {b} 0"
        for number, ((x, y, z), (r, g, b)) in enumerate(zip(means, colors, strict=True), start=1)
    ]
