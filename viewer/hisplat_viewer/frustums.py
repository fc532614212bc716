"""The input cameras, drawn with their photos; each steps aside when looked through."""

from collections.abc import Callable

import numpy as np
import viser
from jaxtyping import Float, UInt8
from torch import Tensor

from .scene import MEDIAN_DEPTH, DisplayPose

LENGTH = 0.02 * MEDIAN_DEPTH
"""Distance from a frustum's apex to its photo, display units."""
THICKNESS = 0.0008 * MEDIAN_DEPTH
IMAGE_LONG_SIDE = 256
COLORS = ((242, 153, 74), (86, 156, 214), (111, 191, 115), (196, 122, 192))


class Frustums:
    """All cameras in one browser.

    Args:
        client: The browser.
        name: Of the node that holds them.
        poses: Where the photos were taken, display coordinates, left first.
        photos: RGB in [0, 1]; None if there are no poses.
        on_click: Called with the number of a photo.
    """

    def __init__(
        self,
        client: viser.ClientHandle,
        name: str,
        poses: list[DisplayPose],
        photos: Float[Tensor, "view 3 height width"] | None,
        on_click: Callable[[int], None],
    ) -> None:
        self._poses = poses
        self._wanted = True
        self._photos = [] if photos is None else [_small(photo) for photo in _pixels(photos)]
        length = min(LENGTH, _largest_length(poses))
        self._hidden_within = 1.2 * length
        self._handles = [
            client.scene.add_camera_frustum(
                f"{name}/{number}",
                fov=pose.fov_y,
                aspect=float(np.tan(pose.fov_x / 2) / np.tan(pose.fov_y / 2)),
                scale=length,
                thickness=THICKNESS * length / LENGTH,
                color=COLORS[number % len(COLORS)],
                image=image,
                wxyz=pose.wxyz,
                position=pose.position,
            )
            for number, (pose, image) in enumerate(zip(poses, self._photos, strict=True))
        ]
        for number, handle in enumerate(self._handles):
            handle.on_click(lambda _, number=number: on_click(number))

    def picture(self, pictures: "list[UInt8[np.ndarray, '_h _w 3']] | None") -> None:
        """Shows other pictures in the cameras; None brings the photos back."""
        shown = self._photos if pictures is None else [_small(p) for p in pictures]
        for handle, image in zip(self._handles, shown, strict=True):
            handle.image = image

    def show(self, wanted: bool, eye: Float[np.ndarray, "3"]) -> None:
        """Shows or hides all; a camera whose photo would block the view from ``eye`` hides."""
        self._wanted = wanted
        self.step_aside(eye)

    def step_aside(self, eye: Float[np.ndarray, "3"]) -> None:
        """Hides a camera that ``eye`` has come close to, shows it again when the eye has left."""
        for pose, handle in zip(self._poses, self._handles, strict=True):
            away = float(np.linalg.norm(eye - pose.position)) > self._hidden_within
            visible = self._wanted and away
            if handle.visible != visible:
                handle.visible = visible


def _pixels(photos: Tensor) -> UInt8[np.ndarray, "view height width 3"]:
    return np.rint(photos.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)


def _small(picture: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "_h _w 3"]:
    step = max(1, max(picture.shape[:2]) // IMAGE_LONG_SIDE)
    return np.ascontiguousarray(picture[::step, ::step])


def _largest_length(poses: list[DisplayPose]) -> float:
    """Frustums no longer than half their distance don't hide each other."""
    if len(poses) < 2:
        return LENGTH
    positions = np.stack([pose.position for pose in poses])
    apart = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    nearest = float(apart[~np.eye(len(poses), dtype=bool)].min())
    return max(0.5 * nearest, 0.2 * LENGTH)
