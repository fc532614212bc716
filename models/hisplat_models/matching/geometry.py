"""Plane-sweep geometry between the views of one scene.

Inverse depths are handled relative to each view's near plane (``rho`` = near / z-depth, in
[near / far, 1]), so nothing depends on the unit of length or on the world frame.
"""

from dataclasses import dataclass, replace

import numpy as np

from ..cameras import Cameras
from .settings import MatchingSettings


@dataclass(frozen=True)
class Transfer:
    """How pixels of one view at a given rho move to another view.

    ``matrix @ (x, y, 1, rho)`` is (u s, v s, s): the pixel (u, v) in the other view (centres at
    +0.5) and the ratio s of the two z-depths; the point's rho there is ``rho * gain / s``.

    A pixel in a view taken from nearby is a larger difference of depth than one in a view taken
    from afar: left-right errors against this view count ``strictness`` times, at least once.
    """

    other: int
    matrix: np.ndarray  # (3, 4) float32
    gain: float
    strictness: float = 1.0


@dataclass(frozen=True)
class Sweep:
    """The planes of one view, uniform in rho, and where they lead."""

    planes: int
    rho_first: float  # of plane 0, the farthest
    rho_step: float
    step_px: float  # displacement in the other views from plane to plane
    transfers: tuple[Transfer, ...]


def plan_sweeps(
    cameras: Cameras, height: int, width: int, settings: MatchingSettings
) -> list[Sweep]:
    """One sweep per view of a scene (cameras with one leading axis)."""
    cameras = cameras.to("cpu")
    pose = cameras.camera_to_world.double().numpy()
    K = cameras.intrinsics.double().numpy() * np.array([width, height, 1.0])[:, None]
    near, far = cameras.near.double().numpy(), cameras.far.double().numpy()

    sweeps = []
    for i in range(len(near)):
        transfers = []
        for j in range(len(near)):
            if j == i:
                continue
            rotation = pose[j, :3, :3].T @ pose[i, :3, :3]
            translation = pose[j, :3, :3].T @ (pose[i, :3, 3] - pose[j, :3, 3])
            homography = K[j] @ rotation @ np.linalg.inv(K[i])
            parallax = K[j] @ translation / near[i]
            matrix = np.concatenate([homography, parallax[:, None]], axis=1)
            transfers.append(Transfer(j, matrix.astype(np.float32), float(near[j] / near[i])))
        sweeps.append(_with_planes(transfers, float(near[i] / far[i]), height, width, settings))
    return sweeps


def _with_planes(
    transfers: list[Transfer], rho_first: float, height: int, width: int, settings: MatchingSettings
) -> Sweep:
    """Chooses the number of planes from the displacement over the whole range."""
    travels = [_travel_px(t.matrix.astype(float), rho_first, height, width) for t in transfers]
    travel = max(travels)
    resolved = min(travel, settings.plane_spacing_px * settings.max_planes)
    wanted = int(np.ceil(travel / settings.plane_spacing_px)) + 1
    planes = min(max(wanted, settings.min_planes), settings.max_planes)
    return Sweep(
        planes=planes,
        rho_first=rho_first,
        rho_step=(1.0 - rho_first) / (planes - 1),
        step_px=max(travel / (planes - 1), 1e-3),
        transfers=tuple(
            replace(transfer, strictness=max(1.0, resolved / max(own, 1e-3)))
            for transfer, own in zip(transfers, travels, strict=True)
        ),
    )


def _travel_px(matrix: np.ndarray, rho_first: float, height: int, width: int) -> float:
    """Typical displacement (80 % quantile over pixels) between the ends of the range.

    Points that come close to the other camera's plane are left out: their displacement is
    unbounded and they are not seen there.
    """
    x, y = np.meshgrid((np.arange(16) + 0.5) / 16 * width, (np.arange(16) + 0.5) / 16 * height)
    ends = []
    for rho in (rho_first, 1.0):
        points = np.stack([x, y, np.ones_like(x), np.full_like(x, rho)]).reshape(4, -1)
        ends.append(matrix @ points)
    seen = (ends[0][2] > 0.05) & (ends[1][2] > 0.05)
    if not seen.any():
        return 0.0
    first, last = (end[:2, seen] / end[2, seen] for end in ends)
    return float(np.quantile(np.linalg.norm(last - first, axis=0), 0.8))
