import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import matrix_to_quaternion
from hisplat_models.rendering import create_renderer
from hisplat_viewer.scene import MEDIAN_DEPTH, DisplayFrame, Scene

HEIGHT, WIDTH = 24, 32


def cameras_of(scene: Scene) -> Cameras:
    assert scene.cameras is not None
    return scene.cameras


def test_left_camera_is_the_origin_and_median_depth_is_fixed(scene: Scene):
    frame = DisplayFrame.of(scene)
    left, right = frame.poses(cameras_of(scene))
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
    world = renderer(scene.gaussians[None], cameras_of(scene)[None], (HEIGHT, WIDTH)).color
    moved = cameras_of(scene).transformed(frame.world_to_view).scaled(frame.scale)
    shown = renderer(frame.gaussians(scene.gaussians)[None], moved[None], (HEIGHT, WIDTH)).color
    torch.testing.assert_close(shown, world, atol=2e-3, rtol=0)


def test_poses_match_the_cameras(scene: Scene):
    frame = DisplayFrame.of(scene)
    moved = cameras_of(scene).transformed(frame.world_to_view)
    for pose, matrix in zip(frame.poses(cameras_of(scene)), moved.camera_to_world, strict=True):
        expected = matrix_to_quaternion(matrix[:3, :3]).numpy()
        np.testing.assert_allclose(pose.wxyz, expected, atol=1e-5)
        np.testing.assert_allclose(pose.up, -matrix[:3, 1].numpy(), atol=1e-5)
        assert pose.fov_x == pytest.approx(2 * math.atan(0.5))
        assert pose.fov_y == pytest.approx(2 * math.atan(0.375))


@pytest.mark.parametrize("aspect", [0.5, 4 / 3, 3.0])
def test_whole_photo_fits_into_any_window(scene: Scene, aspect: float):
    pose = DisplayFrame.of(scene).poses(cameras_of(scene))[0]
    half_height = math.tan(pose.fov_y_showing_all(aspect) / 2)
    assert half_height >= math.tan(pose.fov_y / 2) - 1e-9
    assert half_height * aspect >= math.tan(pose.fov_x / 2) - 1e-9


def test_scene_behind_the_camera_is_refused(scene: Scene):
    back = cameras_of(scene).camera_to_world.clone()
    back[:, :3, :3] = back[:, :3, :3] @ torch.diag(torch.tensor([-1.0, 1.0, -1.0]))
    with pytest.raises(ValueError, match="in front of the left camera"):
        DisplayFrame.of(replace(scene, cameras=replace(cameras_of(scene), camera_to_world=back)))


def test_scene_without_cameras_is_whole_in_the_first_view(scene: Scene):
    bare = replace(scene, cameras=None, photos=None)
    frame = DisplayFrame.of(bare)
    shown = frame.points(bare.gaussians.means)
    torch.testing.assert_close(
        shown.median(dim=0).values, torch.tensor([0, 0, MEDIAN_DEPTH]), atol=1e-2, rtol=0
    )
    angles = torch.atan2(shown[:, :2].norm(dim=-1), shown[:, 2])
    assert (angles < math.radians(30)).float().mean() > 0.85
    assert angles.max() > math.radians(10), "the scene is too far away"
    torch.testing.assert_close(frame.world_to_view[:3, :3], torch.eye(3))


@pytest.mark.parametrize("count", [1, 2])
def test_tiny_scenes_have_a_frame(scene: Scene, count: int):
    bare = Scene(scene.gaussians[:count], None, None, "tiny")
    frame = DisplayFrame.of(bare)
    assert math.isfinite(frame.scale)
    assert frame.points(bare.gaussians.means).isfinite().all()


def test_empty_scene_is_refused(scene: Scene):
    with pytest.raises(ValueError, match="no Gaussians"):
        DisplayFrame.of(Scene(scene.gaussians[:0], None, None, "empty"))


def test_what_does_not_belong_together_is_refused(scene: Scene):
    with pytest.raises(ValueError, match="camera per photo, got 2 and 0"):
        replace(scene, photos=None)
    with pytest.raises(ValueError, match="confidence per Gaussian, got 5"):
        replace(scene, confidence=torch.ones(5))


def test_scene_seen_from_the_origin_is_shown_from_there(scene: Scene):
    before_left = scene.gaussians.transformed(cameras_of(scene).world_to_camera[0])
    frame = DisplayFrame.of(Scene(before_left, None, None, "from a file"))
    torch.testing.assert_close(frame.world_to_view, torch.eye(4))
    shown = frame.points(before_left.means)
    assert shown[:, 2].median().item() == pytest.approx(MEDIAN_DEPTH, rel=1e-4)
