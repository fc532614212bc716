"""RealEstate10K, ACID, DTU and Replica as the published networks read them: chunk files.

A folder ROOT/train or ROOT/test holds an ``index.json`` ({scene: chunk file}) and chunk files,
each a list of scenes saved with ``torch.save``: dicts with ``key`` (str), ``timestamps`` (int64
[frame]), ``cameras`` (float32 [frame, 18]) and ``images`` (a list of uint8 tensors, each the bytes
of a JPEG file); other entries, such as ``url``, are not looked at. The 18 numbers of a camera are
fx, fy, cx, cy (divided by width and height), two zeros, and the world-to-camera matrix, 3x4 row by
row. Chunks say nothing about near and far: each dataset has constants, see ``DATASETS``.
"""

import io
import json
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from hisplat_models.cameras import Cameras

from .posed_scene import PosedScene, UnusableScene

Split = Literal["train", "test"]
INDEX_FILE = "index.json"
RIGID_TOLERANCE = 1e-3


@dataclass(frozen=True)
class ChunkDataset:
    """What is the same for all scenes of a published dataset.

    Attributes:
        near: z-depth where the surfaces begin, world units.
        far: Where they end.
        shape: (height, width) of all its photos; scenes with others are refused. None: any, where
            the published configuration does not ask either.
        max_fov_deg: Scenes with a camera that sees more are left out: their cameras are wrong.
    """

    near: float
    far: float
    shape: tuple[int, int] | None
    max_fov_deg: float = 100.0


DATASETS = {
    "re10k": ChunkDataset(near=1.0, far=100.0, shape=(360, 640)),
    "acid": ChunkDataset(near=1.0, far=100.0, shape=(360, 640)),
    "dtu": ChunkDataset(near=2.125, far=4.525, shape=None),
    "replica": ChunkDataset(near=0.5, far=15.0, shape=None),
    "chunks": ChunkDataset(near=1.0, far=100.0, shape=None),
}
"""The published ones, and ``chunks`` for one's own, whose photos may have any shape."""


class ChunkScenes:
    """The scenes of ROOT/train or ROOT/test, a ``SceneCollection``.

    Args:
        root: The folder with ``train`` and ``test`` in it.
        split: Which of them.
        constants: What all scenes share, from ``DATASETS``.
        chunks_in_memory: At most so many chunk files are open; files are mapped into memory, so
            only the photos in use are read.

    Attributes:
        loads: How often a chunk file was opened.

    Raises:
        FileNotFoundError: if there is no such folder, no index, or a chunk it names is missing.
        ValueError: if the index cannot be understood.
    """

    def __init__(
        self,
        root: Path | str,
        split: Split,
        constants: ChunkDataset,
        chunks_in_memory: int = 2,
    ) -> None:
        if chunks_in_memory < 1:
            raise ValueError(f"Expected at least one chunk in memory, got {chunks_in_memory}.")
        self.folder = Path(root) / split
        self.constants = constants
        self.chunks_in_memory = chunks_in_memory
        self.loads = 0
        index = read_chunk_index(self.folder)
        self.keys = list(index)
        self._files = list(index.values())
        grouped: dict[str, list[int]] = {}
        for i, file in enumerate(self._files):
            grouped.setdefault(file, []).append(i)
        self.groups = list(grouped.values())
        missing = [file for file in grouped if not (self.folder / file).is_file()]
        if missing:
            raise FileNotFoundError(
                f"{self.folder / INDEX_FILE} names {len(missing)} of {len(grouped)} chunks that "
                f"are not there, such as {missing[0]}. Complete the download, or make the index "
                f"anew with `hisplat data index-chunks {self.folder}`."
            )
        self._open: OrderedDict[str, dict[str, dict[str, Any]]] = OrderedDict()

    def scene(self, index: int) -> PosedScene:
        """One scene of the index.

        Raises:
            UnusableScene: if its cameras or photos are not as expected.
            ValueError: if the chunk file cannot be read, or lacks the scene.
        """
        key, file = self.keys[index], self._files[index]
        stored = self._chunk(file).get(key)
        if stored is None:
            raise ValueError(
                f"The chunk {self.folder / file} has no scene {key}, though {INDEX_FILE} says so. "
                f"Make the index anew with `hisplat data index-chunks {self.folder}`."
            )
        where = f"The scene {key} in {self.folder / file}"
        cameras = _cameras(stored["cameras"], self.constants, where)
        images = stored["images"]
        if len(images) != len(cameras.near):
            raise UnusableScene(
                f"{where} has {len(images)} photos and {len(cameras.near)} cameras."
            )
        shape = self.constants.shape
        return PosedScene(
            key, cameras, lambda frame: _decoded(images[frame], shape, f"{where}, frame {frame}")
        )

    def pairs(self, index: int) -> list[dict[str, list[int]]]:
        """Frames that belong together, where the chunk was made from a folder that says so."""
        stored = self._chunk(self._files[index])[self.keys[index]]
        return list(stored.get("pairs", []))

    def __getstate__(self) -> dict[str, Any]:
        # Mapped files stay behind when the source is sent to another process.
        return {**self.__dict__, "_open": OrderedDict()}

    def _chunk(self, file: str) -> dict[str, dict[str, Any]]:
        if file in self._open:
            self._open.move_to_end(file)
            return self._open[file]
        while len(self._open) >= self.chunks_in_memory:
            self._open.popitem(last=False)
        self._open[file] = {scene["key"]: scene for scene in read_chunk(self.folder / file)}
        self.loads += 1
        return self._open[file]


