"""Where the eye of one browser stands."""

import numpy as np
import torch
import viser
from jaxtyping import Float

from hisplat_models.home_view import FOV_Y, Axis, HomeView

from .scene import MEDIAN_DEPTH, DisplayPose

BACK = 0.14 * MEDIAN_DEPTH
UP = 0.06 * MEDIAN_DEPTH
"""How far behind and above the photographers the overview is."""
ARRIVED_WITHIN = 0.002 * MEDIAN_DEPTH


class Eye:
    """Moves the eye of one browser to good places of one scene.

    Args:
        client: The browser.
        poses: Where the photos were taken, left first; empty for a scene without photos.
    """

    def __init__(self, client: viser.ClientHandle, poses: list[DisplayPose]) -> None:
        self._client = client
        self._poses = poses
        self._home = HomeView(torch.eye(4, dtype=torch.float64), MEDIAN_DEPTH)
        self._up = _mean_direction([pose.up for pose in poses]) if poses else _up_of(self._home)

    @property
    def position(self) -> Float[np.ndarray, "3"]:
        """Display coordinates."""
        return self._client.camera.position

    @property
    def fov_degrees(self) -> float:
        """Vertical field of view of the window."""
        return float(np.degrees(self._client.camera.fov))

    def see(self, fov_degrees: float) -> None:
        """Changes the vertical field of view."""
        self._client.camera.fov = float(np.radians(fov_degrees))

    def stand_upright(self, axis: Axis) -> None:
        """Makes another axis point up, and starts anew."""
        self._home = self._home.upright(axis)
        self._up = _up_of(self._home)
        self.first_view()

    def first_view(self) -> None:
        """Where the left photo was taken, or before the whole scene."""
        if not self._poses:
            home = self._home
            self._look(home.camera_to_world[:3, 3].numpy(), home.target.numpy(), FOV_Y)
            return
        self.stand_at(0)

    def overview(self) -> None:
        """Behind and above all cameras, so that they are in the picture."""
        if not self._poses:
            self.first_view()
            return
        positions = np.stack([pose.position for pose in self._poses])
        middle = positions.mean(axis=0)
        forward = _mean_direction([pose.forward for pose in self._poses])
        # A wide baseline needs more distance for all cameras to be in the picture.
        back = BACK + float(np.linalg.norm(positions - middle, axis=1).max())
        target = middle + MEDIAN_DEPTH * forward
        self._look(middle - back * forward + UP * self._up, target, self._fov(self._poses[0]))

    def stand_at(self, index: int) -> None:
        """Where a photo was taken, looking as its camera did."""
        pose = self._poses[index]
        target = pose.position + MEDIAN_DEPTH * pose.forward
        self._look(pose.position, target, self._fov(pose), pose.up)

    def is_at(self, index: int) -> bool:
        """Whether it still is where a photo was taken."""
        away = float(np.linalg.norm(self.position - self._poses[index].position))
        return away < ARRIVED_WITHIN

    def _fov(self, pose: DisplayPose) -> float:
        return pose.fov_y_showing_all(self._client.camera.aspect)

    def _look(
        self,
        position: Float[np.ndarray, "3"],
        target: Float[np.ndarray, "3"],
        fov: float,
        up: Float[np.ndarray, "3"] | None = None,
    ) -> None:
        camera = self._client.camera
        with self._client.atomic():
            camera.position = position
            camera.look_at = target
            camera.up_direction = self._up if up is None else up
            camera.fov = fov


def _up_of(home: HomeView) -> Float[np.ndarray, "3"]:
    return -home.camera_to_world[:3, 1].numpy()


def _mean_direction(directions: "list[Float[np.ndarray, '3']]") -> Float[np.ndarray, "3"]:
    total = np.sum(directions, axis=0)
    length = float(np.linalg.norm(total))
    return total / length if length > 1e-6 else directions[0]
