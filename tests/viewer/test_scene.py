import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import Gaussians, matrix_to_quaternion, quaternions_to_matrices
from hisplat_models.rendering import create_renderer
from hisplat_viewer.scene import (
    BUFFER_MULTIPLE,
    MEDIAN_DEPTH,
    RADIUS,
    SMALLEST_SIGMA,
    DisplayFrame,
    Scene,
    drawn_within,
    splats_of_levels,
)

HEIGHT, WIDTH = 24, 32


def rotation(generator: torch.Generator) -> torch.Tensor:
    return quaternions_to_matrices(torch.randn(4, generator=generator))


@pytest.fixture
def scene() -> Scene:
    """Random Gaussians of three levels before two cameras that stand anywhere in the world."""
    generator = torch.Generator().manual_seed(1)
    world = torch.eye(4)
    world[:3, :3] = rotation(generator)
    world[:3, 3] = torch.tensor([70.0, -30.0, 500.0])
    step = torch.eye(4)
    step[:3, :3] = quaternions_to_matrices(torch.tensor([1.0, 0.02, 0.05, 0.1]))
    step[0, 3] = 0.3
    count = 203
    means = torch.rand(count, 3, generator=generator) * torch.tensor([2.0, 2.0, 4.0])
    means = means + torch.tensor([-1.0, -1.0, 2.0])
    gaussians = Gaussians(
        means=means,
        scales=torch.rand(count, 3, generator=generator) * 0.1 + 0.02,
        quaternions_wxyz=torch.nn.functional.normalize(
            torch.randn(count, 4, generator=generator), dim=-1
        ),
        opacities=torch.rand(count, generator=generator) * 0.8 + 0.1,
        harmonics=torch.randn(count, 1, 3, generator=generator),
        level=torch.arange(count) % 3,
    ).transformed(world)
    intrinsics = torch.tensor([[1.0, 0, 0.5], [0, 4 / 3, 0.5], [0, 0, 1]]).repeat(2, 1, 1)
    cameras = Cameras(
        torch.stack([world, world @ step]), intrinsics, torch.ones(2), torch.full((2,), 10.0)
    )
    photos = torch.rand(2, 3, HEIGHT, WIDTH, generator=generator)
    return Scene(gaussians, cameras, photos, "a test")


def test_left_camera_is_the_origin_and_median_depth_is_fixed(scene: Scene):
    frame = DisplayFrame.of(scene)
    left, right = frame.poses(scene.cameras)
    np.testing.assert_allclose(left.position, 0, atol=1e-3)
    np.testing.assert_allclose(left.wxyz, [1, 0, 0, 0], atol=1e-4)
    np.testing.assert_allclose(left.forward, [0, 0, 1], atol=1e-4)
    np.testing.assert_allclose(right.position / frame.scale, [0.3, 0, 0], atol=1e-3)
    shown = frame.gaussians(scene.gaussians)
    assert shown.means[:, 2].median().item() == pytest.approx(MEDIAN_DEPTH, rel=1e-4)


def test_display_points_go_back_to_the_world(scene: Scene):
    frame = DisplayFrame.of(scene)
    world = scene.gaussians.means
    torch.testing.assert_close(frame.world_points(frame.points(world)), world)


def test_display_keeps_the_picture(scene: Scene):
    """Moving Gaussians and cameras alike changes no pixel."""
    frame = DisplayFrame.of(scene)
    renderer = create_renderer("cpu")
    world = renderer(scene.gaussians[None], scene.cameras[None], (HEIGHT, WIDTH)).color
    moved = scene.cameras.transformed(frame.world_to_left).scaled(frame.scale)
    shown = renderer(frame.gaussians(scene.gaussians)[None], moved[None], (HEIGHT, WIDTH)).color
    torch.testing.assert_close(shown, world, atol=2e-3, rtol=0)


