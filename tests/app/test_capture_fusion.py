"""Scenes of pairs as one: what is merged, what is dropped, what stays."""

from dataclasses import replace

import pytest
import torch

from hisplat_app.capture_fusion import (
    Fragment,
    FusionSettings,
    Surface,
    agreement,
    chosen,
    fused,
    joined,
    merged,
    votes,
)
from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import SH_C0, Gaussians

SIZE = (24, 32)
WALL = 4.0


def camera(x: float = 0.0) -> Cameras:
    pose = torch.eye(4)
    pose[0, 3] = x
    intrinsics = torch.tensor([[1.0, 0, 0.5], [0, 4 / 3, 0.5], [0, 0, 1]])
    return Cameras(pose, intrinsics, torch.tensor(1.0), torch.tensor(10.0))


def wall_surface(x: float = 0.0, gray: int = 128) -> Surface:
    """What a camera sees of a gray wall at z = ``WALL``."""
    return Surface(
        camera(x),
        torch.full(SIZE, 1 / WALL).half(),
        torch.ones(SIZE, dtype=torch.bool),
        torch.full((3, *SIZE), gray, dtype=torch.uint8),
    )


def gray_gaussians(means: torch.Tensor, gray: float = 128 / 255, level: int = 0) -> Gaussians:
    count = len(means)
    return Gaussians(
        means=means,
        scales=torch.full((count, 3), 0.02),
        quaternions_wxyz=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        opacities=torch.full((count,), 0.9),
        harmonics=torch.full((count, 1, 3), (gray - 0.5) / SH_C0),
        level=torch.full((count,), level),
    )


def fragment(gaussians: Gaussians, footprint: float = 0.125) -> Fragment:
    return Fragment(gaussians, torch.full((gaussians.count,), footprint))


def on_wall(count: int = 200) -> torch.Tensor:
    places = torch.rand(count, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    return places * torch.tensor([2.0, 1.5, 0.0]) + torch.tensor([0, 0, WALL])


def test_equal_scenes_merge_to_one():
    part = fragment(gray_gaussians(on_wall()))
    once, twice = merged(part), merged(joined([part, part]))
    assert once.gaussians.count == twice.gaussians.count
    torch.testing.assert_close(once.gaussians.means, twice.gaussians.means)
    torch.testing.assert_close(once.gaussians.scales, twice.gaussians.scales)


def test_merging_does_not_depend_on_the_order():
    part = fragment(gray_gaussians(on_wall()))
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    a, b = merged(part).gaussians.means, merged(chosen(part, order)).gaussians.means
    torch.testing.assert_close(a.sort(dim=0).values, b.sort(dim=0).values)


def test_merging_keeps_the_weighted_centre():
    pair = replace(
        gray_gaussians(torch.tensor([[0.01, 0.01, WALL], [0.05, 0.01, WALL]])),
        opacities=torch.tensor([0.3, 0.9]),
    )
    one = merged(fragment(pair)).gaussians
    torch.testing.assert_close(one.means, torch.tensor([[0.04, 0.01, WALL]]))
    assert one.opacities == 0.9
    assert (one.scales > 0.02).all()  # the spread of the two is added


def test_levels_and_sizes_are_not_mixed():
    fine, coarse = gray_gaussians(on_wall(50), level=2), gray_gaussians(on_wall(50), level=0)
    result = merged(joined([fragment(fine), fragment(coarse), fragment(fine, 4 * 0.125)]))
    counts = [int((result.gaussians.level == level).sum()) for level in (0, 2)]
    assert counts[0] > 0
    assert counts[1] > counts[0]  # of two sizes


def test_number_of_gaussians_is_bounded():
    part = fragment(gray_gaussians(on_wall(5000)), footprint=1e-3)
    assert merged(part).gaussians.count > 4000
    result = merged(part, FusionSettings(most=500))
    assert 100 < result.gaussians.count <= 500


def test_what_floats_before_a_surface_is_dropped():
    floating = on_wall()
    floating[:, 2] = WALL / 2
    whole = [fragment(gray_gaussians(on_wall())), fragment(gray_gaussians(floating))]
    left = fused(whole, [wall_surface(-0.2), wall_surface(0.2)]).gaussians
    assert left.count > 0
    assert (left.means[:, 2] == WALL).all()


def test_what_lies_behind_a_surface_stays():
    behind = on_wall()
    behind[:, 2] = 1.5 * WALL
    confirmed, contradicted = votes(gray_gaussians(behind), [wall_surface()])
    assert confirmed.sum() == contradicted.sum() == 0
    assert fused([fragment(gray_gaussians(behind))], [wall_surface()]).gaussians.count > 0


def test_another_colour_on_the_surface_is_contradicted():
    confirmed, contradicted = votes(gray_gaussians(on_wall(), gray=1.0), [wall_surface()])
    assert confirmed.sum() == 0
    assert (contradicted == 1).all()


def test_the_majority_of_views_decides():
    odd = wall_surface(0.1)
    nearer = replace(odd, inverse_depth=odd.inverse_depth / 2)  # sees through the wall
    part = fragment(gray_gaussians(on_wall()))
    assert fused([part], [wall_surface(), nearer]).gaussians.count > 0
    assert fused([part], [wall_surface(), nearer, nearer]).gaussians.count == 0


def test_unsure_views_have_no_vote():
    unsure = replace(wall_surface(), trusted=torch.zeros(SIZE, dtype=torch.bool))
    floating = on_wall()
    floating[:, 2] = WALL / 2
    assert sum(v.sum() for v in votes(gray_gaussians(floating), [unsure])) == 0


def test_places_out_of_frame_are_not_judged():
    aside = on_wall() + torch.tensor([50.0, 0, 0])
    back = on_wall() * torch.tensor([1.0, 1, -1])
    for places in (aside, back):
        assert sum(v.sum() for v in votes(gray_gaussians(places), [wall_surface()])) == 0


@pytest.mark.parametrize("wrong", [0.8, 1.3])
def test_views_agree_where_their_depths_meet(wrong: float):
    cameras = Cameras.stack([camera(-0.2), camera(0.2)])
    depths = torch.full((2, *SIZE), 1 / WALL)
    depths[1, :, : SIZE[1] // 2] /= wrong
    agreed = agreement(depths, cameras)
    assert not agreed[1, :, : SIZE[1] // 2 - 4].any()
    assert agreed[1, :, SIZE[1] // 2 + 4 : -8].all()
    left = agreed[0]
    assert not left[:, 8 : SIZE[1] // 2].any()
    assert left[:, SIZE[1] // 2 + 5 :].all()
