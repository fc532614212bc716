"""Which ending stands for which format of Gaussian scenes, and one way to read and write them all.

Every writer keeps the world frame: nothing is recentred, rescaled or turned.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from hisplat_models.gaussians import Gaussians

from .atomic_write import write_atomically
from .compressed_ply import to_compressed_ply_bytes
from .glb import to_glb_bytes
from .ply import from_ply_bytes, to_ply_bytes
from .scene_values import SceneFileError
from .splat import from_splat_bytes, to_splat_bytes
from .spz import from_spz_bytes, to_spz_bytes

SCENE_WRITERS: dict[str, Callable[[Gaussians], bytes]] = {
    ".ply": to_ply_bytes,
    ".compressed.ply": to_compressed_ply_bytes,
    ".splat": to_splat_bytes,
    ".spz": to_spz_bytes,
    ".glb": to_glb_bytes,
}
"""The content of a file by its ending; of several endings that fit, the longest counts."""

SCENE_READERS: dict[str, Callable[[bytes, str], Gaussians]] = {
    ".ply": from_ply_bytes,
    ".splat": from_splat_bytes,
    ".spz": from_spz_bytes,
}
"""The scene in a file's content by its ending; a .ply may be compressed."""


def write_scene(path: Path | str, gaussians: Gaussians) -> None:
    """Writes a scene in the format of the path's ending; the file appears only once complete.

    Raises:
        ValueError: for an unknown ending, or a set the format cannot hold.
        FileNotFoundError: if the folder does not exist.
    """
    write_atomically(path, SCENE_WRITERS[scene_ending(path)](gaussians))


def read_scene(path: Path | str) -> Gaussians:
    """The scene in a .ply (any 3DGS layout, compressed too), .splat or .spz.

    Raises:
        FileNotFoundError: if there is no such file.
        SceneFileError: if the ending is unknown, or the file holds no scene that can be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no scene {path}.")
    return scene_from_bytes(path.read_bytes(), str(path))


def scene_from_bytes(content: bytes, name: str) -> Gaussians:
    """The scene in a file's content; its name tells the format.

    Raises:
        SceneFileError: if the ending is unknown, or the file holds no scene that can be read.
    """
    ending = _longest(name, SCENE_READERS)
    if ending is None:
        raise SceneFileError(
            f"{name} is not a scene that can be read; known are {', '.join(SCENE_READERS)}."
        )
    return SCENE_READERS[ending](content, name)


def scene_ending(path: Path | str) -> str:
    """The known ending of a scene to be written.

    Raises:
        SceneFileError: if it has none.
    """
    ending = _longest(str(path), SCENE_WRITERS)
    if ending is None:
        raise SceneFileError(
            f"Cannot tell the format of {path}; known endings are {', '.join(SCENE_WRITERS)}."
        )
    return ending


def _longest(name: str, endings: Iterable[str]) -> str | None:
    fitting = [e for e in endings if name.lower().endswith(e)]
    return max(fitting, key=len, default=None)
