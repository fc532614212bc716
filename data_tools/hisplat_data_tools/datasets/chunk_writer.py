"""Writes chunk files as ``chunks`` reads them, from scenes of any source."""

import io
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor

from hisplat_models.cameras import Cameras

from ..atomic_write import write_atomically
from ..images import crop_intrinsics
from .chunks import INDEX_FILE, read_chunk, read_chunk_index
from .cover_crop import CoverCrop
from .posed_scene import PosedScene

SETTINGS_FILE = "made_with.json"


@dataclass(frozen=True)
class PictureFormat:
    """How photos are stored.

    Attributes:
        size: (height, width) they are resized and cropped to; None keeps them as they are.
        quality: Of the JPEG files, 1 to 100.
    """

    size: tuple[int, int] | None = (360, 640)
    quality: int = 95

    def __post_init__(self) -> None:
        """Refuses impossible values.

        Raises:
            ValueError: naming them.
        """
        if not 1 <= self.quality <= 100:
            raise ValueError(f"Expected a JPEG quality of 1 to 100, got {self.quality}.")
        if self.size is not None and min(self.size) < 1:
            raise ValueError(f"Expected a positive height and width, got {self.size}.")


def stored_scene(
    scene: PosedScene,
    pictures: PictureFormat,
    timestamps: Int64[Tensor, " frame"] | None = None,
    url: str = "",
    pairs: Sequence[Mapping[str, Sequence[int]]] = (),
) -> dict[str, Any]:
    """A scene as a chunk file holds it.

    Args:
        scene: Its photos are decoded one after the other.
        pictures: How they are stored.
        timestamps: Of the frames; by default they are counted.
        url: Where the scene comes from.
        pairs: Frames that belong together, as {"context": [...], "target": [...]}; an addition of
            ours that other readers of the format pass over.

    Raises:
        UnusableScene: if a photo cannot be used.
    """
    intrinsics, images = [], []
    for frame in range(len(scene)):
        photo = scene.photo(frame)
        shape = (photo.shape[0], photo.shape[1])
        crop = CoverCrop.of(shape, pictures.size or shape)
        buffer = io.BytesIO()
        # Colours at full resolution: renders are compared with these photos.
        picture = Image.fromarray(crop.pixels(photo))
        picture.save(buffer, "jpeg", quality=pictures.quality, subsampling=0)
        images.append(torch.from_numpy(np.frombuffer(buffer.getvalue(), np.uint8).copy()))
        intrinsics.append(crop_intrinsics(scene.cameras.intrinsics[frame], crop.box))
    stored: dict[str, Any] = {
        "key": scene.key,
        "url": url,
        "timestamps": torch.arange(len(scene)) if timestamps is None else timestamps,
        "cameras": _eighteen_numbers(scene.cameras, torch.stack(intrinsics)),
        "images": images,
    }
    if pairs:
        stored["pairs"] = [{kind: list(frames) for kind, frames in p.items()} for p in pairs]
    return stored


def fitted_depths(scene: PosedScene, near: float, far: float) -> tuple[PosedScene, bool]:
    """The scene in other units, so that its nearest depth becomes ``near``.

    Returns:
        The scene, and whether its farthest depth is then within ``far``.
    """
    first = scene.cameras.near.min()
    cameras = scene.cameras.scaled(near / float(first))
    fits = bool(cameras.far.max() <= far * (1 + 1e-6))
    return PosedScene(scene.key, cameras, scene.photo), fits


class ChunkWriter:
    """Collects scenes and writes a chunk file whenever enough have come together.

    Used as a context manager, so that the last chunk is written too. Every chunk appears whole and
    is then entered into the index; started again with the same settings, it goes on after the
    scenes that are there.

    Args:
        folder: ROOT/train or ROOT/test; made if missing.
        settings: What the scenes depend on.
        chunk_bytes: A chunk is written when its photos exceed this.

    Raises:
        ValueError: if the folder holds chunks that were made otherwise.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], chunk_bytes: int = 100_000_000
    ) -> None:
        self.folder, self.chunk_bytes = folder, chunk_bytes
        folder.mkdir(parents=True, exist_ok=True)
        written = json.loads(json.dumps(dict(settings)))
        self.index = self._resumed(written)
        write_atomically(folder / SETTINGS_FILE, (json.dumps(written, indent=1) + "\n").encode())
        self._waiting: list[dict[str, Any]] = []
        self._bytes = 0

    def __enter__(self) -> "ChunkWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # After an error too: the scenes that are complete need not be made again.
        self.flush()

    def __contains__(self, key: str) -> bool:
        return key in self.index or any(scene["key"] == key for scene in self._waiting)

    def add(self, scene: dict[str, Any]) -> None:
        """Takes one scene from ``stored_scene``.

        Raises:
            ValueError: if there is one of that name.
        """
        if scene["key"] in self:
            raise ValueError(f"{self.folder} has a scene {scene['key']} already.")
        self._waiting.append(scene)
        self._bytes += sum(len(image) for image in scene["images"])
        if self._bytes >= self.chunk_bytes:
            self.flush()

    def flush(self) -> None:
        """Writes what has been collected, if anything."""
        if not self._waiting:
            return
        name = f"{len(set(self.index.values())):06d}.torch"
        draft = self.folder / f".{name}.{uuid.uuid4().hex[:8]}.tmp"
        try:
            torch.save(self._waiting, draft)
            os.replace(draft, self.folder / name)
        finally:
            draft.unlink(missing_ok=True)
        self.index |= {scene["key"]: name for scene in self._waiting}
        write_chunk_index(self.folder, self.index)
        self._waiting, self._bytes = [], 0

    def _resumed(self, settings: dict[str, Any]) -> dict[str, str]:
        made_with = self.folder / SETTINGS_FILE
        if not any(self.folder.glob("*.torch")):
            return {}
        found = json.loads(made_with.read_text()) if made_with.is_file() else None
        if found != settings:
            how = f"with {found}" if found else "by something else"
            raise ValueError(
                f"{self.folder} holds chunks made {how}; nothing is overwritten. Give the same "
                "options to go on, or another --output."
            )
        has_index = (self.folder / INDEX_FILE).is_file()
        return read_chunk_index(self.folder) if has_index else {}


def write_chunk_index(folder: Path, index: Mapping[str, str]) -> None:
    """Writes the index of a folder of chunks."""
    write_atomically(folder / INDEX_FILE, (json.dumps(dict(index), indent=0) + "\n").encode())


def index_chunks(folder: Path) -> dict[str, str]:
    """The index of the chunk files in a folder, found by reading all of them.

    Raises:
        FileNotFoundError: if there are none.
        ValueError: if one cannot be read, or two scenes have the same name.
    """
    index: dict[str, str] = {}
    for path in sorted(folder.glob("*.torch")):
        for scene in read_chunk(path):
            key = scene["key"]
            if key in index:
                raise ValueError(f"The scene {key} is in {index[key]} and again in {path.name}.")
            index[key] = path.name
    if not index:
        raise FileNotFoundError(f"There are no chunk files (*.torch) in {folder}.")
    return index


def _eighteen_numbers(
    cameras: Cameras, intrinsics: Float[Tensor, "frame 3 3"]
) -> Float[Tensor, "frame 18"]:
    k = intrinsics
    focal_and_principal = torch.stack([k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2]], dim=-1)
    pose = cameras.world_to_camera[:, :3].flatten(1)
    return torch.cat([focal_and_principal, torch.zeros(len(k), 2), pose], dim=-1).float()
