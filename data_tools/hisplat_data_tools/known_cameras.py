"""What two photos' matches tell where the cameras are known: points, and a range of depths."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from hisplat_models.cameras import Cameras

from .depth_range import FEW_POINTS, depth_range
from .epipolar import RayPairs, sampson, triangulate
from .keypoints import Keypoints
from .two_view import FEWEST_INLIERS, MIN_INLIER_SHARE, TwoViewError, match_rays

KNOWN_CAMERAS_PX = 2.0
"""Farthest that a match may lie from its epipolar line where the cameras are known: theirs is the
error then."""


@dataclass(frozen=True)
class SceneRange:
    """How deep a scene is, in the units of its cameras.

    Attributes:
        near: z-depth of the nearest surface expected in both views.
        far: z-depth of the farthest one.
        median_depth: Of the matched points, over both views.
        matches: Number of matches that fit the cameras.
        warnings: What makes the range doubtful.
    """

    near: float
    far: float
    median_depth: float
    matches: int
    warnings: tuple[str, ...]


def scene_range_from_known_cameras(
    left: UInt8[np.ndarray, "height width 3"],
    right: UInt8[np.ndarray, "right_height right_width 3"],
    cameras: Cameras,
) -> SceneRange:
    """The range of z-depths of two photos' matches under known cameras of shape (2,).

    The cameras' own near and far are not used.

    Raises:
        TwoViewError: if too few matches fit the cameras, or both stand in the same place.
    """
    matched = match_rays(
        Keypoints.of(left), Keypoints.of(right), cameras.intrinsics[0], cameras.intrinsics[1]
    )
    positions, points, depths = _fitting_points(matched, cameras)
    count = len(points)
    if count < FEWEST_INLIERS // 2:
        raise TwoViewError(
            f"Only {count} of {len(matched.left)} matches fit the given cameras, so the range of "
            "depths is unknown. State near and far in the camera file, and check that its cameras "
            "belong to these photos (file names, axes, pixels)."
        )
    near, far = depth_range(positions, depths)
    warnings = []
    if count < FEW_POINTS:
        warnings.append(
            f"Only {count} matches fit the given cameras; the range of depths is rough."
        )
    if count < MIN_INLIER_SHARE * len(matched.left):
        warnings.append(
            f"Only {count} of {len(matched.left)} matches fit the given cameras; check that they "
            "belong to these photos."
        )
    return SceneRange(near, far, float(np.median(depths)), count, tuple(warnings))


def matched_points(
    left: UInt8[np.ndarray, "height width 3"],
    right: UInt8[np.ndarray, "right_height right_width 3"],
    cameras: Cameras,
) -> Float[np.ndarray, "n 3"]:
    """Points of matches that fit cameras of shape (2,) and lie before both, in their world.

    Raises:
        TwoViewError: if both cameras stand in the same place.
    """
    matched = match_rays(
        Keypoints.of(left), Keypoints.of(right), cameras.intrinsics[0], cameras.intrinsics[1]
    )
    _, points, _ = _fitting_points(matched, cameras)
    pose = cameras.camera_to_world[0].double().cpu().numpy()
    return points @ pose[:3, :3].T + pose[:3, 3]


def _fitting_points(
    matched: RayPairs, cameras: Cameras
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n 3"], Float[np.ndarray, "2 n"]]:
    """Of the matches that fit known cameras: left rays, points in the left frame, both depths."""
    to_left, to_right = cameras.world_to_camera.double().cpu().numpy()
    relative = to_right @ np.linalg.inv(to_left)
    rotation, translation = relative[:3, :3], relative[:3, 3]
    if not np.linalg.norm(translation) > 0:
        raise TwoViewError("Both given cameras stand in the same place, so depth cannot be seen.")
    error_px = np.abs(sampson(matched, rotation, translation)) * matched.focal_px
    pair = matched.only(error_px < KNOWN_CAMERAS_PX)
    points = triangulate(pair, rotation, translation)
    depths = np.stack([points[:, 2], (points @ rotation.T + translation)[:, 2]])
    in_front = np.isfinite(depths).all(axis=0) & (depths > 0).all(axis=0)
    return pair.left[in_front], points[in_front], depths[:, in_front]
