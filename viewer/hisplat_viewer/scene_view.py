"""One scene in one browser: splats by level, both cameras, and where the eye stands."""

import numpy as np
import viser

from .frustums import Frustums
from .scene import MEDIAN_DEPTH, DisplayFrame, DisplayPose, Scene, splats_of_levels

BACK = 0.14 * MEDIAN_DEPTH
UP = 0.06 * MEDIAN_DEPTH
"""How far behind and above the photographers the first view is."""


class SceneView:
    """Puts a scene into a browser and the eye behind its cameras.

    Args:
        client: The browser.
        scene: What to show.
    """

    def __init__(self, client: viser.ClientHandle, scene: Scene) -> None:
        frame = DisplayFrame.of(scene)
        levels = splats_of_levels(scene, frame)
        self._client = client
        self._poses = frame.poses(scene.cameras)
        with client.atomic():
            self._splats = {
                level: client.scene.add_gaussian_splats(
                    f"/level_{level}",
                    centers=splats.centers,
                    covariances=splats.covariances,
                    rgbs=splats.rgbs,
                    opacities=splats.opacities,
                )
                for level, splats in levels.items()
            }
            self._frustums = Frustums(client, self._poses, scene.photos, self.look_through)
            self.look_from_behind()

    @property
    def levels(self) -> list[int]:
        """The levels that have anything to show, coarsest first."""
        return list(self._splats)

    def show_level(self, level: int, visible: bool) -> None:
        """Shows or hides the Gaussians of one stage."""
        if level in self._splats:
            self._splats[level].visible = visible

    def show_cameras(self, visible: bool) -> None:
        """Shows or hides both input cameras."""
        self._frustums.show(visible, self._client.camera.position)

    def step_aside(self) -> None:
        """Keeps the cameras' photos out of the eye's way."""
        self._frustums.step_aside(self._client.camera.position)

    def look_through(self, index: int) -> None:
        """Puts the eye where the left (0) or right (1) photo was taken."""
        pose = self._poses[index]
        self._look(pose.position, pose.position + MEDIAN_DEPTH * pose.forward, pose.up, pose)

    def look_from_behind(self) -> None:
        """Puts the eye a little behind and above both cameras, so that they are in the picture."""
        left, right = self._poses
        middle = (left.position + right.position) / 2
        forward = left.forward + right.forward
        forward = forward / np.linalg.norm(forward)
        # A wide baseline needs more distance for both cameras to be in the picture.
        back = BACK + 0.5 * float(np.linalg.norm(right.position - left.position))
        eye = middle - back * forward + UP * left.up
        self._look(eye, middle + MEDIAN_DEPTH * forward, left.up, left)

    def remove(self) -> None:
        """Takes the scene out of the browser."""
        for splats in self._splats.values():
            splats.remove()
        self._frustums.remove()

    def _look(self, eye: np.ndarray, target: np.ndarray, up: np.ndarray, lens: DisplayPose) -> None:
        camera = self._client.camera
        with self._client.atomic():
            camera.position = eye
            camera.look_at = target
            camera.up_direction = up
            camera.fov = lens.fov_y_showing_all(camera.aspect)
        self._frustums.step_aside(eye)
