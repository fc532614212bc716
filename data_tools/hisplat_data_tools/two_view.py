"""The relative pose of two photos.

Keypoints that match tell rotation and direction (``epipolar``); whoever has denser matches refits
the estimate with them. The length of the baseline cannot be seen in two photos: it is set so that
the median depth is ``MEDIAN_DEPTH``. The world is the left camera.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from scipy.optimize import least_squares
from torch import Tensor

from hisplat_models.cameras import Cameras

from .depth_range import FEW_POINTS, depth_range
from .epipolar import (
    PoseFit,
    RayPairs,
    cauchy,
    coarse_fit,
    misfit,
    refined_fit,
    sampson,
    triangulate,
)
from .keypoints import Keypoints, match_keypoints, repeated_share
from .refusal_causes import MIRRORED, likely_cause

MEDIAN_DEPTH = 4.0
"""Median z-depth of the matched points in the estimated world, which fixes its scale."""

FEWEST_INLIERS = 16
MIN_ANGLE_DEG = 0.5
WEAK_ANGLE_DEG = 1.5
MIN_IN_FRONT = 0.75
MIN_INLIER_SHARE = 0.3
FREE_FOCAL, WRONG_FOCAL, CLEARLY_BETTER = 0.5, 1.15, 0.9
"""A focal length is doubted if one that is that free (relative standard deviation), and differs by
more than that factor, leaves less than that share of the misfit."""

NOISE_PX = 0.7
"""Parallax below this, in pixels of the matched size, cannot be told from noise."""

_MATCHES_ADVICE = (
    "Take both photos of the same scene, sharp, well lit, from nearby places, and with nothing "
    "moving."
)
_PARALLAX_ADVICE = "Step sideways between the photos by about a tenth of the distance to the scene."


class TwoViewError(ValueError):
    """The cameras of two photos cannot be found; the message says why and what would help."""


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
    pair = match_rays(a, b, intrinsics_left, intrinsics_right)
    try:
        fit = _solved(pair, focal_uncertainty)
        estimate = _estimate(pair, fit, intrinsics_left, intrinsics_right)
    except TwoViewError as refusal:
        cause = likely_cause(left, right, (a, b), len(pair.left))
        raise TwoViewError(f"{cause} {refusal}" if cause else str(refusal)) from refusal
    fitting_zoom = _fitting_zoom(pair, fit)
    is_doubtful = estimate.inliers < FEW_POINTS or fitting_zoom != 1
    if is_doubtful and likely_cause(left, right, (a, b), len(pair.left)) == MIRRORED:
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
    start = PoseFit(rotation, direction / np.linalg.norm(direction), estimate.zoom)
    given = 1 / estimate.zoom
    fit = refined_fit(dense.zoomed(given), start, focal_uncertainty, cauchy)
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
    inliers = fit.inliers(pair)
    angle = estimate.median_angle_deg
    return PairFit(fit.rotation, fit.direction, fit.zoom, inliers, angle)


def _solved(pair: RayPairs, focal_uncertainty: float) -> PoseFit:
    """The cameras that fit the matches; refuses matches that fit by chance or a mere turn."""
    count = len(pair.left)
    if count < FEWEST_INLIERS:
        raise TwoViewError(f"Only {count} points match between the photos. {_MATCHES_ADVICE}")
    start = coarse_fit(pair)
    if start is None:
        raise TwoViewError(f"No cameras fit the matches of the photos. {_MATCHES_ADVICE}")
    fit = refined_fit(pair, start, focal_uncertainty)
    inliers = fit.inliers(pair)
    _refuse_chance_fit(int(inliers.sum()), count)
    _refuse_rotation(pair.zoomed(fit.zoom).only(inliers), focal_is_free=focal_uncertainty > 0)
    return fit


def match_rays(
    a: Keypoints,
    b: Keypoints,
    intrinsics_left: Float[Tensor, "3 3"],
    intrinsics_right: Float[Tensor, "3 3"],
) -> RayPairs:
    """The points that match, as rays."""
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
    fit: PoseFit,
    intrinsics_left: Float[Tensor, "3 3"],
    intrinsics_right: Float[Tensor, "3 3"],
) -> TwoViewEstimate:
    """What the matches and the cameras fitted to them tell; refuses what cannot be right."""
    rotation, direction = fit.rotation, fit.direction
    sparse = pair.zoomed(fit.zoom)
    fitting = sparse.only(fit.inliers(pair))
    points = triangulate(fitting, rotation, direction)
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
        median_epipolar_px=float(np.median(np.abs(sampson(fitting, rotation, direction))))
        * fitting.focal_px,
        in_front=float(in_front.mean()),
        warnings=_warnings(len(points), angle, direction),
        zoom=fit.zoom,
        sparse=sparse,
    )


def _fitting_zoom(pair: RayPairs, fit: PoseFit) -> float:
    """How many times as long a focal length fits clearly better; 1 if none does."""
    free = refined_fit(pair, fit, FREE_FOCAL)
    ratio = free.zoom / fit.zoom
    is_other = abs(np.log(ratio)) > np.log(WRONG_FOCAL)
    is_better = misfit(pair, free) < CLEARLY_BETTER * misfit(pair, fit)
    return ratio if is_other and is_better else 1.0


def zoomed_intrinsics(intrinsics: Float[Tensor, "3 3"], zoom: float) -> Float[Tensor, "3 3"]:
    """Normalised intrinsics with a focal length ``zoom`` times as long."""
    return intrinsics * intrinsics.new_tensor([[zoom, 1, 1], [1, zoom, 1], [1, 1, 1]])


def _angles_deg(
    points: Float[np.ndarray, "n 3"], centre: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "n"]:
    """Angle at each point between the rays to the left camera and to ``centre``."""
    a = points / np.linalg.norm(points, axis=1, keepdims=True)
    b = points - centre
    b /= np.linalg.norm(b, axis=1, keepdims=True)
    return np.rad2deg(2 * np.arcsin(np.clip(np.linalg.norm(a - b, axis=1) / 2, 0, 1)))


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
    if inliers < FEW_POINTS:
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
