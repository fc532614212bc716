"""Refinement by rendering: what it gains, what it leaves alone."""

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import Gaussians
from hisplat_models.layered import layered_gaussians, layered_stages
from hisplat_models.matching import match_views
from hisplat_models.metrics import psnr
from hisplat_models.refinement import (
    RefinementSettings,
    camera_between,
    photo_of_each,
    refine,
)
from hisplat_models.rendering import CpuRenderer

from .matching_scenes import HEIGHT, TWO_PLANES, WIDTH, cameras_in_a_row, photograph

RENDERER = CpuRenderer()
STEPS = 15


@pytest.fixture(scope="module")
def views() -> tuple[Tensor, Cameras]:
    """Left, middle and right; the middle one is never shown to what is tested."""
    cameras = cameras_in_a_row(views=3, baseline=0.15)
    return photograph(TWO_PLANES, cameras)[0], cameras


@pytest.fixture(scope="module")
def photos(views: tuple[Tensor, Cameras]) -> tuple[Tensor, Cameras]:
    images, cameras = views
    return images[:, ::2], cameras[:, ::2]


@pytest.fixture(scope="module")
def scene(photos: tuple[Tensor, Cameras]) -> Gaussians:
    images, cameras = photos
    return layered_gaussians(layered_stages(match_views(images, cameras), images, cameras), cameras)


@pytest.fixture(scope="module")
def refined(scene: Gaussians, photos: tuple[Tensor, Cameras]) -> Gaussians:
    return refine(scene, *photos, RENDERER, STEPS)


def faithfulness(scene: Gaussians, images: Tensor, cameras: Cameras) -> float:
    with torch.no_grad():
        drawn = RENDERER(scene, cameras, (HEIGHT, WIDTH)).color.clamp(0, 1)
    return psnr(drawn, images).mean().item()


def assert_equal(a: Gaussians, b: Gaussians) -> None:
    for field in fields(Gaussians):
        assert torch.equal(getattr(a, field.name), getattr(b, field.name)), field.name


def test_a_view_that_was_not_photographed_gains(
    scene: Gaussians, refined: Gaussians, views: tuple[Tensor, Cameras]
):
    images, cameras = views
    middle = images[:, 1:2], cameras[:, 1:2]
    assert faithfulness(refined, *middle) > faithfulness(scene, *middle) + 0.3


def test_the_photos_gain(scene: Gaussians, refined: Gaussians, photos: tuple[Tensor, Cameras]):
    assert faithfulness(refined, *photos) > faithfulness(scene, *photos) + 1


def test_positions_levels_and_turns_stay(scene: Gaussians, refined: Gaussians):
    for name in ("means", "quaternions_wxyz", "level"):
        assert torch.equal(getattr(refined, name), getattr(scene, name))


def test_what_changes_stays_in_its_range(scene: Gaussians, photos: tuple[Tensor, Cameras]):
    fast = RefinementSettings(opacity_rate=5.0, scale_rate=1.0, scale_limit=1.5)
    refined = refine(scene, *photos, RENDERER, 3, fast)
    assert ((refined.opacities >= 0) & (refined.opacities <= 1)).all()
    factor = refined.scales / scene.scales
    assert 1.4 < factor.max() < 1.5 + 1e-5
    assert 1 / 1.5 - 1e-5 < factor.min() < 0.75


def test_no_steps_change_nothing(scene: Gaussians, photos: tuple[Tensor, Cameras]):
    assert_equal(refine(scene, *photos, RENDERER, 0), scene)


def test_rates_of_zero_change_nothing(scene: Gaussians, photos: tuple[Tensor, Cameras]):
    colors_only = RefinementSettings(opacity_rate=0.0, scale_rate=0.0)
    refined = refine(scene, *photos, RENDERER, 1, colors_only)
    assert torch.equal(refined.scales, scene.scales)
    torch.testing.assert_close(refined.opacities, scene.opacities, rtol=0, atol=2e-6)
    assert not torch.equal(refined.harmonics, scene.harmonics)


@pytest.mark.parametrize("gradients", [True, False])
def test_refining_again_gives_the_same(
    scene: Gaussians, photos: tuple[Tensor, Cameras], gradients: bool
):
    with torch.set_grad_enabled(gradients):
        again = [refine(scene, *photos, RENDERER, 2) for _ in range(2)]
    assert_equal(*again)
    assert not again[0].opacities.requires_grad


def test_gaussians_that_no_photo_shows_stay(scene: Gaussians, photos: tuple[Tensor, Cameras]):
    means = scene.means.clone()
    means[:, ::3, 2] -= 100  # behind all cameras
    torn = replace(scene, means=means)
    refined = refine(torn, *photos, RENDERER, 2)
    hidden, moved = refined[:, ::3], torn[:, ::3]
    torch.testing.assert_close(hidden.opacities, moved.opacities, rtol=0, atol=2e-6)
    assert torch.equal(hidden.scales, moved.scales)
    assert torch.equal(hidden.harmonics, moved.harmonics)
    assert not torch.equal(refined.scales, torn.scales)


