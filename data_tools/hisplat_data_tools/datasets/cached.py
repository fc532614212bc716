"""Keeps examples on disk, so that slow ones are made only once."""

import os
import tempfile
import zipfile
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from hisplat_models.cameras import Cameras
from hisplat_models.example import Example


@runtime_checkable
class _Examples(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


class CachedDataset:
    """The same examples as ``dataset``, read from ``folder`` once they have been made.

    Images are kept as 8-bit, depths as float16 (relative error below 0.05 %). Several processes
    may fill one folder.

    Args:
        dataset: Where examples come from.
        folder: One folder per dataset and settings; two datasets must not share one.
    """

    def __init__(self, dataset: _Examples, folder: str | Path):
        self.dataset = dataset
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Example:
        path = self._path(index)
        if not path.is_file():
            _write(path, self.dataset[index])
        try:
            return _read(path)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"Cannot read the cached example {path}: {error}; delete it."
            ) from error

    def missing(self) -> list[int]:
        """The examples that haven't been made yet."""
        return [index for index in range(len(self)) if not self._path(index).is_file()]

    def keep(self, index: int, example: Example) -> None:
        """Keeps an example, on the CPU, that was made elsewhere."""
        _write(self._path(index), example)

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.npz"


def _write(path: Path, example: Example) -> None:
    arrays: dict[str, np.ndarray] = {"name": np.array(str(example.name))}
    for kind in ("context", "target"):
        cameras: Cameras = getattr(example, f"{kind}_cameras")
        arrays[f"{kind}_images"] = (getattr(example, f"{kind}_images") * 255).round().byte().numpy()
        arrays[f"{kind}_poses"] = cameras.camera_to_world.numpy()
        arrays[f"{kind}_intrinsics"] = cameras.intrinsics.numpy()
        arrays[f"{kind}_range"] = torch.stack([cameras.near, cameras.far]).numpy()
        depth = getattr(example, f"{kind}_depth")
        if depth is not None:
            arrays[f"{kind}_depth"] = depth.half().numpy()
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".partial")
    with os.fdopen(handle, "wb") as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    os.replace(temporary, path)


def _read(path: Path) -> Example:
    with np.load(path, allow_pickle=False) as arrays:

        def tensor(name: str) -> Tensor:
            return torch.from_numpy(arrays[name])

        def cameras(kind: str) -> Cameras:
            near, far = tensor(f"{kind}_range")
            return Cameras(tensor(f"{kind}_poses"), tensor(f"{kind}_intrinsics"), near, far)

        def depth(kind: str) -> Tensor | None:
            return tensor(f"{kind}_depth").float() if f"{kind}_depth" in arrays else None

        return Example(
            name=str(arrays["name"]),
            context_images=tensor("context_images").float() / 255,
            context_cameras=cameras("context"),
            target_images=tensor("target_images").float() / 255,
            target_cameras=cameras("target"),
            context_depth=depth("context"),
            target_depth=depth("target"),
        )
