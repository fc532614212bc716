"""A picture that covers the scene, seen from where a photo was taken."""

from typing import Literal

import numpy as np
import viser
from jaxtyping import Float, UInt8

from .eye import ARRIVED_WITHIN
from .scene import DisplayPose

DISTANCE = 0.05
"""From the eye, display units: nearer than anything one would look at."""

Overlaid = Literal["nothing", "photo", "render", "error"]


class PhotoOverlay:
    """At most one picture in one browser.

    Args:
        client: The browser.
        name: Of the picture's node.
        poses: Where the photos were taken, display coordinates.
    """

    def __init__(self, client: viser.ClientHandle, name: str, poses: list[DisplayPose]) -> None:
        self._client = client
        self._name = name
        self._poses = poses
        self._pose: DisplayPose | None = None
        self._handle: viser.ImageHandle | None = None

    def show(self, photo: int, picture: UInt8[np.ndarray, "height width 3"], share: float) -> None:
        """Covers the left part of a photo's view, ``share`` of its width, with the picture."""
        columns = max(1, round(share * picture.shape[1]))
        pose = self._poses[photo]
        center, width, height = placed(pose, columns / picture.shape[1])
        self._pose = pose
        self._handle = self._client.scene.add_image(
            self._name,
            np.ascontiguousarray(picture[:, :columns]),
            render_width=width,
            render_height=height,
            format="jpeg",
            jpeg_quality=92,
            cast_shadow=False,
            receive_shadow=False,
            wxyz=pose.wxyz,
            position=center,
        )

    def step_aside(self, eye: Float[np.ndarray, "3"]) -> None:
        """Hides the picture from an eye that has left the camera, shows it when it is back."""
        if self._handle is not None and self._pose is not None:
            there = float(np.linalg.norm(eye - self._pose.position)) < ARRIVED_WITHIN
            if self._handle.visible != there:
                self._handle.visible = there

    def remove(self) -> None:
        """Uncovers the scene."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None


def placed(pose: DisplayPose, share: float) -> tuple[Float[np.ndarray, "3"], float, float]:
    """Centre, width and height (display units) of the left ``share`` of a photo before its camera.

    At ``DISTANCE`` from it, where the photo's pixels lie on their own rays.
    """
    inverse = np.linalg.inv(pose.intrinsics)
    left, top, _ = inverse @ (0.0, 0.0, 1.0)
    right, bottom, _ = inverse @ (share, 1.0, 1.0)
    right_axis = np.cross(-pose.up, pose.forward)
    center = pose.position + DISTANCE * (
        pose.forward + (left + right) / 2 * right_axis - (top + bottom) / 2 * pose.up
    )
    return center, DISTANCE * float(right - left), DISTANCE * float(bottom - top)
