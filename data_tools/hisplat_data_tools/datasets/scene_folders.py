"""Posed folders as scenes of many frames: ``cameras.json`` or nerfstudio's ``transforms.json``.

Unlike ``posed_folder``, which follows the pairs a folder names, this leaves the choice of views to
a view sampler; frames are the photos in natural order of their names.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from hisplat_models.cameras import Cameras

from ..cameras_json import CameraFile, ImageCamera, read_cameras, to_cameras
from ..images import load_photo
from .posed_scene import PosedScene, UnusableScene

CAMERA_FILES = ("cameras.json", "transforms.json")


class SceneFolders:
    """One scene per folder, a ``SceneCollection``.

    Args:
        folders: Each with a camera file and photos; scenes are named after them.
        near: z-depth where surfaces begin, for folders whose file does not say.
        far: Where they end.

    Raises:
        FileNotFoundError: if a folder has no camera file, or lacks a photo it names.
        ValueError: if a camera file cannot be understood or describes no photos.
    """

    def __init__(
        self, folders: Sequence[Path | str], near: float | None = None, far: float | None = None
    ) -> None:
        self._folders = [Path(folder) for folder in folders]
        self.near, self.far = near, far
        self.keys = [folder.resolve().name for folder in self._folders]
        self.groups = [[i] for i in range(len(self._folders))]
        self._files = [_camera_file(folder) for folder in self._folders]
        self._views = [_frames(file) for file in self._files]

    def scene(self, index: int) -> PosedScene:
        """The scene of a folder.

        Raises:
            UnusableScene: if near and far are known from nowhere.
        """
        file = self._files[index]
        near, far = file.near or self.near, file.far or self.far
        if near is None or far is None:
            raise UnusableScene(f"{file.path} states no near and far: give them.")
        return self.scene_with_range(index, near, far)

    def scene_with_range(self, index: int, near: float, far: float) -> PosedScene:
        """The scene of a folder with its range of depths replaced.

        Raises:
            ValueError: unless 0 < near < far.
        """
        views, folder = self._views[index], self._folders[index]

        def photo(frame: int) -> UInt8[np.ndarray, "height width 3"]:
            return _read(views[frame], folder)

        cameras: Cameras = to_cameras(views, near, far)
        return PosedScene(self.keys[index], cameras, photo)

    def file(self, index: int) -> CameraFile:
        """What a folder's camera file says."""
        return self._files[index]

    def names(self, index: int) -> list[str]:
        """The photos of a folder in order of its frames, as the camera file writes them."""
        return [view.file for view in self._views[index]]


def has_cameras(folder: Path) -> bool:
    """Whether there is a camera file in a folder."""
    return any((folder / name).is_file() for name in CAMERA_FILES)


def _camera_file(folder: Path) -> CameraFile:
    for name in CAMERA_FILES:
        if (folder / name).is_file():
            return read_cameras(folder / name)
    raise FileNotFoundError(f"The folder {folder} has neither {' nor '.join(CAMERA_FILES)}.")


def _frames(file: CameraFile) -> list[ImageCamera]:
    views = sorted((v for v in file.images if v.file), key=lambda view: _natural(view.file))
    if not views:
        raise ValueError(f"{file.path} describes no photos.")
    missing = [v.file for v in views if not _photo_path(v, file.path.parent).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{file.path} names {len(missing)} photos that are not there, such as {missing[0]}."
        )
    return views


def _photo_path(view: ImageCamera, folder: Path) -> Path:
    # Blender's transforms.json leaves the ending out.
    return folder / (view.file if Path(view.file).suffix else f"{view.file}.png")


def _read(view: ImageCamera, folder: Path) -> UInt8[np.ndarray, "height width 3"]:
    try:
        photo = load_photo(_photo_path(view, folder))
        view.at_size(photo.width, photo.height)
    except ValueError as error:  # PhotoError and CameraFileError
        raise UnusableScene(str(error)) from error
    return photo.pixels


def _natural(name: str) -> list[tuple[int, str]]:
    """So that frame_10 comes after frame_9."""
    return [(int(p), "") if p.isdigit() else (0, p) for p in re.split(r"(\d+)", name)]
