"""The two input cameras, drawn with their photos; each steps aside when looked through."""

from collections.abc import Callable

import numpy as np
import viser
from jaxtyping import Float
from torch import Tensor

from .scene import MEDIAN_DEPTH, DisplayPose

LENGTH = 0.02 * MEDIAN_DEPTH
"""Distance from a frustum's apex to its photo, display units."""
THICKNESS = 0.0008 * MEDIAN_DEPTH
IMAGE_LONG_SIDE = 256
COLORS = ((242, 153, 74), (86, 156, 214))
NAMES = ("left", "right")


class Frustums:
    """Both cameras in one browser.

    Args:
        client: The browser.
        poses: Where the photos were taken, display coordinates, left first.
        photos: RGB in [0, 1].
        on_click: Called with 0 (left) or 1 (right).
    """

    def __init__(
        self,
        client: viser.ClientHandle,
        poses: list[DisplayPose],
        photos: Float[Tensor, "2 3 height width"],
        on_click: Callable[[int], None],
    ) -> None:
        self._poses = poses
        self._wanted = True
        length = min(LENGTH, _largest_length(poses))
        self._hidden_within = 1.2 * length
        step = max(1, max(photos.shape[-2:]) // IMAGE_LONG_SIDE)
        small = photos[..., ::step, ::step].permute(0, 2, 3, 1).numpy()
        self._handles = [
            client.scene.add_camera_frustum(
                f"/cameras/{name}",
                fov=pose.fov_y,
                aspect=float(np.tan(pose.fov_x / 2) / np.tan(pose.fov_y / 2)),
                scale=length,
                thickness=THICKNESS * length / LENGTH,
                color=color,
                image=(image * 255).round().astype(np.uint8),
                wxyz=pose.wxyz,
                position=pose.position,
            )
            for name, color, pose, image in zip(NAMES, COLORS, poses, small, strict=True)
        ]
        for index, handle in enumerate(self._handles):
            handle.on_click(lambda _, index=index: on_click(index))

    def show(self, wanted: bool, eye: Float[np.ndarray, "3"]) -> None:
        """Shows or hides both; a camera whose photo would block the view from ``eye`` hides."""
        self._wanted = wanted
        self.step_aside(eye)

    def step_aside(self, eye: Float[np.ndarray, "3"]) -> None:
        """Hides a camera that ``eye`` has come close to, shows it again when the eye has left."""
        for pose, handle in zip(self._poses, self._handles, strict=True):
            away = float(np.linalg.norm(eye - pose.position)) > self._hidden_within
            visible = self._wanted and away
            if handle.visible != visible:
                handle.visible = visible

    def remove(self) -> None:
        """Takes both out of the page."""
        for handle in self._handles:
            handle.remove()


def _largest_length(poses: list[DisplayPose]) -> float:
    """Frustums no longer than half their distance don't hide each other."""
    baseline = float(np.linalg.norm(poses[0].position - poses[1].position))
    return max(0.5 * baseline, 0.2 * LENGTH)
