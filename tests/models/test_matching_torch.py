"""Matching by tensor operations gives what the compiled kernels give."""

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from hisplat_models.cameras import Cameras
from hisplat_models.matching import MatchingPrior, MatchingSettings, match_views
from hisplat_models.matching.filling import distance_to_trusted as compiled_distance
from hisplat_models.matching.geometry import plan_sweeps
from hisplat_models.matching.torch_filling import distance_to_trusted

from .matching_scenes import HEIGHT, SLANTED, TWO_PLANES, WIDTH, cameras_in_a_row, photograph

MAPS = ("consistency_px", "color", "candidate_cost", "evidence", "coarse_cost")


def plane_steps(cameras: Cameras, settings: MatchingSettings) -> Tensor:
    """(batch, view): inverse depth between neighbouring planes."""
    sweeps = [
        plan_sweeps(cameras[b], HEIGHT, WIDTH, settings) for b in range(cameras.near.shape[0])
    ]
    return torch.tensor([[s.rho_step for s in scene] for scene in sweeps]) / cameras.near


def share(condition: Tensor) -> float:
    return condition.float().mean().item()


def assert_agree(
    found: MatchingPrior,
    expected: MatchingPrior,
    cameras: Cameras,
    settings: MatchingSettings,
    least: float = 0.999,
) -> None:
    """Nearly all values agree: depths to a hundredth of a plane, all else to a thousandth."""
    for field in fields(MatchingPrior):
        assert getattr(found, field.name).shape == getattr(expected, field.name).shape
        assert getattr(found, field.name).dtype == getattr(expected, field.name).dtype
    step = plane_steps(cameras, settings)[..., None, None]
    difference = (found.inverse_depth - expected.inverse_depth).abs() / step
    assert share(difference < 0.01) >= least
    difference = (found.candidates - expected.candidates).abs() / step[..., None]
    for index in range(difference.shape[2]):
        assert share(difference[:, :, index] < 0.01) >= least
    assert share(found.trusted == expected.trusted) >= least
    for name in MAPS:
        difference = (getattr(found, name) - getattr(expected, name)).abs()
        assert share(difference < 1e-3) >= least, name
    for index in range(found.evidence.shape[2]):
        difference = found.evidence[:, :, index] - expected.evidence[:, :, index]
        assert share(difference.abs() < 1e-3) >= least, index
    torch.testing.assert_close(found.plane_step_px, expected.plane_step_px)


def turned_and_nearer(cameras: Cameras) -> Cameras:
    """The second view rolled, moved forward and of another focal length and range."""
    angle = torch.tensor(0.1)
    roll, pose = torch.eye(3), cameras.camera_to_world.clone()
    roll[0, 0] = roll[1, 1] = angle.cos()
    roll[0, 1], roll[1, 0] = -angle.sin(), angle.sin()
    pose[0, 1, :3, :3] = pose[0, 1, :3, :3] @ roll
    pose[0, 1, 1, 3], pose[0, 1, 2, 3] = 0.1, 0.3
    intrinsics, near = cameras.intrinsics.clone(), cameras.near.clone()
    intrinsics[0, 1, :2, :2] *= 1.1
    near[0, 1] = 1.4
    return replace(cameras, camera_to_world=pose, intrinsics=intrinsics, near=near)


