"""Of more than two views the first two keep what they agree on."""

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from hisplat_models.cameras import Cameras
from hisplat_models.matching import (
    MatchingPrior,
    consistency,
    match_views,
    torch_consistency,
)
from hisplat_models.matching.geometry import Sweep, Transfer, plan_sweeps
from hisplat_models.matching.leading_pair import PER_PIXEL, with_leading_pair
from hisplat_models.matching.settings import MatchingSettings

from .matching_scenes import HEIGHT, TWO_PLANES, WIDTH, cameras_in_a_row, photograph

SETTINGS = MatchingSettings()


def in_places(*x: float) -> Cameras:
    """(1, n) cameras that look the same way from along the x axis."""
    cameras = cameras_in_a_row(views=len(x), baseline=0.0)
    pose = torch.eye(4).repeat(1, len(x), 1, 1)
    pose[0, :, 0, 3] = torch.tensor(x)
    return replace(cameras, camera_to_world=pose)


@pytest.fixture(scope="module")
def cameras() -> Cameras:
    return cameras_in_a_row(views=3, baseline=0.2)


@pytest.fixture(scope="module")
def images(cameras: Cameras) -> torch.Tensor:
    return photograph(TWO_PLANES, cameras)[0]


@pytest.fixture(scope="module")
def pair(images: torch.Tensor, cameras: Cameras) -> MatchingPrior:
    return match_views(images[:, :2], cameras[:, :2])


def like_joint(pair: MatchingPrior, depth_factor: float, trusted: bool) -> MatchingPrior:
    """A prior of three views that says of each pixel of the first two what it is told."""
    views = {
        f.name: torch.cat([getattr(pair, f.name), getattr(pair, f.name)[:, :1]], dim=1)
        for f in fields(pair)
        if f.name != "plane_step_px"
    }
    views["inverse_depth"] = views["inverse_depth"] * depth_factor
    views["trusted"] = torch.full_like(views["trusted"], trusted)
    return MatchingPrior(**views, plane_step_px=pair.plane_step_px)


@pytest.mark.parametrize(
    ("depth_factor", "trusted", "stands"),
    [(1.001, True, True), (0.5, False, True), (0.5, True, False)],
    ids=["nearly the same", "clearly different but unsure", "clearly different and sure"],
)
def test_where_the_first_two_agree_their_match_stands_unless_all_are_sure_of_another(
    pair: MatchingPrior, cameras: Cameras, depth_factor: float, trusted: bool, stands: bool
):
    joint = like_joint(pair, depth_factor, trusted)
    both = with_leading_pair(joint, pair, cameras[:, :2], SETTINGS)
    agreed = pair.trusted
    expected = pair if stands else joint
    assert torch.equal(both.inverse_depth[:, :2][agreed], expected.inverse_depth[:, :2][agreed])
    assert torch.equal(both.inverse_depth[:, :2][~agreed], joint.inverse_depth[:, :2][~agreed])
    for name in PER_PIXEL:
        assert torch.equal(getattr(both, name)[:, 2:], getattr(joint, name)[:, 2:]), name


def test_three_views_know_what_their_first_two_know(
    images: torch.Tensor, cameras: Cameras, pair: MatchingPrior
):
    prior = match_views(images, cameras)
    kept = prior.inverse_depth[:, :2] == pair.inverse_depth
    assert kept[pair.trusted].float().mean() > 0.9
    assert (prior.trusted[:, :2] | ~pair.trusted).float().mean() > 0.99
    more = prior.trusted[:, :2].float().mean() - pair.trusted.float().mean()
    assert more > 0  # the third view shows what the second does not


def test_errors_against_a_view_from_near_by_count_more():
    near_and_far = in_places(0.0, 0.1, 0.4)[0]
    sweep = plan_sweeps(near_and_far, HEIGHT, WIDTH, SETTINGS)[0]
    near_by, far_off = sweep.transfers
    assert far_off.strictness == 1
    assert near_by.strictness == pytest.approx(4, rel=0.05)


def test_of_two_views_all_errors_count_once():
    for baseline in (0.01, 0.3, 3.0):
        for sweep in plan_sweeps(in_places(0.0, baseline)[0], HEIGHT, WIDTH, SETTINGS):
            assert sweep.transfers[0].strictness == 1


def compiled(view: int, there: Transfer, maps: list[np.ndarray], sweeps: list[Sweep]) -> float:
    return float(np.median(consistency.partner_error(view, there, maps, sweeps, SETTINGS)))


def torch_backend(view: int, there: Transfer, maps: list[np.ndarray], sweeps: list[Sweep]) -> float:
    tensors = [torch.from_numpy(m) for m in maps]
    return torch_consistency.partner_error(view, there, tensors, sweeps, SETTINGS).median().item()


@pytest.mark.parametrize("median_error", [compiled, torch_backend])
def test_a_wrong_depth_is_as_wrong_against_a_view_from_near_by_as_against_one_from_afar(
    median_error: Callable[..., float],
):
    cameras = in_places(0.0, 0.1, 0.4)[0]
    sweeps = plan_sweeps(cameras, HEIGHT, WIDTH, SETTINGS)
    wall = [(cameras.near[0].item() / 4 - s.rho_first) / s.rho_step for s in sweeps]
    maps = [np.full((HEIGHT, WIDTH), plane, np.float32) for plane in wall]
    maps[0] += 1.5 / sweeps[0].step_px
    near_by, far_off = (median_error(0, there, maps, sweeps) for there in sweeps[0].transfers)
    assert far_off == pytest.approx(1.5, rel=0.1)
    assert near_by == pytest.approx(far_off, rel=0.1)