def read_chunk_index(folder: Path) -> dict[str, str]:
    """The chunk file of every scene.

    Raises:
        FileNotFoundError: if there is no index.
        ValueError: if it is not what it should be.
    """
    path = folder / INDEX_FILE
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}; expected ROOT/train and ROOT/test.")
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no {path}; make it with `hisplat data index-chunks {folder}`."
        )
    try:
        index = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"Cannot read {path} as JSON: {error}") from error
    if not isinstance(index, dict) or not all(isinstance(v, str) for v in index.values()):
        raise ValueError(f'Expected {{"scene": "chunk file", ...}} in {path}.')
    outside = [name for name in index.values() if Path(name).name != name]
    if outside:
        raise ValueError(f"{path} names a chunk outside its folder: {outside[0]}.")
    return index


def read_chunk(path: Path) -> list[dict[str, Any]]:
    """The scenes of a chunk file, mapped into memory where its format allows; runs no code of it.

    Raises:
        ValueError: if it cannot be read, holds anything but data, or is laid out differently.
    """
    try:
        scenes = _loaded(path)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"Refused to read {path}: it is damaged or holds more than data, and code from a file "
            f"is never run ({str(error).splitlines()[0]})."
        ) from error
    except (RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"Cannot read the chunk {path}: {str(error).splitlines()[0]} Download it again."
        ) from error
    if not isinstance(scenes, list) or not all(map(_is_scene, scenes)):
        raise ValueError(
            f"Expected a list of scenes with key, cameras [n, 18] and images in {path}."
        )
    return scenes


def _loaded(path: Path) -> Any:
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"  # torch.save before 1.6 wrote files that cannot be mapped
    return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)


def _is_scene(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("key"), str)
        and isinstance(value.get("cameras"), Tensor)
        and value["cameras"].ndim == 2
        and value["cameras"].shape[1] == 18
        and isinstance(value.get("images"), list)
        and all(isinstance(i, Tensor) and i.dtype == torch.uint8 for i in value["images"])
    )


def _cameras(stored: Float[Tensor, "frame 18"], constants: ChunkDataset, where: str) -> Cameras:
    numbers = stored.double()
    frames = len(numbers)
    if frames == 0 or not torch.isfinite(numbers).all():
        raise UnusableScene(f"{where} has no cameras, or some that are not finite.")
    intrinsics = torch.eye(3, dtype=torch.float64).repeat(frames, 1, 1)
    intrinsics[:, 0, 0], intrinsics[:, 1, 1] = numbers[:, 0], numbers[:, 1]
    intrinsics[:, 0, 2], intrinsics[:, 1, 2] = numbers[:, 2], numbers[:, 3]
    if (numbers[:, :2] <= 0).any():
        raise UnusableScene(f"{where} has focal lengths that are not positive.")
    widest = torch.rad2deg(2 * torch.atan(0.5 / numbers[:, :2])).max().item()
    if widest > constants.max_fov_deg:
        raise UnusableScene(
            f"{where} has a camera that sees {widest:.0f} degrees; at most "
            f"{constants.max_fov_deg:g} are plausible."
        )
    rotation = numbers[:, 6:].view(frames, 3, 4)[:, :, :3]
    translation = numbers[:, 6:].view(frames, 3, 4)[:, :, 3:]
    eye = torch.eye(3, dtype=torch.float64)
    error = (rotation @ rotation.mT - eye).abs().max().item()
    if error > RIGID_TOLERANCE or (torch.linalg.det(rotation) < 0).any():
        raise UnusableScene(f"{where} has poses that are no rotations.")
    pose = torch.eye(4, dtype=torch.float64).repeat(frames, 1, 1)
    pose[:, :3, :3] = rotation.mT
    pose[:, :3, 3:] = -rotation.mT @ translation
    near, far = torch.full((frames,), constants.near), torch.full((frames,), constants.far)
    return Cameras(pose.float(), intrinsics.float(), near, far)


def _decoded(
    encoded: UInt8[Tensor, " bytes"], shape: tuple[int, int] | None, where: str
) -> UInt8[np.ndarray, "height width 3"]:
    try:
        with Image.open(io.BytesIO(encoded.numpy().tobytes())) as image:
            found = (image.height, image.width)
            if shape is not None and found != shape:
                raise UnusableScene(
                    f"{where} is {found[1]}x{found[0]} px; expected {shape[1]}x{shape[0]}."
                )
            return np.array(image.convert("RGB"))
    except UnusableScene:
        raise
    except Exception as error:  # decoders raise nearly anything for damaged files
        raise UnusableScene(f"{where} is a damaged photo: {error}") from error
