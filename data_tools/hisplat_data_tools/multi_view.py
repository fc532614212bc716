"""The cameras of three or more photos of one place, in one frame and one scale.

Two of the photos are solved as a pair. Each further one is placed by its matches with points that
the photos before it have shown (perspective-n-point, RANSAC), and all cameras and points are
adjusted together at the end (bundle adjustment: Hartley & Zisserman, Multiple View Geometry, 18).
The world is the first photo's camera; the median depth of its points is ``MEDIAN_DEPTH``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from scipy.optimize import least_squares
from scipy.sparse import coo_matrix, lil_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from hisplat_models.cameras import Cameras

from .depth_range import FEW_POINTS, depth_range
from .epipolar import INLIER_PX
from .keypoints import Keypoints, match_keypoints
from .two_view import (
    FEWEST_INLIERS,
    MEDIAN_DEPTH,
    PairFit,
    TwoViewError,
    fit_pair,
    zoomed_intrinsics,
)

FEWEST_SEEN_POINTS = 12
"""Known points that a photo must show to be placed."""

REPROJECTION_PX = 3.0
MOST_POINTS = 1500
"""Points of the final adjustment; those that most photos show come first."""

GOOD_ANGLE_DEG = 5.0
"""Parallax of a first pair beyond which more is no better."""

FOCAL_UNCERTAINTY_KEPT = 0.05
"""Focal lengths more certain than this are not adjusted."""

_Pose = tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]


@dataclass(frozen=True)
class MultiViewEstimate:
    """Where several photos were taken.

    Attributes:
        cameras: Shape (photo,), in the frame of the first one, each with its range of depths.
        points: How many points the cameras were fitted to.
        seen: How many of them each photo shows.
        median_error_px: Median distance of a point from where a photo shows it, pixels of the
            photos as they were matched.
        warnings: What makes the estimate doubtful.
    """

    cameras: Cameras
    points: int
    seen: tuple[int, ...]
    median_error_px: float
    warnings: tuple[str, ...]


def estimate_multi_view(
    photos: Sequence[UInt8[np.ndarray, "_height _width 3"]],
    intrinsics: Sequence[Float[Tensor, "3 3"]],
    names: Sequence[str],
    focal_uncertainty: float = 0.0,
) -> MultiViewEstimate:
    """The cameras of three or more RGB photos with known, or roughly known, intrinsics.

    Args:
        photos: 8-bit RGB; the first one's camera is the world.
        intrinsics: Normalised 3x3 matrices: first row divided by the width, second by the height.
        names: Of the photos, for messages.
        focal_uncertainty: Relative standard deviation of the focal lengths; where it is large, all
            are corrected by one factor.

    Raises:
        ValueError: for fewer than three photos.
        TwoViewError: if the photos show no common place; names a photo that cannot be placed.
    """
    if len(photos) < 3:
        raise ValueError(f"Expected three photos or more, got {len(photos)}.")
    keypoints = [Keypoints.of(photo) for photo in photos]
    matches = {
        (i, j): match_keypoints(keypoints[i], keypoints[j])
        for i, j in combinations(range(len(photos)), 2)
    }
    fits = _pair_fits(keypoints, matches, intrinsics, focal_uncertainty)
    if not fits:
        raise TwoViewError(
            "No two of the photos show the same place from different positions. Take all photos "
            "of one scene, sharp and well lit, each a step to the side of another."
        )
    first, start = max(fits.items(), key=lambda item: _worth(item[1]))
    zoom = start.zoom
    kept = {pair: matches[pair][fit.inliers] for pair, fit in fits.items()}
    tracks = _Tracks.of(keypoints, kept, [zoomed_intrinsics(k, zoom) for k in intrinsics])
    poses = _placed(tracks, first, start, names)
    adjusted = focal_uncertainty if focal_uncertainty > FOCAL_UNCERTAINTY_KEPT else 0.0
    poses, points, zoom_step = _adjusted(tracks, poses, adjusted)
    return _estimate(tracks, poses, points, intrinsics, zoom, zoom_step, names)


def _pair_fits(
    keypoints: Sequence[Keypoints],
    matches: Mapping[tuple[int, int], Int64[np.ndarray, "n 2"]],
    intrinsics: Sequence[Float[Tensor, "3 3"]],
    focal_uncertainty: float,
) -> dict[tuple[int, int], PairFit]:
    """Pairs whose matches fit cameras; their matches that don't fit are of no use to anyone."""
    fits = {}
    for (i, j), pairs in matches.items():
        try:
            fits[i, j] = fit_pair(
                keypoints[i].only(pairs[:, 0]),
                keypoints[j].only(pairs[:, 1]),
                intrinsics[i],
                intrinsics[j],
                focal_uncertainty,
            )
        except TwoViewError:
            continue
    return fits


