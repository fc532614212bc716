from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from hisplat_app.camera_paths import between, middle, orbit, spline, wobble
from hisplat_models.cameras import Cameras


def cameras(count: int) -> Cameras:
    """Cameras beside each other that look slightly inward, each with its own lens."""
    poses = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    for i in range(count):
        turn = Rotation.from_rotvec([0.05 * i, -0.2 * i, 0.02 * i]).as_matrix()
        poses[i, :3, :3] = torch.from_numpy(turn)
        poses[i, :3, 3] = torch.tensor([1.0 * i, 0.1 * i * i, -0.2 * i])
    lens = torch.tensor([[1.0, 0, 0.5], [0, 1.5, 0.5], [0, 0, 1]], dtype=torch.float64)
    lenses = lens.repeat(count, 1, 1)
    lenses[:, 0, 0] += 0.1 * torch.arange(count)
    ones = torch.ones(count, dtype=torch.float64)
    return Cameras(poses, lenses, ones, 10 * ones)


PATHS: dict[str, Callable[[int], Cameras]] = {
    "between": lambda n: between(cameras(2), n),
    "wobble": lambda n: wobble(cameras(1)[0], 4.0, n),
    "orbit": lambda n: orbit(cameras(1)[0], 4.0, n),
    "all round": lambda n: orbit(cameras(1)[0], 4.0, n, 360.0),
    "spline": lambda n: spline(cameras(4), n),
}


@pytest.mark.parametrize("path", PATHS)
def test_every_frame_is_a_rigid_camera_near_the_one_before(path: str):
    frames = PATHS[path](240)
    assert frames.batch_shape == (240,)
    rotations = frames.camera_to_world[:, :3, :3]
    torch.testing.assert_close(
        rotations @ rotations.mT, torch.eye(3).double().expand(240, 3, 3), atol=1e-6, rtol=0
    )
    assert (torch.linalg.det(rotations) > 0).all()
    steps = frames.positions.diff(dim=0).norm(dim=1)
    assert steps.max() < 0.2
    assert torch.isfinite(frames.intrinsics).all()


@pytest.mark.parametrize("path", [p for p in PATHS if p != "spline"])
def test_a_repeated_video_does_not_jump(path: str):
    frames = PATHS[path](100)
    step = (frames.camera_to_world[0] - frames.camera_to_world[-1]).norm()
    largest = frames.camera_to_world.diff(dim=0).flatten(1).norm(dim=1).max()
    assert step <= largest * 1.01


def test_between_starts_at_the_left_and_turns_at_the_right():
    ends = cameras(2)
    frames = between(ends, 10)
    for frame, end in ((0, 0), (5, 1)):
        torch.testing.assert_close(frames.camera_to_world[frame], ends.camera_to_world[end])
        torch.testing.assert_close(frames.intrinsics[frame], ends.intrinsics[end])
    torch.testing.assert_close(frames.camera_to_world[3], frames.camera_to_world[7])


def test_the_middle_is_half_way():
    three = cameras(3)
    half = middle(three)
    torch.testing.assert_close(half.positions, three.positions[[0, 2]].mean(dim=0))
    turns = [
        Rotation.from_matrix(
            (half.camera_to_world[:3, :3].T @ three.camera_to_world[i, :3, :3]).numpy()
        ).magnitude()
        for i in (0, 2)
    ]
    assert turns[0] == pytest.approx(turns[1])
    torch.testing.assert_close(middle(three[:1]).camera_to_world, three.camera_to_world[0])


def test_a_flight_passes_through_its_keyframes():
    keyframes = cameras(4)
    frames = spline(keyframes, 31)
    torch.testing.assert_close(frames.camera_to_world[::10], keyframes.camera_to_world)
    torch.testing.assert_close(frames.intrinsics[::10], keyframes.intrinsics)


def test_a_flight_through_two_keyframes_is_straight():
    frames = spline(cameras(2), 11)
    assert frames.positions[:, 0].numpy() == pytest.approx(np.linspace(0, 1, 11))


@pytest.mark.parametrize("path", ["wobble", "orbit", "all round"])
def test_the_point_looked_at_stays_in_the_middle(path: str):
    frames = PATHS[path](16)
    focus = torch.tensor([[0.0, 0, 4]]).double().expand(16, 1, 3)
    x, y, depth = frames.project(focus)[:, 0].unbind(-1)
    for value, wanted in ((x, 0.5), (y, 0.5), (depth, 4.0)):
        torch.testing.assert_close(value, torch.full_like(value, wanted), atol=1e-6, rtol=0)


def test_an_orbit_goes_to_both_sides_and_stays_level():
    positions = orbit(cameras(1)[0], 4.0, 100, 30.0).positions
    assert positions[:, 0].max() == pytest.approx(2.0, rel=0.01)  # 4 sin 30
    assert positions[:, 0].min() == pytest.approx(-2.0, rel=0.01)
    assert positions[:, 1].abs().max() < 1e-9
    assert orbit(cameras(1)[0], 4.0, 100, 360.0).positions[50, 2] == pytest.approx(8.0)


def test_impossible_paths_are_refused():
    with pytest.raises(ValueError, match="two cameras"):
        between(cameras(3), 5)
    with pytest.raises(ValueError, match="two keyframes"):
        spline(cameras(1), 5)
    with pytest.raises(ValueError, match="at least one frame"):
        wobble(cameras(1)[0], 4.0, 0)
    with pytest.raises(ValueError, match="positive depth"):
        orbit(cameras(1)[0], 0.0, 5)
