"""The analytic scene: layout of its levels, and that it shows the photo it came from."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import avg_pool2d

from hisplat_models.cameras import Cameras
from hisplat_models.layered import (
    LayeredSettings,
    LayeredStage,
    layered_gaussians,
    layered_stages,
)
from hisplat_models.matching import CANDIDATE_NAMES, match_views
from hisplat_models.metrics import psnr
from hisplat_models.rendering.cpu import CpuRenderer

from .matching_scenes import HEIGHT, TWO_PLANES, WIDTH, cameras_in_a_row, photograph


@pytest.fixture(scope="module")
def scene() -> tuple[torch.Tensor, Cameras, tuple[LayeredStage, LayeredStage, LayeredStage]]:
    cameras = cameras_in_a_row()
    images, _ = photograph(TWO_PLANES, cameras)
    return images, cameras, layered_stages(match_views(images, cameras), images, cameras)


def test_levels_have_the_stated_strides_and_borders(scene):
    coarse, middle, fine = scene[2]
    assert [stage.stride for stage in (coarse, middle, fine)] == [8, 4, 1]
    assert coarse.padding * 8 >= LayeredSettings().coarse_margin * max(HEIGHT, WIDTH)
    for stage in (coarse, middle, fine):
        rows = HEIGHT // stage.stride + 2 * stage.padding
        columns = WIDTH // stage.stride + 2 * stage.padding
        assert stage.inverse_depth.shape == (1, 2, rows, columns)
        assert stage.color.shape == (1, 2, 3, rows, columns)
        assert stage.opacity.shape == (1, 2, rows, columns)
        assert (stage.inverse_depth > 0).all()


def test_coarser_levels_lie_behind_finer_ones(scene):
    coarse, middle, fine = scene[2]
    inner = coarse.inverse_depth[
        ..., coarse.padding : -coarse.padding, coarse.padding : -coarse.padding
    ]
    assert (inner.repeat_interleave(2, -1).repeat_interleave(2, -2) < middle.inverse_depth).all()
    behind = middle.inverse_depth < fine.inverse_depth[..., 2::4, 2::4]
    assert behind.float().mean() > 0.95


def test_gaussians_project_to_the_centres_of_their_cells(scene):
    _, cameras, stages = scene
    for level, stage in enumerate(stages):
        gaussians = layered_gaussians(stages, cameras)[0].only_level(level)
        rows, columns = stage.inverse_depth.shape[-2:]
        seen = cameras[0, 0].project(gaussians.means[: rows * columns])
        pixel = seen[:, :2].unflatten(0, (rows, columns)) * torch.tensor([WIDTH, HEIGHT])
        x = (torch.arange(columns) - stage.padding + 0.5) * stage.stride
        y = (torch.arange(rows) - stage.padding + 0.5) * stage.stride
        expected = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
        torch.testing.assert_close(pixel, expected, atol=1e-2, rtol=0)
        torch.testing.assert_close(
            seen[:, 2].unflatten(0, (rows, columns)), 1 / stage.inverse_depth[0, 0],
            rtol=1e-4, atol=0,
        )  # fmt: skip


def test_every_pixel_has_a_gaussian_of_each_level(scene):
    _, cameras, stages = scene
    gaussians = layered_gaussians(stages, cameras)
    assert gaussians.count == sum(s.inverse_depth[0].numel() for s in stages)
    assert gaussians.sh_degree == 0
    assert (gaussians.opacities[gaussians.level == 2] >= LayeredSettings().fine_opacity).all()


def test_fine_colours_are_sharper_than_the_photos_and_still_colours(scene):
    images, cameras, _ = scene
    prior = match_views(images, cameras)
    plain = layered_stages(prior, images, cameras, LayeredSettings(fine_sharpening=0.0))[2].color
    sharp = layered_stages(prior, images, cameras, LayeredSettings(fine_sharpening=0.5))[2].color
    assert torch.equal(plain, prior.color)
    assert sharp.min() >= 0
    assert sharp.max() <= 1
    inner = (..., slice(8, -8), slice(8, -8))
    assert sharp.diff(dim=-1).abs().mean() > 1.05 * plain.diff(dim=-1).abs().mean()
    torch.testing.assert_close(sharp[inner].mean(), plain[inner].mean(), atol=5e-3, rtol=0)


@pytest.mark.parametrize("view", [0, 1])
def test_the_scene_shows_its_photos(scene, view: int):
    images, cameras, stages = scene
    rendering = CpuRenderer()(
        layered_gaussians(stages, cameras), cameras[:, [view]], (HEIGHT, WIDTH)
    )
    assert psnr(rendering.color[0, 0], images[0, view]) > 24
    assert rendering.alpha.min() > 0.5


def test_a_view_between_the_photos_is_shown_without_holes(scene):
    _, cameras, stages = scene
    between = cameras_in_a_row(baseline=0.15)[:, 1:]
    truth, _ = photograph(TWO_PLANES, between)
    rendering = CpuRenderer()(layered_gaussians(stages, cameras), between, (HEIGHT, WIDTH))
    assert psnr(rendering.color[0, 0], truth[0, 0]) > 24
    assert rendering.alpha.min() > 0.5


def test_scaling_the_world_scales_the_gaussians(scene):
    images, cameras, _ = scene
    bigger = cameras.scaled(3.0)
    prior = match_views(images, bigger)
    small, large = (
        layered_gaussians(layered_stages(p, images, c), c)
        for p, c in ((match_views(images, cameras), cameras), (prior, bigger))
    )
    close = (large.scales[..., 0] / small.scales[..., 0] / 3 - 1).abs() < 1e-2
    assert close.float().mean() > 0.99


def test_without_any_trusted_pixel_the_scene_stays_finite(scene):
    images, cameras, _ = scene
    prior = match_views(images, cameras)
    unsure = replace(prior, trusted=torch.zeros_like(prior.trusted))
    gaussians = layered_gaussians(layered_stages(unsure, images, cameras), cameras)
    for values in (gaussians.means, gaussians.scales, gaussians.harmonics, gaussians.opacities):
        assert torch.isfinite(values).all()


@pytest.mark.parametrize(("push", "own"), [(1.0, True), (0.8, True), (1.5, False)])
def test_unmatched_pixels_color_the_backdrop_unless_they_lie_before_it(scene, push, own):
    """A green patch without a match, at, behind and before the depth of a white wall."""
    images, cameras, _ = scene
    prior = match_views(images, cameras)
    wall = torch.full_like(prior.inverse_depth, 0.25)
    patch = (..., slice(24, 40), slice(40, 56))
    trusted, depth = torch.ones_like(prior.trusted), wall.clone()
    trusted[patch], depth[patch] = False, 0.25 * push
    color = torch.ones_like(prior.color)
    color[patch] = torch.tensor([0.0, 1.0, 0.0])[:, None, None]
    candidates = prior.candidates.clone()
    candidates[:, :, CANDIDATE_NAMES.index("background")] = wall
    made = replace(prior, trusted=trusted, inverse_depth=depth, color=color, candidates=candidates)
    red = layered_stages(made, color, cameras)[1].color[0, :, 0, 7:9, 11:13]
    assert (red < 0.25).all() if own else (red > 0.9).all()


def backdrop_of_a_fence(other_push: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Middle colours and opacities of the first photo, all red fence.

    The second photo is green, ``other_push`` as near.
    """
    cameras = cameras_in_a_row()
    images, _ = photograph(TWO_PLANES, cameras)
    prior = match_views(images, cameras)
    depth = torch.full_like(prior.inverse_depth, 0.25)
    depth[:, 1] *= other_push
    color = torch.zeros_like(prior.color)
    color[:, 0, 0], color[:, 1, 1] = 1.0, 1.0
    candidates = prior.candidates.clone()
    candidates[:, :, CANDIDATE_NAMES.index("background")] = 0.25
    trusted = torch.ones_like(prior.trusted)
    made = replace(prior, trusted=trusted, inverse_depth=depth, color=color, candidates=candidates)
    middle = layered_stages(made, color, cameras)[1]
    return middle.color[0, 0], middle.opacity[0, 0]


