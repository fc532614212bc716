"""Which name stands for which format of camera files."""

from collections.abc import Sequence
from pathlib import Path

from hisplat_models.gaussians import Gaussians

from .cameras_json import CameraPair, ImageCamera, write_cameras, write_transforms
from .colmap import write_colmap_text


def write_camera_file(
    path: Path | str,
    images: Sequence[ImageCamera],
    pairs: Sequence[CameraPair] = (),
    near: float | None = None,
    far: float | None = None,
    gaussians: Gaussians | None = None,
) -> None:
    """Writes cameras in the format that the path's name asks for.

    ``transforms*.json`` is nerfstudio's, any other ``.json`` our own, a name without ending a
    folder with a COLMAP text model, which also holds points of ``gaussians``. Pairs, near and far
    go into our own format only.

    Raises:
        ValueError: for another ending.
        FileNotFoundError: if the folder does not exist.
    """
    path = Path(path)
    check_camera_path(path)
    if not path.suffix:
        write_colmap_text(path, images, gaussians)
    elif path.name.lower().startswith("transforms"):
        write_transforms(path, images)
    else:
        write_cameras(path, images, pairs, near, far)


def check_camera_path(path: Path) -> None:
    """Finds out before the work whether the name stands for a format.

    Raises:
        ValueError: if it does not.
    """
    if path.suffix.lower() not in ("", ".json"):
        raise ValueError(
            f"Cannot tell the format of {path}: expected a .json (transforms.json is nerfstudio's "
            "format, other names our own), or a folder for a COLMAP text model."
        )
