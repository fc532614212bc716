"""The relative pose of two photos, and how deep their scene is.

Of keypoints that match, MAGSAC++ (Barath et al., CVPR 2020) or another robust method finds the
essential matrix, and rotation and direction are refined over all matches by their Sampson distance
(Hartley & Zisserman, Multiple View Geometry, 11.4.3). Whoever has denser matches refits the
estimate with them. The length of the baseline cannot be seen in two photos: it is set so that the
median depth is ``MEDIAN_DEPTH``. The world is the left camera.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from scipy.optimize import least_squares
from scipy.spatial import KDTree
from torch import Tensor

from hisplat_models.cameras import Cameras

from .keypoints import Keypoints, match_keypoints, repeated_share
from .refusal_causes import MIRRORED, likely_cause

MEDIAN_DEPTH = 4.0
"""Median z-depth of the matched points in the estimated world, which fixes its scale."""

NEAR_MARGIN, FAR_MARGIN = 0.75, 1.5
"""The range goes from this times the 2 % quantile of depth to that times the 98 % quantile."""

FEWEST_INLIERS = 16
FEW_INLIERS = 40
MIN_ANGLE_DEG = 0.5
WEAK_ANGLE_DEG = 1.5
MIN_IN_FRONT = 0.75
MIN_INLIER_SHARE = 0.3
KEYPOINT_NOISE_PX, DENSE_NOISE_PX = 0.3, 0.1
"""How far matches of either kind typically lie from their epipolar lines."""

INLIER_PX = 1.5
"""Farthest that a match may lie from its epipolar line, in pixels of the matched size."""

FREE_FOCAL, WRONG_FOCAL, CLEARLY_BETTER = 0.5, 1.15, 0.9
"""A focal length is doubted if one that is that free (relative standard deviation), and differs by
more than that factor, leaves less than that share of the misfit."""

KNOWN_CAMERAS_PX = 2.0
"""The same where the cameras are known: theirs is the error then."""

NOISE_PX = 0.7
"""Parallax below this, in pixels of the matched size, cannot be told from noise."""

_ROBUST_METHODS = (cv2.USAC_MAGSAC, cv2.USAC_ACCURATE, cv2.RANSAC)

_MATCHES_ADVICE = (
    "Take both photos of the same scene, sharp, well lit, from nearby places, and with nothing "
    "moving."
)
_PARALLAX_ADVICE = "Step sideways between the photos by about a tenth of the distance to the scene."

_Points = Float[np.ndarray, "n 2"]


class TwoViewError(ValueError):
    """The cameras of two photos cannot be found; the message says why and what would help."""


@dataclass(frozen=True)
class RayPairs:
    """Matched points on the planes z = 1 of both cameras.

    Attributes:
        left: x and y in the left camera's frame.
        right: Likewise.
        focal_px: Turns distances on the planes into pixels of the photos as they were matched.
    """

    left: _Points
    right: _Points
    focal_px: float

    def zoomed(self, zoom: float) -> "RayPairs":
        """The rays if both focal lengths were this much longer."""
        return RayPairs(self.left / zoom, self.right / zoom, self.focal_px * zoom)

    def only(self, chosen: Bool[np.ndarray, "n"]) -> "RayPairs":
        """Some of the matches."""
        return RayPairs(self.left[chosen], self.right[chosen], self.focal_px)


@dataclass(frozen=True)
class TwoViewEstimate:
    """Where the right camera stands, seen from the left one.

    Attributes:
        right_to_left: Pose of the right camera in the left camera's frame, OpenCV axes.
        intrinsics_left: Normalised 3x3 matrix it was found with.
        intrinsics_right: Likewise.
        points: Matched points in the left camera's frame.
        near: z-depth of the nearest surface expected in both views.
        far: z-depth of the farthest one.
        matches: Number of mutual matches.
        median_angle_deg: Median angle between the two rays to a point.
        median_epipolar_px: Median distance of the inliers from their epipolar lines, pixels of
            the photos as they were matched (``keypoints.MATCHING_LONG_SIDE`` or smaller).
        in_front: Share of the inliers that lie in front of both cameras.
        warnings: What makes the estimate doubtful.
        zoom: What the given focal lengths were multiplied by.
        sparse: All matches, as rays of the estimate's intrinsics.
        fitting_zoom: How many times as long a focal length would fit the matches clearly better; 1
            if none does.
        repeated_share: See ``keypoints.repeated_share``.
    """

    right_to_left: Float[np.ndarray, "4 4"]
    intrinsics_left: Float[Tensor, "3 3"]
    intrinsics_right: Float[Tensor, "3 3"]
    points: Float[np.ndarray, "n 3"]
    near: float
    far: float
    matches: int
    median_angle_deg: float
    median_epipolar_px: float
    in_front: float
    warnings: tuple[str, ...]
    zoom: float
    sparse: RayPairs
    fitting_zoom: float = 1.0
    repeated_share: float = 0.0

    @property
    def inliers(self) -> int:
        """Number of matches that fit the cameras and lie in front of both."""
        return len(self.points)

    @property
    def cameras(self) -> Cameras:
        """Both cameras, shape (2,), in the frame of the left one."""
        poses = np.stack([np.eye(4), self.right_to_left])
        return Cameras(
            torch.from_numpy(poses).float(),
            torch.stack([self.intrinsics_left, self.intrinsics_right]).float(),
            torch.full((2,), self.near),
            torch.full((2,), self.far),
        )


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


def estimate_two_view(
    left: UInt8[np.ndarray, "height width 3"],
    right: UInt8[np.ndarray, "right_height right_width 3"],
    intrinsics_left: Float[Tensor, "3 3"],
    intrinsics_right: Float[Tensor, "3 3"],
    focal_uncertainty: float = 0.0,
) -> TwoViewEstimate:
    """The cameras of two RGB photos with known, or roughly known, normalised intrinsics.

    Args:
        left: The photo whose camera is the world.
        right: The other photo; its size may differ.
        intrinsics_left: First row divided by the width, second by the height.
        intrinsics_right: Likewise.
        focal_uncertainty: Relative standard deviation of the focal lengths; where it is not 0,
            both are corrected by the factor that fits the matches best, as far as they tell.

    Raises:
        TwoViewError: if the photos have too few matches, no parallax, or fit no cameras that both
            have the scene in front of them.
    """
    a, b = Keypoints.of(left), Keypoints.of(right)
    pair = _paired(a, b, intrinsics_left, intrinsics_right)
    try:
        fit = _solved(pair, focal_uncertainty)
        estimate = _estimate(pair, fit, intrinsics_left, intrinsics_right)
    except TwoViewError as refusal:
        cause = likely_cause(left, right, len(pair.left))
        raise TwoViewError(f"{cause} {refusal}" if cause else str(refusal)) from refusal
    fitting_zoom = _fitting_zoom(pair, fit)
    is_doubtful = estimate.inliers < FEW_INLIERS or fitting_zoom != 1
    if is_doubtful and likely_cause(left, right, len(pair.left)) == MIRRORED:
        raise TwoViewError(MIRRORED)
    return replace(estimate, fitting_zoom=fitting_zoom, repeated_share=repeated_share(a, b))


def refit_two_view(
    estimate: TwoViewEstimate, dense: RayPairs, focal_uncertainty: float = 0.0
) -> TwoViewEstimate:
    """The estimate with rotation, direction and focal length that fit denser matches best.

    Args:
        estimate: Where to start; its own matches still tell scale and range of depths.
        dense: Matches as rays of the estimate's intrinsics.
        focal_uncertainty: As ``estimate_two_view`` was told.

    Raises:
        TwoViewError: if the estimate's own matches no longer fit.
    """
    rotation = estimate.right_to_left[:3, :3].T
    direction = -rotation @ estimate.right_to_left[:3, 3]
    start = _Fit(rotation, direction / np.linalg.norm(direction), estimate.zoom)
    given = 1 / estimate.zoom
    fit = _refined(dense.zoomed(given), start, focal_uncertainty, _cauchy)
    refitted = _estimate(
        estimate.sparse.zoomed(given),
        fit,
        zoomed_intrinsics(estimate.intrinsics_left, given),
        zoomed_intrinsics(estimate.intrinsics_right, given),
    )
    return replace(
        refitted, fitting_zoom=estimate.fitting_zoom, repeated_share=estimate.repeated_share
    )


@dataclass(frozen=True)
class PairFit:
    """What the matches of two photos tell without a scale.

    Attributes:
        rotation: With ``direction``: x_right ~ rotation x_left + direction.
        direction: Unit vector.
        zoom: What the given focal lengths are to be multiplied by.
        inliers: Which matches fit.
        median_angle_deg: Median angle between the two rays to a point.
    """

    rotation: Float[np.ndarray, "3 3"]
    direction: Float[np.ndarray, "3"]
    zoom: float
    inliers: Bool[np.ndarray, "n"]
    median_angle_deg: float


def fit_pair(
    left: Keypoints,
    right: Keypoints,
    intrinsics_left: Float[Tensor, "3 3"],
    intrinsics_right: Float[Tensor, "3 3"],
    focal_uncertainty: float = 0.0,
) -> PairFit:
    """The relative pose of two photos from keypoints that match one to one.

    Raises:
        TwoViewError: as ``estimate_two_view``.
    """
    pair = _rays(left, right, intrinsics_left, intrinsics_right)
    fit = _solved(pair, focal_uncertainty)
    estimate = _estimate(pair, fit, intrinsics_left, intrinsics_right)
    inliers = _inliers(pair, fit)
    angle = estimate.median_angle_deg
    return PairFit(fit.rotation, fit.direction, fit.zoom, inliers, angle)


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
    matched = _matched(left, right, cameras.intrinsics[0], cameras.intrinsics[1])
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
    if count < FEW_INLIERS:
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
    matched = _matched(left, right, cameras.intrinsics[0], cameras.intrinsics[1])
    _, points, _ = _fitting_points(matched, cameras)
    pose = cameras.camera_to_world[0].double().cpu().numpy()
    return points @ pose[:3, :3].T + pose[:3, 3]


def _fitting_points(
    matched: RayPairs, cameras: Cameras
) -> tuple[_Points, Float[np.ndarray, "n 3"], Float[np.ndarray, "2 n"]]:
    """Of the matches that fit known cameras: left rays, points in the left frame, both depths."""
    to_left, to_right = cameras.world_to_camera.double().cpu().numpy()
    relative = to_right @ np.linalg.inv(to_left)
    rotation, translation = relative[:3, :3], relative[:3, 3]
    if not np.linalg.norm(translation) > 0:
        raise TwoViewError("Both given cameras stand in the same place, so depth cannot be seen.")
    error_px = np.abs(_sampson(matched, rotation, translation)) * matched.focal_px
    pair = matched.only(error_px < KNOWN_CAMERAS_PX)
    points = _triangulate(pair, rotation, translation)
    depths = np.stack([points[:, 2], (points @ rotation.T + translation)[:, 2]])
    in_front = np.isfinite(depths).all(axis=0) & (depths > 0).all(axis=0)
    return pair.left[in_front], points[in_front], depths[:, in_front]


@dataclass(frozen=True)
class _Fit:
    """x_right ~ rotation x_left + direction, with focal lengths ``zoom`` times the given ones."""

    rotation: Float[np.ndarray, "3 3"]
    direction: Float[np.ndarray, "3"]
    zoom: float

    def error_px(self, pair: RayPairs) -> Float[np.ndarray, "n"]:
        """Signed distance of matches from the epipolar constraint."""
        zoomed = pair.zoomed(self.zoom)
        return _sampson(zoomed, self.rotation, self.direction) * zoomed.focal_px


def _solved(pair: RayPairs, focal_uncertainty: float) -> _Fit:
    """The cameras that fit the matches; refuses matches that fit by chance or a mere turn."""
    count = len(pair.left)
    if count < FEWEST_INLIERS:
        raise TwoViewError(f"Only {count} points match between the photos. {_MATCHES_ADVICE}")
    fit = _refined(pair, _coarse_fit(pair), focal_uncertainty)
    inliers = _inliers(pair, fit)
    _refuse_chance_fit(int(inliers.sum()), count)
    _refuse_rotation(pair.zoomed(fit.zoom).only(inliers), focal_is_free=focal_uncertainty > 0)
    return fit


def _matched(
    left: UInt8[np.ndarray, "height width 3"],
    right: UInt8[np.ndarray, "right_height right_width 3"],
    intrinsics_left: Float[Tensor, "3 3"],
    intrinsics_right: Float[Tensor, "3 3"],
) -> RayPairs:
    return _paired(Keypoints.of(left), Keypoints.of(right), intrinsics_left, intrinsics_right)


def _paired(
    a: Keypoints,
    b: Keypoints,
    intrinsics_left: Float[Tensor, "3 3"],
    intrinsics_right: Float[Tensor, "3 3"],
) -> RayPairs:
    pairs = match_keypoints(a, b)
    return _rays(a.only(pairs[:, 0]), b.only(pairs[:, 1]), intrinsics_left, intrinsics_right)


def _rays(
    left: Keypoints,
    right: Keypoints,
    intrinsics_left: Float[Tensor, "3 3"],
    intrinsics_right: Float[Tensor, "3 3"],
) -> RayPairs:
    """Points that match one to one, as rays."""
    focal_px = float(intrinsics_left[0, 0]) * left.width
    return RayPairs(left.on_plane(intrinsics_left), right.on_plane(intrinsics_right), focal_px)


def _estimate(
    pair: RayPairs,
    fit: _Fit,
    intrinsics_left: Float[Tensor, "3 3"],
    intrinsics_right: Float[Tensor, "3 3"],
) -> TwoViewEstimate:
    """What the matches and the cameras fitted to them tell; refuses what cannot be right."""
    rotation, direction = fit.rotation, fit.direction
    sparse = pair.zoomed(fit.zoom)
    fitting = sparse.only(_inliers(pair, fit))
    points = _triangulate(fitting, rotation, direction)
    depths = np.stack([points[:, 2], (points @ rotation.T + direction)[:, 2]])
    in_front = np.isfinite(points).all(axis=1) & (depths > 0).all(axis=0)
    if not len(points) or in_front.mean() < MIN_IN_FRONT or in_front.sum() < FEWEST_INLIERS:
        raise TwoViewError(
            f"Only {in_front.sum()} of {len(points)} matched points lie in front of both cameras, "
            f"so no cameras fit the photos. {_MATCHES_ADVICE}"
        )
    points, depths = points[in_front], depths[:, in_front]
    centre = -rotation.T @ direction
    angle = float(np.median(_angles_deg(points, centre)))
    if angle < MIN_ANGLE_DEG:
        raise TwoViewError(_no_parallax(f"the rays to a point differ by {angle:.2f} degrees"))

    scale = MEDIAN_DEPTH / float(np.median(points[:, 2]))
    near, far = depth_range(fitting.left[in_front], depths * scale)
    pose = np.eye(4)
    pose[:3, :3] = rotation.T
    pose[:3, 3] = centre * scale
    return TwoViewEstimate(
        right_to_left=pose,
        intrinsics_left=zoomed_intrinsics(intrinsics_left, fit.zoom),
        intrinsics_right=zoomed_intrinsics(intrinsics_right, fit.zoom),
        points=points * scale,
        near=near,
        far=far,
        matches=len(pair.left),
        median_angle_deg=angle,
        median_epipolar_px=float(np.median(np.abs(_sampson(fitting, rotation, direction))))
        * fitting.focal_px,
        in_front=float(in_front.mean()),
        warnings=_warnings(len(points), angle, direction),
        zoom=fit.zoom,
        sparse=sparse,
    )


def _coarse_fit(pair: RayPairs) -> _Fit:
    """Rotation and direction of a robust essential matrix: the best that several methods find.

    Each of them stops early now and then with a handful of inliers, but not on the same photos.
    """
    fits = [fit for method in _ROBUST_METHODS if (fit := _essential_fit(pair, method)) is not None]
    if not fits:
        raise TwoViewError(f"No cameras fit the matches of the photos. {_MATCHES_ADVICE}")
    return max(fits, key=lambda fit: _inliers(pair, fit).sum())


def _essential_fit(pair: RayPairs, method: int) -> _Fit | None:
    essential, mask = cv2.findEssentialMat(
        pair.left, pair.right, np.eye(3), method, 0.9999, 1.0 / pair.focal_px, 10000
    )
    if essential is None or essential.shape != (3, 3):
        return None
    _, rotation, direction, _ = cv2.recoverPose(
        essential, pair.left, pair.right, np.eye(3), mask=mask.copy()
    )
    return _Fit(rotation, direction[:, 0], 1.0)


def _soft_l1(error_px: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Residuals of keypoints, whose squares grow like the distance beyond the noise."""
    ratio = error_px / KEYPOINT_NOISE_PX
    return np.sign(ratio) * np.sqrt(2 * (np.sqrt(1 + ratio**2) - 1))


