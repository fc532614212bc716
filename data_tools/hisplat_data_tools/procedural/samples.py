"""A contact sheet of samples: ``python -m hisplat_data_tools.procedural.samples --output F``."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import tyro

from .dataset import Sample, make_sample
from .settings import ProceduralSettings


def _depth_picture(depth: np.ndarray) -> np.ndarray:
    """Inverse depth in colours, near is bright."""
    inverse = 1 / depth
    low, high = np.quantile(inverse, [0.01, 0.99])
    level = np.clip((inverse - low) / max(high - low, 1e-9), 0, 1)
    coloured = cv2.applyColorMap((255 * level).astype(np.uint8), cv2.COLORMAP_MAGMA)
    return coloured[..., ::-1].astype(np.float32) / 255


def _tile(sample: Sample) -> np.ndarray:
    """Both photos beside each other, below them a target and its depth."""
    photos = np.concatenate([*sample.context_images[:2]], axis=1)
    target = np.concatenate(
        [sample.target_images[0], _depth_picture(sample.target[0].depth)], axis=1
    )
    return np.pad(np.concatenate([photos, target]), ((3, 3), (3, 3), (0, 0)), constant_values=1)


def contact_sheet(settings: ProceduralSettings, rows: int, columns: int, seed: int) -> np.ndarray:
    """Pictures of many samples, sRGB in [0, 1]: photos above, a target and its depth below."""
    tiles = [
        _tile(make_sample(np.random.default_rng([seed, n]), settings))
        for n in range(rows * columns)
    ]
    lines = [np.concatenate(tiles[r * columns : (r + 1) * columns], axis=1) for r in range(rows)]
    return np.concatenate(lines)


def main(
    output: Path,
    rows: int = 6,
    columns: int = 4,
    seed: int = 0,
    height: int = 96,
    layouts: tuple[str, ...] = ProceduralSettings.layouts,
    quality: int = 70,
) -> None:
    """Writes a picture of random samples.

    Args:
        output: Image file to write.
        rows: Samples below each other.
        columns: Samples beside each other.
        seed: Chooses the samples.
        height: Rows of one picture; its width is half as much again.
        layouts: Kinds of scenes to choose from.
        quality: Of the JPEG, in percent.
    """
    settings = replace(
        ProceduralSettings(layouts=layouts), height=height, width=height * 3 // 2, target_views=1
    )
    sheet = contact_sheet(settings, rows, columns, seed)
    stored = (sheet[..., ::-1] * 255 + 0.5).astype(np.uint8)
    if not cv2.imwrite(str(output), stored, [cv2.IMWRITE_JPEG_QUALITY, quality]):
        raise OSError(f"Could not write {output}")


if __name__ == "__main__":
    tyro.cli(main)
