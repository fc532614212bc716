"""Procedural stereo pairs, and what makes their pixels hard to match."""

import numpy as np
import pytest
import torch

from benchmarks.pixel_kinds import KINDS, pixel_kinds
from hisplat_data_tools.datasets import StereoFolder
from hisplat_data_tools.procedural.stereo_pairs import StereoSettings, make_stereo_pair

SMALL = StereoSettings(
    height=96, width=128, samples_per_pixel=4, texture_size=64, photo_effects=0.0
)


def moved(pair: StereoFolder) -> np.ndarray:
    """The right photo as its disparity lays it over the left one; NaN beyond its frame."""
    height, width = pair.size
    column = np.arange(width) - pair.disparity.numpy()
    whole = np.floor(column).astype(int)
    inside = (whole >= 0) & (whole < width - 1)
    whole = whole.clip(0, width - 2)
    rows = np.arange(height)[:, None]
    right = pair.images[1].numpy()
    share = column - whole
    sampled = (1 - share) * right[:, rows, whole] + share * right[:, rows, whole + 1]
    return np.where(inside, sampled, np.nan)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_disparity_lays_the_right_photo_over_the_left_one(seed: int):
    pair = make_stereo_pair(np.random.default_rng(seed), SMALL, "pair")
    left, right = pair.images[0].numpy(), moved(pair)
    visible = pixel_kinds(pair, 0.0, 1e6) >= KINDS.index("flat")
    visible &= np.isfinite(right[0])
    assert visible.mean() > 0.3
    off = np.abs(left - right).mean(0)[visible]
    beside = np.abs(left[..., 3:] - right[..., :-3]).mean(0)[visible[:, 3:]]
    assert np.median(off) < 0.01
    assert np.median(off) < 0.5 * np.nanmedian(beside)


def test_the_same_seed_makes_the_same_pair():
    one, other = (make_stereo_pair(np.random.default_rng(5), SMALL, "pair") for _ in range(2))
    assert (one.images == other.images).all()
    assert (one.disparity == other.disparity).all()


def test_kinds_of_a_square_before_a_slanted_wall():
    x = np.arange(80, dtype=np.float32)
    disparity = (4 + 0.2 * x)[None].repeat(60, 0)
    disparity[20:40, 40:60] = 30.0
    disparity[0, 0] = np.nan
    textured = np.random.default_rng(0).random((3, 60, 80), dtype=np.float32)
    textured[:, 48:, :20] = 0.5
    pair = StereoFolder(
        name="square",
        images=torch.from_numpy(np.stack([textured, textured])),
        disparity=torch.from_numpy(disparity),
        focal_px=80.0,
        principal_px=(40.0, 30.0),
        offset_px=0.0,
        baseline=1.0,
        calibrated=True,
    )
    found = pixel_kinds(pair, 4.5, 100.0)
    names = np.where(found < 0, "unknown", np.array(KINDS)[found])
    assert names[0, 0] == "unknown"
    assert names[5, 1] == "beyond"  # 4.2 px, less than what is searched
    assert names[5, 3] == "hidden"  # left of the right photo's frame
    assert names[30, 33] == "hidden"  # 10.6 px, behind the square's 40 - 30 = 10th to 30th column
    assert names[30, 50] == "other"  # inside the square
    assert names[30, 42] == "edge"
    assert names[56, 12] == "flat"
    assert names[10, 70] == "slanted"