def _worth(fit: PairFit) -> float:
    """How well a pair starts a reconstruction: many matches, seen under enough of an angle."""
    return float(fit.inliers.sum()) * min(fit.median_angle_deg / GOOD_ANGLE_DEG, 1.0)


@dataclass(frozen=True)
class _Tracks:
    """Points that two or more photos show.

    Attributes:
        rays: Where each photo shows each point, on its plane z = 1; NaN where it does not.
        focal_px: Of each photo as it was matched.
    """

    rays: Float[np.ndarray, "photo point 2"]
    focal_px: Float[np.ndarray, "photo"]

    @property
    def seen(self) -> Bool[np.ndarray, "photo point"]:
        return np.isfinite(self.rays[..., 0])

    def zoomed(self, zoom: float) -> "_Tracks":
        """The rays if all focal lengths were this much longer."""
        return _Tracks(self.rays / zoom, self.focal_px * zoom)

    def only(self, points: Int64[np.ndarray, "n"]) -> "_Tracks":
        return _Tracks(self.rays[:, points], self.focal_px)

    @staticmethod
    def of(
        keypoints: Sequence[Keypoints],
        matches: Mapping[tuple[int, int], Int64[np.ndarray, "n 2"]],
        intrinsics: Sequence[Float[Tensor, "3 3"]],
    ) -> "_Tracks":
        """Chains of matches; those that would show one photo the same point twice are dropped."""
        first_of = np.concatenate([[0], np.cumsum([len(k.positions) for k in keypoints])])
        links = np.concatenate(
            [pairs + first_of[[i, j]] for (i, j), pairs in matches.items()], dtype=np.int64
        )
        count = int(first_of[-1])
        graph = coo_matrix((np.ones(len(links)), links.T), shape=(count, count))
        point_of = connected_components(graph, directed=False)[1]
        photo_of = np.repeat(np.arange(len(keypoints)), [len(k.positions) for k in keypoints])
        lengths = np.bincount(point_of)
        counts = np.zeros((len(keypoints), len(lengths)), dtype=np.int64)
        np.add.at(counts, (photo_of, point_of), 1)
        good = (lengths >= 2) & (counts.max(axis=0) == 1)
        column = np.where(good, np.cumsum(good) - 1, -1)[point_of]

        rays = np.full((len(keypoints), int(good.sum()), 2), np.nan)
        positions = np.concatenate([k.on_plane(m) for k, m in zip(keypoints, intrinsics)])  # noqa: B905
        chosen = column >= 0
        rays[photo_of[chosen], column[chosen]] = positions[chosen]
        focal_px = [float(m[0, 0]) * k.width for k, m in zip(keypoints, intrinsics)]  # noqa: B905
        return _Tracks(rays, np.array(focal_px))


