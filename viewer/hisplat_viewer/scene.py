"""A scene as the page shows it, and the coordinates it is shown in.

The browser stores covariances as float16 and sorts 16-bit depths. So what is *shown* is moved to
the first camera's frame and brought to a fixed size. What is downloaded stays as it is.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import Gaussians, matrix_to_quaternion
from hisplat_models.home_view import home_view
from hisplat_models.rendering.base import Renderer

from .saving import PhotoCameras

MEDIAN_DEPTH = 10.0
"""Display units from the first view to the scene: z-depth of the median Gaussian."""


@dataclass(frozen=True)
class Scene:
    """What the page shows and saves.

    Attributes:
        gaussians: In the world frame, without leading axes.
        cameras: Of the photos, shape (view,), left first, same frame; None for a scene from a file.
        photos: RGB in [0, 1] at the resolution the scene was made from; None as the cameras are.
        summary: A sentence or two about it.
        warnings: What the user should know about its quality.
        statistics: Rows of a table: what, and how much of it.
        confidence: How well the photos agree on the place of each Gaussian, in [0, 1]; None if
            nobody knows.
        renderer: Draws the scene from the photos' cameras to compare it with them; None to do
            without.
        photo_cameras: Of the whole photos, to save them; None if nobody knows.
    """

    gaussians: Gaussians
    cameras: Cameras | None
    photos: Float[Tensor, "view 3 height width"] | None
    summary: str
    warnings: tuple[str, ...] = ()
    statistics: tuple[tuple[str, str], ...] = ()
    confidence: Float[Tensor, "n"] | None = None
    renderer: Renderer | None = None
    photo_cameras: PhotoCameras | None = None

    def __post_init__(self) -> None:
        views = (
            0 if self.cameras is None else len(self.cameras.near),
            0 if self.photos is None else len(self.photos),
        )
        if views[0] != views[1]:
            raise ValueError(f"Expected a camera per photo, got {views[0]} and {views[1]}.")
        if self.confidence is not None and len(self.confidence) != self.gaussians.count:
            raise ValueError(
                f"Expected a confidence per Gaussian, got {len(self.confidence)} of "
                f"{self.gaussians.count}."
            )


@dataclass(frozen=True)
class DisplayFrame:
    """The similarity from the world to display coordinates: the first view's axes, own unit.

    Attributes:
        world_to_view: Rigid motion into the frame of the first camera, or of the first view of a
            scene without cameras (x right, y down, z forward).
        scale: Display units per world unit.
    """

    world_to_view: Float[Tensor, "4 4"]
    scale: float

    @staticmethod
    def of(scene: Scene) -> "DisplayFrame":
        """The frame in which the scene is ``MEDIAN_DEPTH`` away.

        Raises:
            ValueError: if no Gaussian lies in front of the first camera, or there is none at all.
        """
        if scene.cameras is None:
            home = home_view(scene.gaussians)
            world_to_view = torch.linalg.inv(home.camera_to_world)
            return DisplayFrame(world_to_view, MEDIAN_DEPTH / home.depth)
        world_to_view = scene.cameras.world_to_camera[0]
        depth_z = scene.gaussians.means @ world_to_view[2, :3] + world_to_view[2, 3]
        in_front = depth_z[depth_z > 0]
        if not len(in_front):
            raise ValueError("The scene has nothing in front of the left camera.")
        return DisplayFrame(world_to_view, MEDIAN_DEPTH / in_front.median().item())

    def points(self, world: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """World points in display coordinates."""
        return self.scale * (world @ self.world_to_view[:3, :3].mT + self.world_to_view[:3, 3])

    def world_points(self, display: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """Display points in world coordinates."""
        return (display / self.scale - self.world_to_view[:3, 3]) @ self.world_to_view[:3, :3]

    def gaussians(self, world: Gaussians) -> Gaussians:
        """Gaussians in display coordinates, with plain colours."""
        plain = Gaussians(
            means=world.means,
            scales=world.scales,
            quaternions_wxyz=world.quaternions_wxyz,
            opacities=world.opacities,
            harmonics=world.harmonics[..., :1, :],
            level=world.level,
        )
        return plain.transformed(self.world_to_view).scaled(self.scale)

    def poses(self, cameras: Cameras) -> "list[DisplayPose]":
        """Where the cameras stand in display coordinates."""
        placed = cameras.transformed(self.world_to_view).scaled(self.scale)
        quaternions = matrix_to_quaternion(placed.camera_to_world[:, :3, :3])
        return [
            DisplayPose(
                position=placed.positions[i].numpy().astype(np.float64),
                wxyz=quaternions[i].numpy().astype(np.float64),
                forward=placed.camera_to_world[i, :3, 2].numpy().astype(np.float64),
                up=-placed.camera_to_world[i, :3, 1].numpy().astype(np.float64),
                intrinsics=placed.intrinsics[i].numpy().astype(np.float64),
            )
            for i in range(len(placed.near))
        ]


@dataclass(frozen=True)
class DisplayPose:
    """A camera in display coordinates; intrinsics as in ``Cameras``, angles in radians."""

    position: Float[np.ndarray, "3"]
    wxyz: Float[np.ndarray, "4"]
    forward: Float[np.ndarray, "3"]
    up: Float[np.ndarray, "3"]
    intrinsics: Float[np.ndarray, "3 3"]

    @property
    def fov_x(self) -> float:
        """Horizontal field of view."""
        return _field_of_view(self.intrinsics[0, 0])

    @property
    def fov_y(self) -> float:
        """Vertical field of view."""
        return _field_of_view(self.intrinsics[1, 1])

    def fov_y_showing_all(self, aspect: float) -> float:
        """Vertical field of view of a window (width / height) in which the whole photo fits."""
        return max(self.fov_y, 2 * float(np.arctan(np.tan(self.fov_x / 2) / aspect)))


def _field_of_view(focal: float) -> float:
    """Full angle of a side with this focal length in units of the side."""
    return 2 * float(np.arctan(0.5 / focal))