def _cauchy(error_px: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Residuals of dense matches: where depth was wrong, whole regions are off the same way.

    Neighbours tell much the same, so none weighs more than a keypoint, however near its line.
    """
    ratio = error_px / DENSE_NOISE_PX
    weight = DENSE_NOISE_PX / KEYPOINT_NOISE_PX
    return weight * np.sign(ratio) * np.sqrt(np.log1p(ratio**2))


def _refined(
    pair: RayPairs,
    start: _Fit,
    focal_uncertainty: float,
    robust: Callable[[Float[np.ndarray, "n"]], Float[np.ndarray, "n"]] = _soft_l1,
) -> _Fit:
    """The most probable rotation, direction and zoom given all matches.

    ``robust`` makes residuals of distances from epipolar lines; the logarithm of the zoom has a
    normal prior. Matches are chosen anew as the fit gets better.
    """
    fit = start
    for threshold_px in (3.0, 2.0, INLIER_PX):
        part = pair.only(np.abs(fit.error_px(pair)) < threshold_px)
        if len(part.left) < 8:
            break
        steps = _PoseSteps(fit.rotation, fit.direction)

        def residuals(change: np.ndarray) -> np.ndarray:
            log_zoom = change[5] if focal_uncertainty else 0.0
            moved = _Fit(*steps.pose(change), float(np.exp(log_zoom)))  # noqa: B023
            errors = robust(moved.error_px(part))  # noqa: B023
            return np.append(errors, log_zoom / focal_uncertainty) if focal_uncertainty else errors

        begin = np.array([0, 0, 0, 0, 0, np.log(fit.zoom)])[: 6 if focal_uncertainty else 5]
        solution = least_squares(residuals, begin, max_nfev=30).x
        zoom = float(np.exp(solution[5])) if focal_uncertainty else 1.0
        fit = _Fit(*steps.pose(solution), zoom)
    return fit


def _fitting_zoom(pair: RayPairs, fit: _Fit) -> float:
    """How many times as long a focal length fits clearly better; 1 if none does."""
    free = _refined(pair, fit, FREE_FOCAL)
    ratio = free.zoom / fit.zoom
    is_other = abs(np.log(ratio)) > np.log(WRONG_FOCAL)
    is_better = _misfit(pair, free) < CLEARLY_BETTER * _misfit(pair, fit)
    return ratio if is_other and is_better else 1.0


def _misfit(pair: RayPairs, fit: _Fit) -> float:
    """Mean robust error, as ``_refined`` minimises it; outliers count the same however far."""
    ratio = np.minimum(np.abs(fit.error_px(pair)), INLIER_PX) / EPIPOLAR_NOISE_PX
    return float(np.mean(np.sqrt(1 + ratio**2) - 1))


def _inliers(pair: RayPairs, fit: _Fit) -> Bool[np.ndarray, "n"]:
    return np.abs(fit.error_px(pair)) < INLIER_PX


@dataclass(frozen=True)
class _PoseSteps:
    """Small changes of a rotation (3 numbers) and of a direction (2 numbers)."""

    rotation: Float[np.ndarray, "3 3"]
    direction: Float[np.ndarray, "3"]

    def pose(self, change: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        tangents = np.linalg.svd(self.direction[None])[2][1:]
        moved = self.direction + change[3:5] @ tangents
        return cv2.Rodrigues(change[:3])[0] @ self.rotation, moved / np.linalg.norm(moved)


def _sampson(
    pair: RayPairs, rotation: Float[np.ndarray, "3 3"], translation: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "n"]:
    """Signed first-order distance of each match from the epipolar constraint, on z = 1."""
    x, y, z = translation
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ rotation
    in_right = pair.left @ essential[:, :2].T + essential[:, 2]
    in_left = pair.right @ essential[:2] + essential[2]
    value = (pair.right * in_right[:, :2]).sum(axis=1) + in_right[:, 2]
    slope = (in_right[:, :2] ** 2).sum(axis=1) + (in_left[:, :2] ** 2).sum(axis=1)
    return value / np.sqrt(np.maximum(slope, 1e-18))


def zoomed_intrinsics(intrinsics: Float[Tensor, "3 3"], zoom: float) -> Float[Tensor, "3 3"]:
    """Normalised intrinsics with a focal length ``zoom`` times as long."""
    return intrinsics * intrinsics.new_tensor([[zoom, 1, 1], [1, zoom, 1], [1, 1, 1]])


def _triangulate(
    pair: RayPairs, rotation: Float[np.ndarray, "3 3"], translation: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "n 3"]:
    """Points in the left camera's frame; not finite where the rays are parallel."""
    if len(pair.left) == 0:
        return np.zeros((0, 3))
    projection = np.column_stack([rotation, translation])
    points = cv2.triangulatePoints(np.eye(3, 4), projection, pair.left.T, pair.right.T)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(points[:3] / points[3], dtype=np.float64).T


def _angles_deg(
    points: Float[np.ndarray, "n 3"], centre: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "n"]:
    """Angle at each point between the rays to the left camera and to ``centre``."""
    a = points / np.linalg.norm(points, axis=1, keepdims=True)
    b = points - centre
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    return np.rad2deg(2 * np.arcsin(np.clip(np.linalg.norm(a - b, axis=1) / 2, 0, 1)))


def depth_range(positions: _Points, depths: Float[np.ndarray, "view n"]) -> tuple[float, float]:
    """Near and far with their margins, wider where few matches show them."""
    widening = 1.5
    if len(positions) >= FEW_INLIERS:
        widening = 1.0
        supported = _supported(positions, depths[0])
        # A scene so ragged that most points stand alone tells nothing about mismatches.
        depths = depths[:, supported] if supported.mean() > 0.5 else depths
    low, high = np.quantile(depths, [0.02, 0.98])
    return float(low * NEAR_MARGIN / widening), float(high * FAR_MARGIN * widening)


def _supported(positions: _Points, depth: Float[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
    """Whether two of the eight nearest points in the photo have a similar inverse depth.

    Mismatches along an epipolar line fit the cameras, but rarely their surroundings.
    """
    neighbours = np.asarray(KDTree(positions).query(positions, k=9)[1])[:, 1:]
    inverse = 1 / depth
    difference = np.abs(inverse[neighbours] - inverse[:, None])
    similar = difference < 0.2 * np.maximum(inverse[neighbours], inverse[:, None])
    return similar.sum(axis=1) >= 2


def _refuse_chance_fit(inliers: int, matches: int) -> None:
    if inliers < FEWEST_INLIERS or inliers < MIN_INLIER_SHARE * matches:
        raise TwoViewError(
            f"Only {inliers} of {matches} matches between the photos agree on where the cameras "
            f"stood. {_MATCHES_ADVICE}"
        )


def _refuse_rotation(pair: RayPairs, focal_is_free: bool) -> None:
    """Raises TwoViewError if turning the camera alone explains the matches.

    A wrong focal length looks like parallax, so an uncertain one is left free here.
    """

    def residuals(change: np.ndarray) -> np.ndarray:
        zoom = np.exp(change[3]) if focal_is_free else 1.0
        rays = np.column_stack([pair.left, np.full(len(pair.left), zoom)])
        turned = rays @ cv2.Rodrigues(change[:3])[0].T
        return ((turned[:, :2] / turned[:, 2:] * zoom - pair.right) * pair.focal_px).ravel()

    solution = least_squares(residuals, np.zeros(4), loss="soft_l1", f_scale=1.0, max_nfev=50)
    distances = np.linalg.norm(solution.fun.reshape(-1, 2), axis=1)
    parallax = float(np.median(distances))
    if parallax < NOISE_PX:
        raise TwoViewError(_no_parallax(f"turning it explains all but {parallax:.1f} px"))


def _no_parallax(evidence: str) -> str:
    return (
        f"The camera hardly moved between the photos ({evidence}), so depth cannot be seen. "
        f"{_PARALLAX_ADVICE}"
    )


def _warnings(inliers: int, angle: float, direction: Float[np.ndarray, "3"]) -> tuple[str, ...]:
    found = []
    if inliers < FEW_INLIERS:
        found.append(f"Only {inliers} points match; the cameras and the range of depths are rough.")
    if angle < WEAK_ANGLE_DEG:
        found.append(
            f"The camera moved little (rays differ by {angle:.1f} degrees): depth is uncertain."
        )
    if abs(direction[2]) > 0.8:
        found.append(
            "The camera moved mostly forward or backward: depth near the image centre is uncertain."
        )
    return tuple(found)