def test_what_another_photo_sees_behind_a_surface_colors_the_backdrop_there_and_makes_it_opaque():
    inner = (slice(4, -4), slice(8, -8))
    settings = LayeredSettings()
    color, opacity = backdrop_of_a_fence(other_push=0.5)
    assert (color[(1, *inner)] > 0.9).all()
    torch.testing.assert_close(
        opacity[inner], torch.full_like(opacity[inner], settings.seen_middle_opacity)
    )
    color, opacity = backdrop_of_a_fence(other_push=1.2)
    assert (color[(0, *inner)] > 0.9).all()
    assert (opacity[inner] < settings.middle_opacity + 1e-3).all()


def test_the_backdrop_is_nearer_only_where_no_photo_looks(scene):
    images, cameras, _ = scene
    prior = match_views(images, cameras)
    settings = LayeredSettings()
    stage = layered_stages(prior, images, cameras, settings)[0]
    plain = layered_stages(
        prior, images, cameras, replace(settings, beyond_push=settings.coarse_push)
    )[0]
    nearer = stage.inverse_depth > 1.01 * plain.inverse_depth
    assert torch.equal(stage.inverse_depth[~nearer], plain.inverse_depth[~nearer])
    inner = (..., slice(stage.padding, -stage.padding), slice(stage.padding, -stage.padding))
    assert not nearer[inner].any()
    assert nearer.any()
    gaussians = layered_gaussians((stage,), cameras)
    beyond = gaussians.means[0][nearer.flatten()]
    for view in range(2):
        x, y, depth = cameras[0, view].project(beyond).unbind(-1)
        assert not ((depth > 0) & (x > 0) & (x < 1) & (y > 0) & (y < 1)).any()


def test_a_backdrop_lies_behind_what_only_its_own_photo_sees(scene):
    images, cameras, _ = scene
    prior = match_views(images, cameras)
    candidates = prior.candidates.clone()
    candidates[:, :, CANDIDATE_NAMES.index("background")] = 2 * prior.inverse_depth.max()
    stage = layered_stages(replace(prior, candidates=candidates), images, cameras)[1]
    surface = avg_pool2d(prior.inverse_depth, 4)
    behind = stage.inverse_depth < surface
    places = (
        cameras.positions[:, :, None, None] + cameras.rays(*surface.shape[-2:]) / surface[..., None]
    )
    for view in range(2):
        other = cameras[:, 1 - view : 2 - view]
        x, y = other.project(places[:, view].flatten(1, 2)[:, None])[..., :2].unbind(-1)
        seen = ((x > 0) & (x < 1) & (y > 0) & (y < 1)).reshape(surface.shape[-2:])
        assert seen.any()
        assert (~seen).any()
        assert torch.equal(behind[0, view], ~seen)
