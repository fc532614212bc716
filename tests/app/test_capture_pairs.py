"""Pairs of a capture: what is chosen by the cameras, and how deep the capture is."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from hisplat_app.capture_pairs import (
    PairSettings,
    baseline_worth,
    choose_pairs,
    frustum_points,
)
from hisplat_app.capture_ranges import ranges_from_photos, ranges_from_points
from hisplat_data_tools.procedural.views import look_at
from hisplat_data_tools.two_view import TwoViewError
from hisplat_models.cameras import Cameras


def cameras_at(poses: list[np.ndarray], near: float = 2.0, far: float = 4.0) -> Cameras:
    count = len(poses)
    intrinsics = torch.tensor([[0.9, 0, 0.5], [0, 1.2, 0.5], [0, 0, 1.0]]).repeat(count, 1, 1)
    stacked = torch.from_numpy(np.stack(poses)).float()
    return Cameras(stacked, intrinsics, torch.full((count,), near), torch.full((count,), far))


def line(count: int, step: float) -> Cameras:
    """Cameras side by side, all looking along +y."""
    return cameras_at(
        [
            look_at(np.array([step * i, 0.0, 0.0]), np.array([step * i, 1.0, 0.0]))
            for i in range(count)
        ]
    )


def ring(count: int, radius: float = 3.0) -> Cameras:
    """Cameras all round a thing at the origin."""
    angles = np.arange(count) * 2 * math.pi / count
    eyes = [np.array([radius * math.cos(a), radius * math.sin(a), 0.5]) for a in angles]
    return cameras_at([look_at(eye, np.zeros(3)) for eye in eyes], near=2.0, far=4.5)


def test_every_part_of_a_long_capture_is_covered():
    cameras = line(40, 0.3)
    pairs = choose_pairs(cameras)
    used = sorted({view for pair in pairs for view in pair})
    # 12 units long, a photo sees about 3 of them: no view is far from the photos that are used.
    assert max(min(abs(view - other) for other in used) for view in range(40)) <= 4
    assert len(pairs) < 25


def test_a_ring_is_closed():
    cameras = ring(24)
    used = sorted({view for pair in choose_pairs(cameras) for view in pair})
    gaps = np.diff([*used, used[0] + 24])
    assert gaps.max() <= 5


def test_pairs_have_a_baseline_that_tells_depth():
    cameras = line(60, 0.01)
    middle = 2 / (1 / 2.0 + 1 / 4.0)
    for a, b in choose_pairs(cameras):
        assert PairSettings().possible_baseline[0] < 0.01 * abs(a - b) / middle < 0.8


def test_baselines_are_worth_most_in_the_good_range():
    cameras = line(4, 0.4)  # 0.15, 0.3, 0.45 of the middle depth
    worth = baseline_worth(cameras)
    assert worth[0, 1] == worth[0, 2] == 1
    assert 0 < worth[0, 3] < 1
    assert worth.diagonal().max() == 0
    torch.testing.assert_close(worth, worth.mT)


def test_budget_is_kept():
    assert len(choose_pairs(line(40, 0.3), PairSettings(most=3))) == 3


def test_order_of_views_hardly_matters():
    cameras = ring(16)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    chosen = {frozenset(pair) for pair in choose_pairs(cameras)}
    shuffled = {frozenset(int(order[v]) for v in pair) for pair in choose_pairs(cameras[order])}
    assert abs(len(shuffled) - len(chosen)) <= 1  # equal gains are chosen in their order


def test_pairs_do_not_depend_on_the_unit_of_length():
    cameras = ring(16)
    assert choose_pairs(cameras) == choose_pairs(cameras.scaled(16.0))


@pytest.mark.parametrize(
    "cameras",
    [line(5, 50.0), cameras_at([look_at(np.zeros(3), np.array([0.0, 1, 0]))] * 3)],
    ids=["far apart", "in one place"],
)
def test_captures_without_a_usable_pair_are_refused(cameras: Cameras):
    with pytest.raises(ValueError, match="No two photos of this capture overlap"):
        choose_pairs(cameras)


def test_points_of_a_frustum_lie_in_it():
    cameras = ring(5)
    points, depth = frustum_points(cameras)
    own = cameras.project(points.view(5, -1, 3))
    assert (own[..., :2] > 0).all()
    assert (own[..., :2] < 1).all()
    torch.testing.assert_close(own[..., 2].flatten(), depth)
    assert depth.min() > 2.0
    assert depth.max() < 4.5


def test_large_captures_have_coarser_frusta():
    settings = PairSettings(most_points=2000)
    points, _ = frustum_points(ring(100), settings)
    assert len(points) <= 2000


def test_range_of_known_points():
    cameras = replace(ring(8), near=torch.ones(8), far=torch.full((8,), 2.0))
    cloud = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0)) * 0.2
    found = ranges_from_points(cameras, cloud)
    depth = cameras.project(cloud.expand(8, -1, 3))[..., 2]
    assert (found.near < depth.quantile(0.05, dim=1)).all()
    assert (found.far > depth.quantile(0.95, dim=1)).all()
    assert (found.far < 5.5).all()


def test_views_without_points_take_the_range_of_their_neighbours():
    cameras = ring(8)
    behind = cameras.camera_to_world.clone()
    behind[0, :3, [0, 2]] *= -1  # the first one looks outwards
    found = ranges_from_points(
        replace(cameras, camera_to_world=behind),
        torch.randn(2000, 3, generator=torch.Generator().manual_seed(0)) * 0.2,
    )
    assert (
        found.near[0] == found.near[[1, 2, 7]].min() or found.near[0] == found.near[[1, 6, 7]].min()
    )


def test_points_beside_the_capture_are_refused():
    with pytest.raises(ValueError, match="in frame"):
        ranges_from_points(ring(8), torch.full((100, 3), 1e6))


def test_photos_without_texture_tell_no_range():
    from hisplat_data_tools.images import ExifFocal, Photo

    unknown = ExifFocal(None, None, None, None, None)
    gray = np.full((64, 96, 3), 128, np.uint8)
    photos = [Photo(gray, f"{i}.png", (64, 96), (64, 96), unknown) for i in range(4)]
    with pytest.raises(TwoViewError, match="range of depths is unknown"):
        ranges_from_photos(photos, line(4, 0.3))
