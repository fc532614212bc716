import math

import numpy as np
import pytest
import torch

from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import matrix_to_quaternion
from hisplat_viewer.scene import MEDIAN_DEPTH, DisplayFrame
from hisplat_viewer.viewpoint import Viewpoint, cameras_at, checked_side, picture_size

QUATERNION = torch.tensor([0.8, -0.3, 0.4, 0.2]) / math.sqrt(0.93)


@pytest.fixture
def frame() -> DisplayFrame:
    """A world that is turned, moved and three times smaller than what is shown."""
    turn = torch.linalg.matrix_exp(
        torch.tensor([[0.0, -0.4, 0.2], [0.4, 0.0, -0.7], [-0.2, 0.7, 0.0]])
    )
    world_to_view = torch.eye(4)
    world_to_view[:3, :3] = turn
    world_to_view[:3, 3] = torch.tensor([1.0, -2.0, 0.5])
    return DisplayFrame(world_to_view, 3.0)


def test_world_points_appear_where_the_browser_shows_them(frame: DisplayFrame):
    """Projecting world points with the camera equals projecting shown points with the eye's."""
    position, fov_y, aspect = np.array([0.3, -1.2, 2.0]), 1.1, 1.6
    viewpoint = Viewpoint.of(position, QUATERNION.numpy(), fov_y, frame)
    camera = cameras_at([viewpoint], aspect)[0]
    eye = Viewpoint.of(position, QUATERNION.numpy(), fov_y, DisplayFrame(torch.eye(4), 1.0))
    shown_by = cameras_at([eye], aspect)[0]
    ahead = eye.camera_to_world.float() @ torch.tensor([0.0, 0.0, 5.0, 1.0])
    shown = ahead[:3] + torch.rand(50, 3, generator=torch.Generator().manual_seed(0))
    projected = camera.project(frame.world_points(shown))
    expected = shown_by.project(shown)
    torch.testing.assert_close(projected[:, :2], expected[:, :2], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(projected[:, 2] * frame.scale, expected[:, 2])


def test_eye_of_a_photo_sees_what_its_camera_saw(frame: DisplayFrame):
    pose = torch.eye(4)
    pose[:3, 3] = torch.tensor([0.4, 0.1, -0.3])
    fov_y, aspect = 0.9, 1.5
    focal_y = 0.5 / math.tan(fov_y / 2)
    intrinsics = torch.tensor([[focal_y / aspect, 0, 0.5], [0, focal_y, 0.5], [0, 0, 1]])
    cameras = Cameras(pose[None], intrinsics[None], torch.ones(1), torch.full((1,), 9.0))
    (shown,) = frame.poses(cameras)
    viewpoint = Viewpoint.of(shown.position, shown.wxyz, fov_y, frame)
    again = cameras_at([viewpoint], aspect)
    torch.testing.assert_close(again.camera_to_world, cameras.camera_to_world, atol=1e-5, rtol=0)
    torch.testing.assert_close(again.intrinsics, cameras.intrinsics)
    assert viewpoint.depth == pytest.approx(MEDIAN_DEPTH / frame.scale)
    assert (again.near > 0).all()
    assert (again.far > again.near).all()


def test_turned_eye_keeps_a_rigid_pose(frame: DisplayFrame):
    pose = Viewpoint.of(np.zeros(3), QUATERNION.numpy(), 1.0, frame).camera_to_world
    torch.testing.assert_close(
        pose[:3, :3] @ pose[:3, :3].T, torch.eye(3).double(), atol=1e-6, rtol=0
    )
    assert torch.linalg.det(pose[:3, :3]).item() == pytest.approx(1)
    display = frame.world_to_view[:3, :3].double() @ pose[:3, :3]
    torch.testing.assert_close(matrix_to_quaternion(display).float(), QUATERNION, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("aspect", "side", "size"),
    [(1.5, 960, (640, 960)), (0.5, 800, (800, 400)), (1, 63, (64, 64)), (100, 16, (2, 16))],
)
def test_pictures_have_the_window_s_proportions(aspect, side, size):
    assert picture_size(aspect, side) == size


@pytest.mark.parametrize("side", [0, -5, 15, 4001, math.nan, math.inf])
def test_sizes_out_of_range_are_refused(side: float):
    with pytest.raises(ValueError, match="Expected 16 to 4000 pixels"):
        checked_side(side, 4000)