CASES = {
    "slanted": (SLANTED, cameras_in_a_row(), {}),
    "occluded": (TWO_PLANES, cameras_in_a_row(), {}),
    "three views": (TWO_PLANES, cameras_in_a_row(views=3, baseline=0.2), {}),
    "outside the range": (TWO_PLANES, cameras_in_a_row(near=3.0, far=5.0), {}),
    "rolled": (TWO_PLANES, turned_and_nearer(cameras_in_a_row()), {}),
    "views with different planes": (
        TWO_PLANES,
        turned_and_nearer(cameras_in_a_row(baseline=0.5)),
        {"min_planes": 8, "plane_spacing_px": 0.9},
    ),
    "fewer planes than coarse ones": (
        TWO_PLANES,
        cameras_in_a_row(),
        {"max_planes": 20, "min_planes": 20},
    ),
    "other constants": (
        TWO_PLANES,
        cameras_in_a_row(),
        {
            "census_margin": 3.0,
            "color_limit": 20.0,
            "large_jump": 60.0,
            "fill_scales_px": (2.0, 6.0, 20.0),
            "background_radius_px": 30.0,
            "tolerance_px": 0.7,
            "anchor_tolerance_px": 0.4,
            "small_jump_growth": (1.0, 2.0),
            "small_jump_most": (6.0, 9.0),
        },
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_torch_agrees_with_compiled_kernels(case: str):
    surfaces, cameras, changes = CASES[case]
    settings = MatchingSettings(**changes)
    images, _ = photograph(surfaces, cameras)
    images += 0.02 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    images.clamp_(0, 1)
    compiled = match_views(images, cameras, settings, backend="compiled")
    found = match_views(images, cameras, settings, backend="torch")
    untrusted = ~compiled.trusted
    assert untrusted.sum() > 100  # fills are compared too
    assert_agree(found, compiled, cameras, settings)


def test_views_of_different_planes_do_not_mix():
    _, cameras, changes = CASES["views with different planes"]
    first, second = plan_sweeps(cameras[0], HEIGHT, WIDTH, MatchingSettings(**changes))
    assert first.planes != second.planes


def test_a_batch_agrees_with_compiled_kernels():
    near, wide = cameras_in_a_row(), cameras_in_a_row(baseline=0.5)
    images = torch.cat([photograph(SLANTED, near)[0], photograph(TWO_PLANES, wide)[0]])
    cameras = Cameras.stack([near[0], wide[0]])
    compiled = match_views(images, cameras, backend="compiled")
    assert_agree(
        match_views(images, cameras, backend="torch"), compiled, cameras, MatchingSettings()
    )


def test_a_batch_too_large_for_memory_is_matched_in_parts(monkeypatch: pytest.MonkeyPatch):
    near, wide = cameras_in_a_row(), cameras_in_a_row(baseline=0.5)
    images = torch.cat([photograph(SLANTED, near)[0], photograph(TWO_PLANES, wide)[0]])
    cameras = Cameras.stack([near[0], wide[0]])
    whole = match_views(images, cameras, backend="torch")
    monkeypatch.setattr("hisplat_models.matching.match._VOLUME_AT_ONCE", 1)
    monkeypatch.setattr("hisplat_models.matching.torch_volume.CHUNK", 100_000)
    parts = match_views(images, cameras, backend="torch")
    for field in fields(MatchingPrior):
        torch.testing.assert_close(getattr(parts, field.name), getattr(whole, field.name))


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_photos_without_texture_stay_finite_and_agree(value: float):
    cameras = cameras_in_a_row()
    images = torch.full((1, 2, 3, HEIGHT, WIDTH), value)
    found = match_views(images, cameras, backend="torch")
    for field in fields(MatchingPrior):
        assert torch.isfinite(getattr(found, field.name).float()).all(), field.name
    assert (found.inverse_depth > 0).all()
    compiled = match_views(images, cameras, backend="compiled")
    assert_agree(found, compiled, cameras, MatchingSettings(), least=0.99)


def test_views_without_overlap_stay_finite_and_untrusted():
    cameras = cameras_in_a_row()
    turned = cameras.camera_to_world.clone()
    turned[0, 1, :3, :3] = torch.diag(torch.tensor([-1.0, 1.0, -1.0]))
    images, _ = photograph(TWO_PLANES, cameras)
    cameras = replace(cameras, camera_to_world=turned)
    found = match_views(images, cameras, backend="torch")
    assert not found.trusted.any()
    assert torch.isfinite(found.inverse_depth).all()
    compiled = match_views(images, cameras, backend="compiled")
    assert_agree(found, compiled, cameras, MatchingSettings())


@pytest.mark.parametrize("density", [0.0, 0.002, 0.3, 1.0])
def test_distances_to_trusted_pixels_agree(density: float):
    trusted = torch.rand(3, 24, 40, generator=torch.Generator().manual_seed(1)) < density
    expected = torch.stack([torch.from_numpy(compiled_distance(t.numpy())) for t in trusted])
    torch.testing.assert_close(distance_to_trusted(trusted), expected, rtol=0, atol=1e-4)


def test_nothing_is_made_on_another_device_than_the_images():
    cameras = cameras_in_a_row()
    images, _ = photograph(TWO_PLANES, cameras)
    expected = match_views(images, cameras, backend="torch")
    with torch.device("meta"):  # where tensors land for which no device was named
        found = match_views(images, cameras, backend="torch")
    for field in fields(MatchingPrior):
        torch.testing.assert_close(getattr(found, field.name), getattr(expected, field.name))


def test_images_on_the_cpu_are_matched_by_compiled_kernels(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise AssertionError("The torch backend was called.")

    monkeypatch.setattr("hisplat_models.matching.match.match_scene_torch", refuse)
    cameras = cameras_in_a_row()
    images, _ = photograph(SLANTED, cameras)
    match_views(images, cameras)
    with pytest.raises(AssertionError, match="torch backend"):
        match_views(images, cameras, backend="torch")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("case", CASES)
def test_images_on_a_gpu_agree_with_compiled_kernels(case: str, monkeypatch: pytest.MonkeyPatch):
    surfaces, cameras, changes = CASES[case]
    settings = MatchingSettings(**changes)
    images, _ = photograph(surfaces, cameras)
    compiled = match_views(images, cameras, settings)
    monkeypatch.delattr("hisplat_models.matching.match.match_scene")  # not to be called any more
    found = match_views(images.cuda(), cameras.to("cuda"), settings)
    assert found.inverse_depth.is_cuda
    on_cpu = {f.name: getattr(found, f.name).cpu() for f in fields(MatchingPrior)}
    assert_agree(MatchingPrior(**on_cpu), compiled, cameras, settings, least=0.99)