def _placed(
    tracks: _Tracks, first: tuple[int, int], start: PairFit, names: Sequence[str]
) -> list[_Pose]:
    """World-to-camera poses of all photos, the frame of the first pair's first photo."""
    poses: dict[int, _Pose] = {
        first[0]: (np.eye(3), np.zeros(3)),
        first[1]: (start.rotation, start.direction),
    }
    photos = range(len(names))
    while len(poses) < len(names):
        points = _triangulated(tracks, poses)
        known = np.isfinite(points[:, 0])
        left = [i for i in photos if i not in poses]
        shown = {i: int((tracks.seen[i] & known).sum()) for i in left}
        best = max(left, key=lambda i: shown[i])
        pose = _resected(tracks, best, points, known)
        if pose is None:
            raise TwoViewError(
                f"{names[best]} shows too little of what the other photos show "
                f"({shown[best]} common points that fit no camera position or are too few). Leave "
                "it out, or add a photo from between it and the others."
            )
        poses[best] = pose
    return [poses[i] for i in photos]


def _resected(
    tracks: _Tracks,
    photo: int,
    points: Float[np.ndarray, "point 3"],
    known: Bool[np.ndarray, "point"],
) -> _Pose | None:
    """The pose from which a photo shows known points; None if there is none."""
    chosen = tracks.seen[photo] & known
    if chosen.sum() < FEWEST_SEEN_POINTS:
        return None
    cv2.setRNGSeed(0)
    found, turn, shift, inliers = cv2.solvePnPRansac(
        points[chosen],
        tracks.rays[photo, chosen],
        np.eye(3),
        np.zeros(4),
        iterationsCount=1000,
        reprojectionError=REPROJECTION_PX / tracks.focal_px[photo],
        confidence=0.9999,
        flags=cv2.SOLVEPNP_SQPNP,
    )
    if not found or inliers is None or len(inliers) < FEWEST_SEEN_POINTS:
        return None
    good = np.asarray(inliers, dtype=np.int64).reshape(-1)
    turn, shift = cv2.solvePnPRefineLM(
        points[chosen][good], tracks.rays[photo, chosen][good], np.eye(3), np.zeros(4), turn, shift
    )
    return cv2.Rodrigues(turn)[0], shift[:, 0]


def _triangulated(tracks: _Tracks, placed: Mapping[int, _Pose]) -> Float[np.ndarray, "point 3"]:
    """Each point from the pair of placed photos that sees it best; NaN where none shows it well."""
    points = np.full((tracks.rays.shape[1], 3), np.nan)
    least_error = np.full(len(points), np.inf)
    for i, j in combinations(sorted(placed), 2):
        both = np.flatnonzero(tracks.seen[i] & tracks.seen[j])
        if not len(both):
            continue
        found = _met(tracks.rays[i, both], tracks.rays[j, both], placed[i], placed[j])
        errors = np.stack([_errors_px(tracks.only(both), k, placed[k], found) for k in (i, j)])
        # Under a small angle any depth fits; so the error is weighed by the angle.
        weighed = (errors.max(axis=0) + 0.2) / _angles(found, placed[i], placed[j])
        better = (errors.max(axis=0) < REPROJECTION_PX) & (weighed < least_error[both])
        points[both[better]] = found[better]
        least_error[both[better]] = weighed[better]
    return points


def _met(
    a: Float[np.ndarray, "n 2"], b: Float[np.ndarray, "n 2"], pose_a: _Pose, pose_b: _Pose
) -> Float[np.ndarray, "n 3"]:
    """Where the rays of two photos meet; not finite where they are parallel."""
    projections = [np.column_stack(pose) for pose in (pose_a, pose_b)]
    points = cv2.triangulatePoints(projections[0], projections[1], a.T, b.T)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(points[:3] / points[3], dtype=np.float64).T


