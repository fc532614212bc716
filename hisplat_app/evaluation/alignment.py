"""Lays a scene with its own frame and scale over the stated one, so that targets can be drawn.

Photos tell their cameras only up to a similarity: a turn, a shift and a scale. Which one is chosen
decides where the stated targets look, so it is part of the measurement. Two choices:

- by the *scene*: the similarity under which the stated cameras of the two photos see the estimated
  scene where the estimated cameras see it. An error of the relative pose is shared by both photos.
- by the *left* camera: it stands and looks as stated, and baselines are equally long. All that is
  wrong with the pose shows in the right camera, and half of it in a target between both.

Neither looks at a target.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation
from torch import Tensor

from hisplat_models.cameras import Cameras

ROBUST_RAY_ERROR = 0.002
"""Distance on the plane z = 1 above which a point counts less: about a pixel of 500 px photos."""

_NEAREST_DEPTH = 1e-6


@dataclass(frozen=True)
class Similarity:
    """A change of frame: x to scale * rotation x + shift."""

    scale: float
    rotation: Float[Tensor, "3 3"]
    shift: Float[Tensor, "3"]

    def of_points(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Points in the new frame."""
        return self.scale * points @ self.rotation.to(points).mT + self.shift.to(points)

    def of_cameras(self, cameras: Cameras) -> Cameras:
        """Cameras in the new frame, their range of depths in its unit."""
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3], pose[:3, 3] = self.rotation, self.shift
        return cameras.scaled(self.scale).transformed(pose)

    def after(self, first: "Similarity") -> "Similarity":
        """Both, ``first`` first."""
        shift = self.of_points(first.shift[None])[0]
        return Similarity(self.scale * first.scale, self.rotation @ first.rotation, shift)

    def inverse(self) -> "Similarity":
        """The way back."""
        rotation = self.rotation.mT
        return Similarity(1 / self.scale, rotation, -rotation @ self.shift / self.scale)


def similarity_by_left(estimated: Cameras, stated: Cameras) -> Similarity:
    """From the frame of two estimated cameras to the stated one, where the left ones coincide.

    The left camera is turned so that its rays lie over the stated ones (with equal intrinsics: to
    its stated pose), and lengths are scaled to the stated baseline.
    """
    turn = _rotation_between_rays(estimated[:1], stated[:1])
    scale = float(baseline(stated).norm() / baseline(estimated).norm())
    ours, theirs = estimated.positions[0].double(), stated.positions[0].double()
    return Similarity(scale, turn, theirs - scale * turn @ ours)


def similarity_by_scene(
    estimated: Cameras, stated: Cameras, points: Float[Tensor, "n 3"]
) -> Similarity:
    """From the frame of two estimated cameras to that in which both stated ones see the scene best.

    The sum of the distances on the planes z = 1 of both cameras (robust: soft L1) is smallest.

    Args:
        estimated: Shape (2,).
        stated: Likewise.
        points: Of the estimated scene in its frame, before both cameras.
    """
    seen = estimated.project(points[None].expand(2, -1, -1))[..., :2]
    on_plane = torch.cat([seen, torch.ones_like(seen[..., :1])], dim=-1).double()
    wanted = (on_plane @ stated.intrinsics.double().inverse().mT)[..., :2].numpy()
    poses = stated.world_to_camera.double().numpy()
    start = similarity_by_left(estimated, stated)
    near_by = start.of_points(points.double()).numpy()
    middle = near_by.mean(axis=0)
    around = near_by - middle
    size = np.linalg.norm(around, axis=1).mean()

    def parts(change: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        turn = Rotation.from_rotvec(change[:3]).as_matrix()
        return turn, middle + change[3:6] * size, float(np.exp(change[6]))

    def residuals(change: np.ndarray) -> np.ndarray:
        turn, centre, scale = parts(change)
        placed = scale * around @ turn.T + centre
        in_cameras = placed @ poses[:, :3, :3].transpose(0, 2, 1) + poses[:, None, :3, 3]
        depth = np.maximum(in_cameras[..., 2:], _NEAREST_DEPTH)
        return (in_cameras[..., :2] / depth - wanted).ravel()

    solution = least_squares(
        residuals, np.zeros(7), loss="soft_l1", f_scale=ROBUST_RAY_ERROR, max_nfev=100
    )
    turn, centre, scale = parts(solution.x)
    shift = torch.from_numpy(centre - scale * turn @ middle)
    return Similarity(scale, torch.from_numpy(turn), shift).after(start)


def baseline(cameras: Cameras) -> Float[Tensor, "3"]:
    """From the left camera to the right one."""
    return cameras.positions[1] - cameras.positions[0]


def _rotation_between_rays(source: Cameras, target: Cameras) -> Float[Tensor, "3 3"]:
    """The rotation that best lays the pixel rays of one camera over those of another."""
    rays = [
        torch.nn.functional.normalize(c.rays(16, 16)[0].double().reshape(-1, 3), dim=-1)
        for c in (source, target)
    ]
    # Orthogonal Procrustes (Kabsch) on unit directions.
    u, _, v = torch.linalg.svd(rays[1].mT @ rays[0])
    sign = torch.ones(3, dtype=torch.float64)
    sign[2] = torch.det(u @ v)
    return u @ torch.diag(sign) @ v
