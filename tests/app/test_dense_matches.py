from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import hisplat_app
from hisplat_app.dense_matches import dense_matches
from hisplat_app.photo_cameras import Photos, at_working_size, find_photo_cameras
from hisplat_data_tools.cameras_json import read_cameras
from hisplat_data_tools.images import load_photo
from hisplat_data_tools.two_view import estimate_two_view
from hisplat_models.cameras import Cameras

DEMO = Path(hisplat_app.__file__).parent / "demo"


@pytest.fixture(scope="module")
def photos() -> Photos:
    return load_photo(DEMO / "left.jpg"), load_photo(DEMO / "right.jpg")


@pytest.fixture(scope="module")
def true_cameras(photos: Photos) -> Cameras:
    return find_photo_cameras(photos, DEMO / "cameras.json").cameras


def turned(cameras: Cameras, degrees: float) -> Cameras:
    """The right camera pitched by so much: across the epipolar lines of a sideways pair."""
    poses = cameras.camera_to_world.clone()
    turn = cv2.Rodrigues(np.deg2rad([degrees, 0.0, 0.0]))[0]
    poses[1, :3, :3] = poses[1, :3, :3] @ torch.from_numpy(turn).float()
    return replace(cameras, camera_to_world=poses)


def epipolar_px(photos: Photos, guess: Cameras, truth: Cameras) -> float:
    """Median distance of dense matches, made with a guess, from the true epipolar lines."""
    images, seen = at_working_size(photos, guess, 256, 8)
    matches = dense_matches(images, seen)
    assert len(matches.left) > 1000
    to_left, to_right = truth.world_to_camera.double().numpy()
    across = to_right @ np.linalg.inv(to_left)
    x, y, z = across[:3, 3]
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ across[:3, :3]
    ones = np.ones((len(matches.left), 1))
    lines = np.hstack([matches.left, ones]) @ essential.T
    distances = (lines * np.hstack([matches.right, ones])).sum(1) / np.hypot(*lines.T[:2])
    return float(np.median(np.abs(distances)) * matches.focal_px)


def test_matches_of_true_cameras_lie_on_epipolar_lines(
    photos: Photos, true_cameras: Cameras
) -> None:
    assert epipolar_px(photos, true_cameras, true_cameras) < 0.1


def test_matches_leave_the_epipolar_lines_of_wrong_cameras(
    photos: Photos, true_cameras: Cameras
) -> None:
    # 0.3 degrees are 1.2 px here; matches that kept to the guess would be off by as much.
    assert epipolar_px(photos, turned(true_cameras, 0.3), true_cameras) < 0.3


def test_blank_photos_have_none(true_cameras: Cameras) -> None:
    blank = torch.full((2, 3, 96, 128), 0.5)
    assert len(dense_matches(blank, true_cameras).left) == 0


def test_estimated_cameras_are_finer_than_keypoints_give(
    photos: Photos, true_cameras: Cameras
) -> None:
    def turn_error_deg(right_to_left: np.ndarray) -> float:
        poses = true_cameras.camera_to_world.double().numpy()
        expected = (np.linalg.inv(poses[0]) @ poses[1])[:3, :3]
        difference = right_to_left[:3, :3].T @ expected - np.eye(3)
        return float(np.rad2deg(2 * np.arcsin(np.linalg.norm(difference) / 8**0.5)))

    view = read_cameras(DEMO / "cameras.json").find("left.jpg")
    by_keypoints = estimate_two_view(
        photos[0].pixels, photos[1].pixels, true_cameras.intrinsics[0], true_cameras.intrinsics[1]
    )
    refined = find_photo_cameras(photos, focal_px=view.fx).cameras
    found = refined.camera_to_world[1].double().numpy()
    assert turn_error_deg(found) < 0.7 * turn_error_deg(by_keypoints.right_to_left)
    assert turn_error_deg(found) < 0.2
