from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hisplat_data_tools.cameras_json import read_cameras, to_cameras
from hisplat_data_tools.images import load_photo
from hisplat_data_tools.intrinsics import focal_of_photo, normalized_intrinsics
from hisplat_data_tools.known_cameras import scene_range_from_known_cameras
from hisplat_data_tools.two_view import (
    MEDIAN_DEPTH,
    TwoViewError,
    TwoViewEstimate,
    estimate_two_view,
)

HEIGHT, WIDTH, FOCAL = 300, 400, 380.0
PIXELS = np.array([[FOCAL, 0, WIDTH / 2 - 0.5], [0, FOCAL, HEIGHT / 2 - 0.5], [0, 0, 1]])
INTRINSICS = normalized_intrinsics(FOCAL, WIDTH, HEIGHT)
PLANES = (6.0, 3.0)  # depths of a background and of a narrower foreground


@lru_cache
def texture(seed: int, size: int = 900) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = sum(
        cv2.resize(rng.random((size // s, size // s, 3)), (size, size), interpolation=2) * s**0.5
        for s in (4, 9, 25, 80)
    )
    low, high = np.quantile(noise, [0.01, 0.99])
    return (255 * ((noise - low) / (high - low)).clip(0, 1)).astype(np.uint8)


def rotation(x_deg: float, y_deg: float, z_deg: float = 0.0) -> np.ndarray:
    return cv2.Rodrigues(np.deg2rad([x_deg, y_deg, z_deg]))[0]


def photo(turn: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Two textured planes parallel to the world's xy plane; ``turn`` is camera-to-world."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for seed, (depth, side) in enumerate(zip(PLANES, (12.0, 1.6), strict=True)):
        # Texture pixel to plane point, plane point to pixel.
        to_plane = np.array([[side / 900, 0, -side / 2], [0, side / 900, -side / 2], [0, 0, 1]])
        to_camera = turn.T @ (np.diag([1.0, 1.0, depth]) - np.outer(position, [0, 0, 1]))
        homography = PIXELS @ to_camera @ to_plane
        size = (WIDTH, HEIGHT)
        warped = cv2.warpPerspective(texture(seed), homography, size, flags=cv2.INTER_AREA)
        inside = cv2.warpPerspective(np.ones((900, 900), np.uint8), homography, size)
        image[inside > 0] = warped[inside > 0]
    return image


def angle_deg(a: np.ndarray, b: np.ndarray) -> float:
    chord = np.linalg.norm(a / np.linalg.norm(a) - b / np.linalg.norm(b))
    return float(np.rad2deg(2 * np.arcsin(chord / 2)))


def turn_error_deg(estimate: TwoViewEstimate, expected: np.ndarray) -> float:
    difference = estimate.right_to_left[:3, :3].T @ expected - np.eye(3)
    return float(np.rad2deg(2 * np.arcsin(np.linalg.norm(difference) / 8**0.5)))


STILL = photo(np.eye(3), np.zeros(3))


@pytest.mark.parametrize(
    ("turn", "position"),
    [
        (rotation(0, 0), [0.5, 0, 0]),
        (rotation(1, -6), [0.6, 0.1, 0.05]),
        (rotation(-4, 2, 8), [-0.1, 0.5, -0.1]),
    ],
)
def test_pose_of_rendered_planes_is_found(turn: np.ndarray, position: list[float]) -> None:
    estimate = estimate_two_view(STILL, photo(turn, np.array(position)), INTRINSICS, INTRINSICS)
    assert turn_error_deg(estimate, turn) < 0.3
    assert angle_deg(estimate.right_to_left[:3, 3], np.array(position)) < 3
    assert estimate.median_epipolar_px < 0.5
    assert estimate.in_front > 0.95
    depths = np.sort(estimate.points[:, 2])
    near_plane, far_plane = np.quantile(depths, [0.02, 0.9])
    assert far_plane / near_plane == pytest.approx(PLANES[0] / PLANES[1], rel=0.1)
    assert estimate.near < near_plane < far_plane < estimate.far


def test_world_is_the_left_camera_with_the_stated_median_depth() -> None:
    right = photo(rotation(0, -5), np.array([0.6, 0, 0]))
    estimate = estimate_two_view(STILL, right, INTRINSICS, INTRINSICS)
    cameras = estimate.cameras
    assert np.median(estimate.points[:, 2]) == pytest.approx(MEDIAN_DEPTH)
    assert torch.equal(cameras.camera_to_world[0], torch.eye(4))
    points = torch.from_numpy(estimate.points).float().expand(2, -1, -1)
    seen = cameras.project(points)
    assert ((seen[..., 2] > cameras.near[:, None]) & (seen[..., 2] < cameras.far[:, None])).all()
    assert ((seen[..., :2] > 0) & (seen[..., :2] < 1)).all()


def test_swapped_photos_give_the_inverse_pose() -> None:
    right = photo(rotation(1, -5), np.array([0.6, 0.1, 0]))
    forth = estimate_two_view(STILL, right, INTRINSICS, INTRINSICS).right_to_left
    back = estimate_two_view(right, STILL, INTRINSICS, INTRINSICS).right_to_left
    both = forth[:3, :3] @ back[:3, :3]
    assert np.allclose(both, np.eye(3), atol=0.01)
    assert angle_deg(-(forth[:3, :3].T @ forth[:3, 3]), back[:3, 3]) < 2


def test_photos_of_different_sizes_give_the_same_pose() -> None:
    turn, position = rotation(0, -5), np.array([0.6, 0, 0])
    right = cv2.resize(photo(turn, position), (300, 225), interpolation=cv2.INTER_AREA)
    estimate = estimate_two_view(STILL, right, INTRINSICS, INTRINSICS)
    assert turn_error_deg(estimate, turn) < 0.5
    assert angle_deg(estimate.right_to_left[:3, 3], position) < 4


def test_uncertain_focal_is_corrected_and_a_given_one_is_kept() -> None:
    turn, position = rotation(2, -12), np.array([1.2, 0.2, 0.1])
    right = photo(turn, position)
    wrong = normalized_intrinsics(1.25 * FOCAL, WIDTH, HEIGHT)
    kept = estimate_two_view(STILL, right, wrong, wrong)
    corrected = estimate_two_view(STILL, right, wrong, wrong, focal_uncertainty=0.2)
    assert torch.equal(kept.intrinsics_left, wrong)
    found_px = float(corrected.intrinsics_left[0, 0]) * WIDTH
    assert abs(found_px - FOCAL) < 0.4 * abs(1.25 * FOCAL - FOCAL)
    assert turn_error_deg(corrected, turn) < turn_error_deg(kept, turn)


@pytest.mark.parametrize("focal_uncertainty", [0.0, 0.15])
def test_identical_photos_are_refused(focal_uncertainty: float) -> None:
    with pytest.raises(TwoViewError, match=r"hardly moved.*sideways"):
        estimate_two_view(STILL, STILL, INTRINSICS, INTRINSICS, focal_uncertainty)


@pytest.mark.parametrize("assumed", [1.0, 1.3])
def test_pure_rotation_is_refused(assumed: float) -> None:
    turned = photo(rotation(3, 8), np.zeros(3))
    intrinsics = normalized_intrinsics(assumed * FOCAL, WIDTH, HEIGHT)
    with pytest.raises(TwoViewError, match="hardly moved"):
        estimate_two_view(STILL, turned, intrinsics, intrinsics, 0.0 if assumed == 1 else 0.15)


def test_unrelated_photos_are_refused() -> None:
    other = cv2.resize(texture(77), (WIDTH, HEIGHT))
    with pytest.raises(TwoViewError, match="match"):
        estimate_two_view(STILL, other, INTRINSICS, INTRINSICS)


@pytest.mark.parametrize("value", [0, 255])
def test_blank_photos_are_refused(value: int) -> None:
    blank = np.full((HEIGHT, WIDTH, 3), value, np.uint8)
    with pytest.raises(TwoViewError, match="Only 0 points match"):
        estimate_two_view(blank, blank, INTRINSICS, INTRINSICS)


def test_forward_motion_is_solved_with_a_warning() -> None:
    position = np.array([0.02, 0.0, 0.9])
    estimate = estimate_two_view(STILL, photo(np.eye(3), position), INTRINSICS, INTRINSICS)
    assert angle_deg(estimate.right_to_left[:3, 3], position) < 3
    assert any("forward" in w for w in estimate.warnings)


def test_range_under_known_cameras_spans_the_planes_in_their_units() -> None:
    turn, position = rotation(0, -5), np.array([0.6, 0, 0])
    estimate = estimate_two_view(STILL, photo(turn, position), INTRINSICS, INTRINSICS)
    poses = np.stack([np.eye(4), np.eye(4)])
    poses[1, :3, :3], poses[1, :3, 3] = turn, position
    cameras = estimate.cameras
    known = type(cameras)(
        torch.from_numpy(poses).float(), cameras.intrinsics, cameras.near, cameras.far
    )
    found = scene_range_from_known_cameras(STILL, photo(turn, position), known)
    assert PLANES[1] * 0.6 < found.near < PLANES[1]
    assert PLANES[0] < found.far < PLANES[0] * 1.7
    assert found.warnings == ()
    twice = scene_range_from_known_cameras(STILL, photo(turn, position), known.scaled(2.0))
    assert twice.near == pytest.approx(2 * found.near, rel=1e-3)


def test_range_refuses_cameras_of_other_photos() -> None:
    poses = torch.eye(4).repeat(2, 1, 1)
    right = photo(np.eye(3), np.array([0.5, 0, 0]))
    estimate = estimate_two_view(STILL, right, INTRINSICS, INTRINSICS)
    cameras = type(estimate.cameras)(
        poses, estimate.cameras.intrinsics, estimate.cameras.near, estimate.cameras.far
    )
    with pytest.raises(TwoViewError, match="same place"):
        scene_range_from_known_cameras(STILL, right, cameras)
    poses[1, 1, 3] = 0.5  # above, though the photo was taken from the side
    with pytest.raises(TwoViewError, match="fit the given cameras"):
        scene_range_from_known_cameras(STILL, right, cameras)


@pytest.mark.parametrize("scene", ["fountain_p11", "fox", "lund_door", "temple"])
def test_real_pairs_agree_with_their_stated_cameras(data_dir: Path, scene: str) -> None:
    file = read_cameras(data_dir / scene / "cameras.json")
    pair = file.pairs[0]
    left, right = file.find(pair.left), file.find(pair.right)
    photos = [load_photo(data_dir / scene / v.file).pixels for v in (left, right)]
    assert pair.near is not None
    assert pair.far is not None
    cameras = to_cameras([left, right], pair.near, pair.far)
    estimate = estimate_two_view(photos[0], photos[1], cameras.intrinsics[0], cameras.intrinsics[1])
    relative = np.linalg.inv(left.camera_to_world) @ right.camera_to_world
    assert turn_error_deg(estimate, relative[:3, :3]) < 1.5
    assert angle_deg(estimate.right_to_left[:3, 3], relative[:3, 3]) < 1.5
    found = scene_range_from_known_cameras(photos[0], photos[1], cameras)
    assert pair.near / 1.5 < found.near < 1.5 * pair.near
    assert found.far < 1.5 * pair.far


def test_photos_of_two_real_scenes_are_refused(data_dir: Path) -> None:
    photos = [load_photo(data_dir / s / "000.jpg") for s in ("sceaux", "freiburg")]
    k = [normalized_intrinsics(focal_of_photo(p).focal_px, p.width, p.height) for p in photos]
    with pytest.raises(TwoViewError, match="match"):
        estimate_two_view(photos[0].pixels, photos[1].pixels, k[0], k[1], 0.15)