def test_view_dependent_bands_stay(scene: Gaussians, photos: tuple[Tensor, Cameras]):
    bands = torch.full((1, scene.count, 3, 3), 0.01)
    shiny = replace(scene, harmonics=torch.cat([scene.harmonics, bands], dim=-2))
    refined = refine(shiny, *photos, RENDERER, 1)
    assert torch.equal(refined.harmonics[..., 1:, :], bands)
    assert not torch.equal(refined.base_colors, shiny.base_colors)


def test_progress_is_told_and_can_cancel(scene: Gaussians, photos: tuple[Tensor, Cameras]):
    heard: list[float] = []

    def stop_late(step: str, fraction: float) -> None:
        heard.append(fraction)
        if fraction >= 0.5:
            raise InterruptedError(step)

    with pytest.raises(InterruptedError, match="refining"):
        refine(scene, *photos, RENDERER, 4, progress=stop_late)
    assert heard == [0.0, 0.25, 0.5]


def test_another_seed_draws_other_places(scene: Gaussians, photos: tuple[Tensor, Cameras]):
    first, second = (
        refine(scene, *photos, RENDERER, 1, RefinementSettings(seed=s)) for s in (0, 1)
    )
    assert not torch.equal(first.opacities, second.opacities)


def test_three_photos_refine_one_scene(views: tuple[Tensor, Cameras]):
    images, cameras = views
    scene = layered_gaussians(
        layered_stages(match_views(images, cameras), images, cameras), cameras
    )
    refined = refine(scene, images, cameras, RENDERER, 5)
    assert faithfulness(refined, images, cameras) > faithfulness(scene, images, cameras) + 0.3


def test_further_photos_count_as_much_as_is_said(views: tuple[Tensor, Cameras]):
    images, cameras = views[0][:, [0, 2, 1]], views[1][:, [0, 2, 1]]
    scene = layered_gaussians(
        layered_stages(match_views(images, cameras), images, cameras), cameras
    )
    repainted = images.clone()
    repainted[:, 2] = 1 - repainted[:, 2]

    def refined_to(photos: Tensor, weight: float) -> Gaussians:
        settings = RefinementSettings(further_weight=weight)
        return refine(scene, photos, cameras, RENDERER, 2, settings)

    assert_equal(refined_to(images, 0.0), refined_to(repainted, 0.0))
    assert not torch.equal(
        refined_to(images, 0.25).harmonics, refined_to(repainted, 0.25).harmonics
    )


def test_each_gaussian_knows_its_photo():
    level = torch.tensor([0, 0, 1, 1, 1, 1])
    assert photo_of_each(level, 2).tolist() == [0, 1, 0, 0, 1, 1]
    with pytest.raises(ValueError, match=r"each of 2 photos, got \[2, 1\] of levels \[0, 1\]"):
        photo_of_each(level[:3], 2)
    with pytest.raises(ValueError, match="one level after the other"):
        photo_of_each(torch.tensor([0, 0, 1, 1, 0, 0]), 2)


def test_a_camera_between_two_goes_from_one_to_the_other(photos: tuple[Tensor, Cameras]):
    start, end = photos[1][0, 0], photos[1][0, 1]
    for share, expected in ((0.0, start), (1.0, end)):
        pose = camera_between(start, end, share).camera_to_world
        torch.testing.assert_close(pose, expected.camera_to_world)
    half = camera_between(start, end, 0.5)
    rotation = half.camera_to_world[:3, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3))
    torch.testing.assert_close(half.positions, (start.positions + end.positions) / 2)
    to_start, to_end = (rotation.mT @ c.camera_to_world[:3, :3] for c in (start, end))
    torch.testing.assert_close(to_start, to_end.mT)


def test_wrong_requests_are_explained(scene: Gaussians, photos: tuple[Tensor, Cameras]):
    images, cameras = photos
    with pytest.raises(ValueError, match="at least 0 refinement steps, got -1"):
        refine(scene, images, cameras, RENDERER, -1)
    with pytest.raises(ValueError, match="one camera per photo"):
        refine(scene, images, cameras[:, :1], RENDERER, 1)
    with pytest.raises(ValueError, match="at least two photos, got 1"):
        refine(scene, images[:, :1], cameras[:, :1], RENDERER, 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"scale_rate": -1.0}, "scale_rate of at least 0, got -1"),
        ({"agreement_weight": -1.0}, "agreement_weight of at least 0, got -1"),
        ({"further_weight": -1.0}, "further_weight of at least 0, got -1"),
        ({"opacity_rate": 0.0, "scale_rate": 0.0, "color_rate": 0.0}, "Nothing to refine"),
        ({"scale_limit": 0.5}, "scale_limit of at least 1"),
        ({"error_floor": 0.0}, "error_floor above 0"),
    ],
)
def test_wrong_settings_are_explained(wrong: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        RefinementSettings(**wrong)
