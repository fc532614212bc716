"""Finding out before the work what would stop the writing after it."""

import tempfile
from pathlib import Path

SCENE_ENDINGS = (".ply", ".splat", ".spz", ".glb")
"""Those of ``hisplat_data_tools.scene_files``, which is too slow to import for a check."""


def check_can_write(path: Path | None) -> None:
    """Refuses paths that no file can be written to.

    Raises:
        ValueError: if it is a folder, or its folder does not exist or cannot be written to.
    """
    if path is None:
        return
    if path.is_dir():
        raise ValueError(f"Cannot write {path}: it is a folder.")
    if not path.parent.is_dir():
        raise ValueError(f"Cannot write {path}: the folder {path.parent} does not exist.")
    _check_is_writable(path.parent)


def check_folder_out(path: Path | None) -> None:
    """Refuses folders that cannot be made, or written to if they are there.

    Raises:
        ValueError: if a file is in the way, or the folder that is to hold it cannot be written to.
    """
    if path is None:
        return
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise ValueError(f"Cannot make a folder of {path}: {there} is a file.")
    _check_is_writable(there)


def check_scene_out(path: Path) -> None:
    """Refuses endings that stand for no format of scenes.

    Raises:
        ValueError: naming those that do.
    """
    if path.suffix.lower() not in SCENE_ENDINGS:
        raise ValueError(
            f"Cannot tell the format of {path}; known endings are .compressed.ply, "
            f"{', '.join(SCENE_ENDINGS)}."
        )


def check_cameras_out(path: Path) -> None:
    """Refuses what is neither a .json nor a folder that is there or can be made.

    Raises:
        ValueError: saying why.
    """
    if path.suffix.lower() not in ("", ".json"):
        raise ValueError(
            f"Cannot tell the format of {path}: expected a .json, or a folder for COLMAP."
        )
    if path.suffix or not path.is_dir():
        check_can_write(path)
    if path.exists() and not path.suffix and not path.is_dir():
        raise ValueError(f"Cannot write {path}: a folder for COLMAP is needed, it is a file.")


def _check_is_writable(folder: Path) -> None:
    """By writing: rights alone do not tell whether a disk is read-only or full."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"Cannot write to the folder {folder}: {error.strerror}.") from error