def test_poses_match_the_cameras(scene: Scene):
    frame = DisplayFrame.of(scene)
    moved = scene.cameras.transformed(frame.world_to_left)
    for pose, matrix in zip(frame.poses(scene.cameras), moved.camera_to_world, strict=True):
        expected = matrix_to_quaternion(matrix[:3, :3]).numpy()
        np.testing.assert_allclose(pose.wxyz, expected, atol=1e-5)
        np.testing.assert_allclose(pose.up, -matrix[:3, 1].numpy(), atol=1e-5)
        assert pose.fov_x == pytest.approx(2 * math.atan(0.5))
        assert pose.fov_y == pytest.approx(2 * math.atan(0.375))


@pytest.mark.parametrize("aspect", [0.5, 4 / 3, 3.0])
def test_whole_photo_fits_into_any_window(scene: Scene, aspect: float):
    pose = DisplayFrame.of(scene).poses(scene.cameras)[0]
    half_height = math.tan(pose.fov_y_showing_all(aspect) / 2)
    assert half_height >= math.tan(pose.fov_y / 2) - 1e-9
    assert half_height * aspect >= math.tan(pose.fov_x / 2) - 1e-9


def test_scene_behind_the_camera_is_refused(scene: Scene):
    back = scene.cameras.camera_to_world.clone()
    back[:, :3, :3] = back[:, :3, :3] @ torch.diag(torch.tensor([-1.0, 1.0, -1.0]))
    with pytest.raises(ValueError, match="in front of the left camera"):
        DisplayFrame.of(replace(scene, cameras=replace(scene.cameras, camera_to_world=back)))


def test_every_level_has_its_own_splats_of_a_multiple_of_four(scene: Scene):
    levels = splats_of_levels(scene, DisplayFrame.of(scene))
    assert list(levels) == [0, 1, 2]
    for level, splats in levels.items():
        count = int((scene.gaussians.level == level).sum())
        padded = len(splats.centers)
        assert padded % BUFFER_MULTIPLE == 0
        assert 0 <= padded - count < BUFFER_MULTIPLE
        assert (splats.opacities[:count] > 0).all()
        assert (splats.opacities[count:] == 0).all()
        assert {len(splats.covariances), len(splats.rgbs), len(splats.opacities)} == {padded}


def test_levels_without_anything_to_see_are_left_out(scene: Scene):
    faint = torch.where(scene.gaussians.level == 1, 0.001, scene.gaussians.opacities)
    scene = replace(scene, gaussians=replace(scene.gaussians, opacities=faint))
    assert list(splats_of_levels(scene, DisplayFrame.of(scene))) == [0, 2]


def test_covariances_survive_half_precision(scene: Scene):
    means = scene.gaussians.means.clone()
    left = scene.cameras.camera_to_world[0]
    means[0] = left[:3, 3] + 1e6 * left[:3, 2]
    scales = scene.gaussians.scales.clone()
    scales[0], scales[1] = 1e6, 1e-9
    scene = replace(scene, gaussians=replace(scene.gaussians, means=means, scales=scales))
    for splats in splats_of_levels(scene, DisplayFrame.of(scene)).values():
        halves = splats.covariances.astype(np.float16)
        assert np.isfinite(halves).all()
        assert (np.linalg.eigvalsh(halves.astype(np.float64)) > 0).all()
        assert np.linalg.norm(splats.centers, axis=1).max() <= RADIUS * 1.001


def test_pulling_in_outliers_keeps_the_view_from_the_origin():
    gaussians = Gaussians(
        means=torch.tensor([[3.0, 0, 4.0], [0, 0, 1000.0]]),
        scales=torch.tensor([[0.5, 0.5, 0.5], [20.0, 10.0, 1e-9]]),
        quaternions_wxyz=torch.tensor([[1.0, 0, 0, 0]] * 2),
        opacities=torch.tensor([0.5, 0.5]),
        harmonics=torch.zeros(2, 1, 3),
        level=torch.zeros(2, dtype=torch.long),
    )
    drawn = drawn_within(gaussians, RADIUS)
    torch.testing.assert_close(drawn.means, torch.tensor([[3.0, 0, 4.0], [0, 0, RADIUS]]))
    torch.testing.assert_close(drawn.scales[0], gaussians.scales[0])
    expected = torch.tensor([20.0, 10.0, 0]) * RADIUS / 1000
    torch.testing.assert_close(drawn.scales[1], expected.clamp_min(SMALLEST_SIGMA))