def _errors_px(
    tracks: _Tracks,
    photo: int,
    pose: _Pose,
    points: Float[np.ndarray, "n 3"],
) -> Float[np.ndarray, "n"]:
    """How far points are from where a photo shows them; infinite behind it."""
    seen = points @ pose[0].T + pose[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        away = np.linalg.norm(seen[:, :2] / seen[:, 2:] - tracks.rays[photo], axis=1)
    fine = np.isfinite(away) & (seen[:, 2] > 0)
    return np.where(fine, away * tracks.focal_px[photo], np.inf)


def _angles(points: Float[np.ndarray, "n 3"], a: _Pose, b: _Pose) -> Float[np.ndarray, "n"]:
    """Angles, radians, between the rays to points; at least a tenth of a degree."""
    rays = [points + rotation.T @ shift for rotation, shift in (a, b)]
    with np.errstate(divide="ignore", invalid="ignore"):
        units = [r / np.linalg.norm(r, axis=1, keepdims=True) for r in rays]
    chord = np.nan_to_num(np.linalg.norm(units[0] - units[1], axis=1))
    return np.maximum(chord, np.deg2rad(0.1))


def _adjusted(
    tracks: _Tracks, poses: list[_Pose], focal_uncertainty: float
) -> tuple[list[_Pose], Float[np.ndarray, "point 3"], float]:
    """Poses, points and a common zoom that fit what the photos show best."""
    points = _triangulated(tracks, dict(enumerate(poses)))
    zoom = 1.0
    for threshold_px in (REPROJECTION_PX, INLIER_PX):
        seen = tracks.seen & np.isfinite(points[:, 0])
        for photo, pose in enumerate(poses):
            seen[photo] &= _errors_px(tracks.zoomed(zoom), photo, pose, points) < threshold_px
        chosen = np.argsort(-seen.sum(axis=0), kind="stable")[:MOST_POINTS]
        chosen = chosen[seen[:, chosen].sum(axis=0) >= 2]
        problem = _Adjustment(tracks, chosen, seen[:, chosen], focal_uncertainty)
        poses, points[chosen], zoom = problem.solved(poses, points[chosen], zoom)
    # Points that were left out follow the cameras.
    others = np.setdiff1d(np.arange(len(points)), chosen)
    points[others] = _triangulated(tracks.zoomed(zoom), dict(enumerate(poses)))[others]
    return poses, points, zoom


@dataclass(frozen=True)
class _Adjustment:
    """Least squares over all poses but the first, a zoom, and points."""

    tracks: _Tracks
    chosen: Int64[np.ndarray, "chosen"]
    seen: Bool[np.ndarray, "photo chosen"]
    focal_uncertainty: float

    def solved(
        self, poses: list[_Pose], points: Float[np.ndarray, "chosen 3"], zoom: float
    ) -> tuple[list[_Pose], Float[np.ndarray, "chosen 3"], float]:
        photos = len(poses)
        start = np.zeros(6 * photos + 1 + points.size)
        start[6 * photos] = np.log(zoom)
        start[6 * photos + 1 :] = points.ravel()
        solution = least_squares(
            lambda x: self._residuals(x, poses),
            start,
            jac_sparsity=self._sparsity(photos),
            loss="soft_l1",
            x_scale="jac",
            max_nfev=15,
        ).x
        return (
            self._poses(solution, poses),
            solution[6 * photos + 1 :].reshape(-1, 3),
            float(np.exp(solution[6 * photos])) if self.focal_uncertainty else 1.0,
        )

    def _poses(self, x: np.ndarray, poses: list[_Pose]) -> list[_Pose]:
        """The first photo stays where it is; the scale is held by a residual."""
        moved = [poses[0]]
        for i, (rotation, shift) in enumerate(poses[1:], start=1):
            turn = cv2.Rodrigues(x[6 * i : 6 * i + 3])[0]
            moved.append((turn @ rotation, shift + x[6 * i + 3 : 6 * i + 6]))
        return moved

    def _residuals(self, x: np.ndarray, poses: list[_Pose]) -> np.ndarray:
        log_zoom = x[6 * len(poses)] if self.focal_uncertainty else 0.0
        points = x[6 * len(poses) + 1 :].reshape(-1, 3)
        found = []
        for photo, (rotation, shift) in enumerate(self._poses(x, poses)):
            shown = self.seen[photo]
            inside = points[shown] @ rotation.T + shift
            ahead = np.maximum(inside[:, 2:], 1e-6)
            off = inside[:, :2] / ahead * np.exp(log_zoom)
            off -= self.tracks.rays[photo, self.chosen[shown]]
            found.append((off * self.tracks.focal_px[photo]).ravel())
        held = [self._scale(x, poses), x[6 * len(poses)] / (self.focal_uncertainty or 1.0)]
        return np.concatenate([*found, held, x[:6]])

    def _scale(self, x: np.ndarray, poses: list[_Pose]) -> float:
        """What nothing else decides: all baselines together keep their length."""
        moved = self._poses(x, poses)
        now = sum(float(np.linalg.norm(_centre(p) - _centre(moved[0]))) for p in moved)
        before = sum(float(np.linalg.norm(_centre(p) - _centre(poses[0]))) for p in poses)
        return 100 * (now / before - 1)

    def _sparsity(self, photos: int) -> lil_matrix:
        rows = 2 * int(self.seen.sum()) + 2 + 6
        sparsity = lil_matrix((rows, 6 * photos + 1 + 3 * len(self.chosen)), dtype=np.int8)
        row = 0
        for photo in range(photos):
            for point in np.flatnonzero(self.seen[photo]):
                for _ in range(2):
                    sparsity[row, 6 * photo : 6 * photo + 6] = 1
                    sparsity[row, 6 * photos] = 1
                    sparsity[row, 6 * photos + 1 + 3 * point : 6 * photos + 4 + 3 * point] = 1
                    row += 1
        sparsity[row, : 6 * photos] = 1
        sparsity[row + 1, 6 * photos] = 1
        for i in range(6):
            sparsity[row + 2 + i, i] = 1
        return sparsity


def _centre(pose: _Pose) -> Float[np.ndarray, "3"]:
    return -pose[0].T @ pose[1]


def _estimate(
    tracks: _Tracks,
    poses: list[_Pose],
    points: Float[np.ndarray, "point 3"],
    intrinsics: Sequence[Float[Tensor, "3 3"]],
    zoom: float,
    zoom_step: float,
    names: Sequence[str],
) -> MultiViewEstimate:
    zoomed = tracks.zoomed(zoom_step)
    errors = np.stack([_errors_px(zoomed, i, pose, points) for i, pose in enumerate(poses)])
    shown = tracks.seen & (errors < INLIER_PX)
    shown &= shown.sum(axis=0) >= 2
    seen = tuple(int(row.sum()) for row in shown)
    fewest = int(np.argmin(seen))
    if seen[fewest] < FEWEST_INLIERS:
        raise TwoViewError(
            f"Only {seen[fewest]} points of {names[fewest]} fit the other photos. Leave it out, or "
            "add a photo from between it and the others."
        )
    rotation, shift = poses[0]
    in_first = points @ rotation.T + shift
    scale = MEDIAN_DEPTH / float(np.median(in_first[shown[0], 2]))
    to_world = np.eye(4)
    to_world[:3, :3], to_world[:3, 3] = rotation, shift
    matrices, near, far = [], [], []
    for photo, (turn, move) in enumerate(poses):
        camera = np.eye(4)
        camera[:3, :3], camera[:3, 3] = turn.T, _centre((turn, move))
        camera = to_world @ camera
        camera[:3, 3] *= scale
        matrices.append(camera)
        depths = (points[shown[photo]] @ turn.T + move)[:, 2] * scale
        low, high = depth_range(tracks.rays[photo, shown[photo]], depths[None])
        near.append(low)
        far.append(high)
    cameras = Cameras(
        torch.from_numpy(np.stack(matrices)).float(),
        torch.stack([zoomed_intrinsics(k, zoom * zoom_step) for k in intrinsics]).float(),
        torch.tensor(near).float(),
        torch.tensor(far).float(),
    )
    warnings = tuple(
        f"Only {count} points of {name} match the other photos; its place is rough."
        for name, count in zip(names, seen, strict=True)
        if count < FEW_POINTS
    )
    used = int(shown.any(axis=0).sum())
    return MultiViewEstimate(cameras, used, seen, float(np.median(errors[shown])), warnings)
