"""Matching of large photos at half their size, and the memory that matching takes."""

import tracemalloc

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from hisplat_models.cameras import Cameras
from hisplat_models.matching import CANDIDATE_NAMES, MatchingPrior, MatchingSettings, match_views
from hisplat_models.matching.cpu_backend import match_scene
from hisplat_models.matching.doubling import match_large_scene
from hisplat_models.matching.geometry import plan_sweeps

from .matching_scenes import TWO_PLANES, cameras_in_a_row, photograph

HEIGHT, WIDTH = 192, 288
LARGE = MatchingSettings(whole_search_px=WIDTH - 1)
WHOLE = MatchingSettings(whole_search_px=WIDTH)
INNER = (..., slice(18, -18), slice(60, -60))  # what both views see


@pytest.fixture(scope="module")
def views() -> tuple[Tensor, Cameras, Tensor]:
    cameras = cameras_in_a_row()
    images, depth = photograph(TWO_PLANES, cameras, HEIGHT, WIDTH)
    return images, cameras, depth


@pytest.fixture(scope="module")
def found(views: tuple[Tensor, Cameras, Tensor]) -> MatchingPrior:
    images, cameras, _ = views
    return match_views(images, cameras, LARGE)


def wrong_share(inverse_depth: Tensor, depth: Tensor) -> float:
    """Share of inner pixels that are not even near their plane."""
    return ((inverse_depth * depth - 1).abs()[INNER] > 0.05).float().mean().item()


def test_planes_are_found_at_full_size(views: tuple[Tensor, Cameras, Tensor], found: MatchingPrior):
    images, cameras, depth = views
    whole = match_views(images, cameras, WHOLE)
    assert found.inverse_depth.shape == whole.inverse_depth.shape
    assert wrong_share(found.inverse_depth, depth) < wrong_share(whole.inverse_depth, depth) + 0.01
    assert found.trusted[INNER].float().mean() > 0.9
    assert found.trusted.float().mean() > whole.trusted.float().mean() - 0.05


def test_edges_follow_the_photo_rather_than_pixels_of_half_the_size(
    views: tuple[Tensor, Cameras, Tensor], found: MatchingPrior
):
    images, cameras, depth = views
    small = interpolate(images[0], scale_factor=0.5, mode="area")[None]
    half = match_views(small, cameras, WHOLE).inverse_depth
    blocks = half.repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert wrong_share(found.inverse_depth, depth) < wrong_share(blocks, depth)


def test_fields_are_as_without_halving(views: tuple[Tensor, Cameras, Tensor], found: MatchingPrior):
    images, cameras, _ = views
    whole = match_views(images, cameras, WHOLE)
    for name in ("candidates", "candidate_cost", "evidence", "coarse_cost", "color"):
        mine, its = getattr(found, name), getattr(whole, name)
        assert mine.shape == its.shape, name
        assert mine.isfinite().all(), name
    assert torch.equal(found.candidates[:, :, CANDIDATE_NAMES.index("choice")], found.inverse_depth)
    for name in ("evidence", "candidate_cost", "coarse_cost", "color"):
        assert 0 <= getattr(found, name).min() <= getattr(found, name).max() <= 1, name


def test_sides_that_cannot_be_halved_are_searched_whole(views: tuple[Tensor, Cameras, Tensor]):
    images, cameras, _ = views
    cropped = images[..., : HEIGHT // 16 * 16 - 8, :]
    first, second = (match_views(cropped, cameras, s) for s in (LARGE, WHOLE))
    assert torch.equal(first.inverse_depth, second.inverse_depth)


@pytest.mark.parametrize("views", [2, 3])
def test_memory_stays_within_what_is_documented(views: int):
    height, width = 160, 256
    cameras = cameras_in_a_row(views=views)[0]
    images = np.random.default_rng(0).random((views, 3, height, width)).astype(np.float32)
    pixels = views * height * width
    sweeps = plan_sweeps(cameras, height, width, MatchingSettings(min_planes=192))
    assert {sweep.planes for sweep in sweeps} == {192}
    match_scene(images, sweeps, MatchingSettings(), threads=1)  # compiles
    averaging = 4 / views if views > 2 else 0  # one view at a time
    assert peak_of(match_scene, images, sweeps) < pixels * (192 * (3 + averaging) + 100)
    match_large_scene(images, sweeps, MatchingSettings(), threads=1)
    assert peak_of(match_large_scene, images, sweeps) < pixels * (192 * (3 + averaging) / 4 + 100)


def peak_of(match, images, sweeps) -> int:
    """Largest number of bytes that arrays took."""
    tracemalloc.start()
    try:
        match(images, sweeps, MatchingSettings(), threads=1)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
