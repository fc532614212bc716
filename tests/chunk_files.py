"""Chunk files written without our own writer, as the published datasets have them."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hisplat_models.cameras import Cameras
from tests.two_planes import two_planes_cameras, two_planes_views


def path_cameras(frames: int, first: float = -0.2, last: float = 0.2) -> Cameras:
    """Cameras evenly on a line before the two planes."""
    return two_planes_cameras(tuple(np.linspace(first, last, frames).tolist()))


def chunk_scene(key: str, cameras: Cameras, images: Tensor, quality: int = 98) -> dict[str, Any]:
    """A scene as a dict of the published layout."""
    numbers = []
    for pose, k in zip(cameras.camera_to_world, cameras.intrinsics, strict=True):
        inverse = np.linalg.inv(pose.double().numpy())[:3]
        first = [float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]), 0.0, 0.0]
        numbers.append([*first, *inverse.ravel().tolist()])
    return {
        "url": "https://www.youtube.com/watch?v=none",
        "key": key,
        "timestamps": torch.arange(len(images)) * 33_367,
        "cameras": torch.tensor(numbers, dtype=torch.float32),
        "images": [jpeg(image, quality) for image in images],
    }


def two_planes_scene(key: str, frames: int, first: float = -0.2) -> dict[str, Any]:
    """Views of the two planes."""
    cameras = path_cameras(frames, first)
    return chunk_scene(key, cameras, two_planes_views(cameras)[0])


def jpeg(image: Tensor, quality: int = 98) -> Tensor:
    """The bytes of a JPEG file."""
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "jpeg", quality=quality, subsampling=0)
    return torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)


def write_chunks(
    root: Path, chunks: Sequence[Sequence[dict[str, Any]]], split: str = "test"
) -> Path:
    """Writes each list of scenes as one chunk file, and the index; returns the root."""
    folder = root / split
    folder.mkdir(parents=True, exist_ok=True)
    index = {}
    for number, scenes in enumerate(chunks):
        torch.save(list(scenes), folder / f"{number:06d}.torch")
        index |= {scene["key"]: f"{number:06d}.torch" for scene in scenes}
    (folder / "index.json").write_text(json.dumps(index))
    return root


def gray_scene(key: str, frames: int, size: tuple[int, int] = (36, 64)) -> dict[str, Any]:
    """A cheap scene whose frame i has the gray level 8 * i."""
    cameras = path_cameras(frames)
    levels = torch.arange(frames).view(-1, 1, 1, 1) * 8 / 255
    return chunk_scene(key, cameras, levels.expand(frames, 3, *size))
