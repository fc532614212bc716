"""Paths of a camera through a scene: pure functions from a few cameras to one a frame.

All of them end where they begin, so that a video can be repeated, except ``spline``. Lenses are
interpolated like positions, linearly.
"""

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, RotationSpline, Slerp

from hisplat_models.cameras import Cameras

WOBBLE_DEGREES = 3.0
ORBIT_DEGREES = 15.0


def between(ends: Cameras, frames: int) -> Cameras:
    """From the first of two cameras to the second and back, slowly at both ends.

    Args:
        ends: Shape (2,).
        frames: How many cameras to make.

    Raises:
        ValueError: unless there are two ends and at least one frame.
    """
    if ends.batch_shape != (2,):
        raise ValueError(f"Expected two cameras to move between, got {tuple(ends.batch_shape)}.")
    phase = _phases(frames)
    return _interpolated(ends, 0.5 - 0.5 * np.cos(phase), smooth=False)


def middle(ends: Cameras) -> Cameras:
    """The camera, shape (), half way between the first and the last one."""
    if ends.batch_shape == (1,):
        return ends[0]
    outer = Cameras.stack([ends[0], ends[-1]])
    return _interpolated(outer, np.array([0.5]), smooth=False)[0]


def wobble(
    camera: Cameras, focus_depth: float, frames: int, degrees: float = WOBBLE_DEGREES
) -> Cameras:
    """A small ellipse around a camera, shape (), that keeps looking at the same point.

    Args:
        camera: Where the viewer stands.
        focus_depth: z-depth of the point in front of it that stays where it is, world units.
        frames: How many cameras to make.
        degrees: How far to the side the point is seen from; half of it from above and below.

    Raises:
        ValueError: unless the depth is positive and there is at least one frame.
    """
    phase = _phases(frames)
    return turned_about(camera, focus_depth, degrees * np.sin(phase), degrees / 2 * np.cos(phase))


def orbit(
    camera: Cameras, focus_depth: float, frames: int, degrees: float = ORBIT_DEGREES
) -> Cameras:
    """An arc around the point in front of a camera, shape (): to one side, the other, and back.

    Args:
        camera: The middle of the arc; the axis is upright in its picture.
        focus_depth: z-depth of the point, world units.
        frames: How many cameras to make.
        degrees: To each side; 360 goes all the way round at constant speed.

    Raises:
        ValueError: unless the depth is positive and there is at least one frame.
    """
    phase = _phases(frames)
    swing = np.rad2deg(phase) if degrees >= 360 else degrees * np.sin(phase)
    return turned_about(camera, focus_depth, swing, np.zeros(frames))


def spline(keyframes: Cameras, frames: int) -> Cameras:
    """A smooth flight through all keyframes, shape (k,), which are reached at equal intervals.

    Raises:
        ValueError: unless there are two keyframes and one frame or more.
    """
    count = len(keyframes.near)
    if count < 2:
        raise ValueError("Expected at least two keyframes for a flight.")
    _phases(frames)
    return _interpolated(keyframes, np.linspace(0, count - 1, frames), smooth=True)


def turned_about(
    camera: Cameras,
    focus_depth: float,
    sideways_degrees: Float[np.ndarray, "frame"],
    upward_degrees: Float[np.ndarray, "frame"],
) -> Cameras:
    """A camera, shape (), turned about the point ``focus_depth`` in front of it.

    Raises:
        ValueError: unless the depth is positive.
    """
    if not focus_depth > 0:
        raise ValueError(f"Expected a positive depth to look at, got {focus_depth}.")
    pose = camera.camera_to_world.double().cpu().numpy()
    turns = np.deg2rad(np.stack([-upward_degrees, sideways_degrees, 0 * upward_degrees], axis=1))
    rotations = Rotation.from_rotvec(turns).as_matrix()
    focus = np.array([0.0, 0.0, focus_depth])
    poses = np.tile(np.eye(4), (len(turns), 1, 1))
    poses[:, :3, :3] = rotations
    poses[:, :3, 3] = focus - rotations @ focus
    same = np.zeros(len(turns), dtype=np.int64)
    return Cameras(
        torch.from_numpy(pose @ poses).to(camera.camera_to_world),
        camera.intrinsics[None][same],
        camera.near[None][same],
        camera.far[None][same],
    )


def _phases(frames: int) -> Float[np.ndarray, "frame"]:
    """One turn; the frame after the last would be the first again."""
    if frames < 1:
        raise ValueError(f"Expected at least one frame, got {frames}.")
    return 2 * np.pi * np.arange(frames) / frames


def _interpolated(keyframes: Cameras, times: Float[np.ndarray, "frame"], smooth: bool) -> Cameras:
    """Cameras at times between 0 (the first keyframe) and k - 1 (the last one)."""
    poses = keyframes.camera_to_world.double().cpu().numpy()
    knots = np.arange(len(poses))
    rotations = Rotation.from_matrix(poses[:, :3, :3])
    turn = RotationSpline(knots, rotations) if smooth else Slerp(knots, rotations)
    between_poses = np.tile(np.eye(4), (len(times), 1, 1))
    between_poses[:, :3, :3] = turn(times).as_matrix()
    positions = poses[:, :3, 3]
    between_poses[:, :3, 3] = (
        CubicSpline(knots, positions)(times) if smooth else _linear(positions, times)
    )
    return Cameras(
        torch.from_numpy(between_poses).to(keyframes.camera_to_world),
        *(
            torch.from_numpy(_linear(field.double().cpu().numpy(), times)).to(field)
            for field in (keyframes.intrinsics, keyframes.near, keyframes.far)
        ),
    )


def _linear(values: Float[np.ndarray, "k ..."], times: Float[np.ndarray, "frame"]) -> np.ndarray:
    before = np.clip(np.floor(times).astype(np.int64), 0, len(values) - 2)
    part = (times - before).reshape(-1, *([1] * (values.ndim - 1)))
    return values[before] * (1 - part) + values[before + 1] * part
