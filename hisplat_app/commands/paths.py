"""Finding out before the work what would stop the writing after it."""

from pathlib import Path

SCENE_ENDINGS = (".ply", ".splat", ".spz", ".glb")
"""Those of ``hisplat_data_tools.scene_files``, which is too slow to import for a check."""


def check_can_write(path: Path | None) -> None:
    """Refuses paths that no file can be written to.

    Raises:
        ValueError: if it is a folder, or its folder does not exist.
    """
    if path is None:
        return
    if path.is_dir():
        raise ValueError(f"Cannot write {path}: it is a folder.")
    if not path.parent.is_dir():
        raise ValueError(f"Cannot write {path}: the folder {path.parent} does not exist.")


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
