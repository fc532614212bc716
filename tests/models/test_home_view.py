"""Where to look at scenes from that come without cameras."""

import math

import pytest
import torch

from hisplat_models.gaussians import Gaussians, quaternions_to_matrices
from hisplat_models.home_view import AXES, FOV_Y, UP, HomeView, axis_vector, home_view


def cloud(middle: tuple[float, float, float], radius: float, count: int = 500) -> Gaussians:
    """Gaussians all over a ball."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    distances = radius * torch.rand(count, 1, generator=generator) ** (1 / 3)
    return Gaussians(
        means=torch.tensor(middle) + distances * directions,
        scales=torch.full((count, 3), 0.01 * radius),
        quaternions_wxyz=torch.tensor([1.0, 0, 0, 0]).expand(count, 4),
        opacities=torch.full((count,), 0.5),
        harmonics=torch.zeros(count, 1, 3),
        level=torch.zeros(count, dtype=torch.long),
    )


@pytest.mark.parametrize("middle", [(0.0, 0.0, 0.0), (40.0, -300.0, 7.0), (0.0, 0.0, -3.0)])
@pytest.mark.parametrize("up", AXES)
def test_all_of_a_scene_of_unknown_origin_is_in_the_picture(middle, up):
    scene = cloud(middle, 2.0)
    home = home_view(scene).upright(up)
    x, y, depth = home.camera(4 / 3).project(scene.means).unbind(dim=-1)
    assert (depth > 0).all()
    assert ((x > 0) & (x < 1) & (y > 0) & (y < 1)).all()
    assert y.max() - y.min() > 0.5, "the scene is too far away"
    torch.testing.assert_close(home.target, scene.means.median(dim=0).values, atol=1e-3, rtol=0)


def test_a_scene_that_was_seen_from_the_origin_is_seen_from_there():
    scene = cloud((0.2, 0.1, 4.0), 1.5)
    home = home_view(scene)
    assert torch.equal(home.camera_to_world, torch.eye(4))
    assert home.depth == scene.means[:, 2].median().item()


def test_a_far_scene_ahead_of_the_origin_is_gone_to():
    home = home_view(cloud((0.0, 0.0, 100.0), 1.0))
    assert home.camera_to_world[2, 3] > 90
    assert home.depth < 5


@pytest.mark.parametrize("up", AXES)
def test_the_axis_asked_for_points_up(up):
    turn = torch.eye(4)
    turn[:3, :3] = quaternions_to_matrices(torch.tensor([0.5, 0.5, 0.5, 0.5]))
    before = HomeView(turn, 3.0)
    home = before.upright(up)
    rotation = home.camera_to_world[:3, :3]
    torch.testing.assert_close(-rotation[:, 1], axis_vector(up))
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3))
    assert torch.linalg.det(rotation) == pytest.approx(1)
    torch.testing.assert_close(home.target, before.target)
    assert (home.camera_to_world[:3, 3] - home.target).norm() == pytest.approx(3)


def test_the_usual_axis_is_that_of_photos():
    home = home_view(cloud((3.0, 5.0, 2.0), 1.0))
    torch.testing.assert_close(home.upright(UP).camera_to_world, home.camera_to_world)


def test_the_camera_sees_the_same_height_in_any_proportions():
    home = HomeView(torch.eye(4), 5.0)
    top = torch.tensor([[0.0, -5 * math.tan(FOV_Y / 2), 5.0]])
    for aspect in (0.5, 1.0, 1.8):
        camera = home.camera(aspect)
        torch.testing.assert_close(camera.project(top)[0], torch.tensor([0.5, 0.0, 5.0]))
        assert camera.intrinsics[1, 1] / camera.intrinsics[0, 0] == pytest.approx(aspect)
        assert 0 < camera.near < 5 < camera.far


def test_a_scene_of_one_gaussian_has_a_view_and_an_empty_one_has_none():
    scene = cloud((1.0, 2.0, 3.0), 1.0)
    assert home_view(scene[:1]).camera_to_world.isfinite().all()
    with pytest.raises(ValueError, match="no Gaussians"):
        home_view(scene[:0])
