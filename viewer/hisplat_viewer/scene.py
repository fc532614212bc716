"""From a reconstructed scene in its world frame to the splats a browser can draw.

The browser stores covariances as float16, sorts 16-bit depths and drops splats much smaller than a
screen pixel. So what is *shown* is moved to the left camera's frame, brought to a fixed size, kept
within a sphere and given the width that a renderer at the photos' resolution would draw. What is
downloaded stays as it is.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import Gaussians, matrix_to_quaternion

MEDIAN_DEPTH = 10.0
"""z-depth of the median Gaussian from the left camera, display units."""
RADIUS = 100.0
"""Display units from the left camera within which everything is drawn."""
SMALLEST_SIGMA = 5e-4
"""Display units; float16 covariances lose anything much smaller."""
FOOTPRINT_PX = 0.6
"""Standard deviation of a photo pixel's footprint, which every Gaussian is widened by."""
LEAST_OPACITY = 0.01
"""The browser draws nothing fainter."""
BUFFER_MULTIPLE = 4
"""The browser's depth sort takes splats in groups of this size."""


@dataclass(frozen=True)
class Scene:
    """What the page shows and saves.

    Attributes:
        gaussians: In the world frame, without leading axes.
        cameras: Of the two photos, shape (2,), left first, same frame.
        photos: RGB in [0, 1] at the resolution the scene was made from.
        summary: A sentence or two about it.
        warnings: What the user should know about its quality.
    """

    gaussians: Gaussians
    cameras: Cameras
    photos: Float[Tensor, "2 3 height width"]
    summary: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class DisplayFrame:
    """The similarity from the world to display coordinates: left camera's axes, own unit.

    Attributes:
        world_to_left: Rigid motion into the left camera's frame (x right, y down, z forward).
        scale: Display units per world unit.
    """

    world_to_left: Float[Tensor, "4 4"]
    scale: float

    @staticmethod
    def of(scene: Scene) -> "DisplayFrame":
        """The frame in which the scene's median depth is ``MEDIAN_DEPTH``.

        Raises:
            ValueError: if no Gaussian lies in front of the left camera.
        """
        world_to_left = scene.cameras.world_to_camera[0]
        depth_z = scene.gaussians.means @ world_to_left[2, :3] + world_to_left[2, 3]
        in_front = depth_z[depth_z > 0]
        if not len(in_front):
            raise ValueError("The scene has nothing in front of the left camera.")
        return DisplayFrame(world_to_left, MEDIAN_DEPTH / in_front.median().item())

    def points(self, world: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """World points in display coordinates."""
        return self.scale * (world @ self.world_to_left[:3, :3].mT + self.world_to_left[:3, 3])

    def world_points(self, display: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """The inverse of ``points``."""
        return (display / self.scale - self.world_to_left[:3, 3]) @ self.world_to_left[:3, :3]

    def gaussians(self, world: Gaussians) -> Gaussians:
        """World Gaussians in display coordinates, as plain colours."""
        plain = Gaussians(
            means=world.means,
            scales=world.scales,
            quaternions_wxyz=world.quaternions_wxyz,
            opacities=world.opacities,
            harmonics=world.harmonics[..., :1, :],
            level=world.level,
        )
        return plain.transformed(self.world_to_left).scaled(self.scale)

    def poses(self, cameras: Cameras) -> "list[DisplayPose]":
        """Where the cameras stand in display coordinates."""
        placed = cameras.transformed(self.world_to_left).scaled(self.scale)
        quaternions = matrix_to_quaternion(placed.camera_to_world[:, :3, :3])
        return [
            DisplayPose(
                position=placed.positions[i].numpy().astype(np.float64),
                wxyz=quaternions[i].numpy().astype(np.float64),
                forward=placed.camera_to_world[i, :3, 2].numpy().astype(np.float64),
                up=-placed.camera_to_world[i, :3, 1].numpy().astype(np.float64),
                fov_y=_field_of_view(placed.intrinsics[i, 1, 1].item()),
                fov_x=_field_of_view(placed.intrinsics[i, 0, 0].item()),
            )
            for i in range(len(placed.near))
        ]


@dataclass(frozen=True)
class DisplayPose:
    """A camera in display coordinates; angles in radians."""

    position: Float[np.ndarray, "3"]
    wxyz: Float[np.ndarray, "4"]
    forward: Float[np.ndarray, "3"]
    up: Float[np.ndarray, "3"]
    fov_y: float
    fov_x: float

    def fov_y_showing_all(self, aspect: float) -> float:
        """Vertical field of view of a window (width / height) in which the whole photo fits."""
        return max(self.fov_y, 2 * float(np.arctan(np.tan(self.fov_x / 2) / aspect)))


@dataclass(frozen=True)
class Splats:
    """The arrays that ``viser`` draws; their length is a multiple of ``BUFFER_MULTIPLE``."""

    centers: Float[np.ndarray, "n 3"]
    covariances: Float[np.ndarray, "n 3 3"]
    rgbs: Float[np.ndarray, "n 3"]
    opacities: Float[np.ndarray, "n 1"]


def splats_of_levels(scene: Scene, frame: DisplayFrame) -> dict[int, Splats]:
    """What to draw of each level that has anything to draw."""
    visible = scene.gaussians[scene.gaussians.opacities >= LEAST_OPACITY]
    shown = drawn_within(frame.gaussians(visible), RADIUS)
    focal_px = scene.cameras.intrinsics_px(*scene.photos.shape[-2:])[0, [0, 1], [0, 1]].mean()
    levels = sorted(shown.level.unique().tolist())
    return {level: splats(shown.only_level(level), focal_px.item()) for level in levels}


def drawn_within(gaussians: Gaussians, radius: float) -> Gaussians:
    """The same picture from the origin with everything beyond ``radius`` pulled in, and shrunk."""
    distance = gaussians.means.norm(dim=-1, keepdim=True)
    factor = (radius / distance.clamp_min(1e-12)).clamp_max(1.0)
    return Gaussians(
        means=gaussians.means * factor,
        scales=(gaussians.scales * factor).clamp(SMALLEST_SIGMA, radius),
        quaternions_wxyz=gaussians.quaternions_wxyz,
        opacities=gaussians.opacities,
        harmonics=gaussians.harmonics,
        level=gaussians.level,
    )


def splats(gaussians: Gaussians, focal_px: float) -> Splats:
    """Arrays for the browser, each Gaussian widened by a photo pixel's footprint.

    Renderers widen splats by about half a pixel of the *screen*. A screen has several pixels for
    one of the photo, so without this there would be gaps between the splats of neighbouring pixels.
    """
    footprint = gaussians.means.norm(dim=-1) * (FOOTPRINT_PX / focal_px)
    eye = torch.eye(3).to(gaussians.means)
    covariances = gaussians.covariances() + footprint.square()[:, None, None] * eye
    padding = -gaussians.count % BUFFER_MULTIPLE
    return Splats(
        centers=_padded(gaussians.means, padding),
        covariances=_padded(covariances, padding),
        rgbs=_padded(gaussians.base_colors.clamp(0, 1), padding),
        opacities=_padded(gaussians.opacities[:, None], padding, invisible=True),
    )


def _padded(values: Tensor, padding: int, invisible: bool = False) -> np.ndarray:
    """Repeats the last row, so that padding changes neither the extent nor, faint, the picture."""
    last = values[-1:].expand(padding, *values.shape[1:])
    return torch.cat([values, last * 0 if invisible else last]).float().cpu().numpy()


def _field_of_view(focal: float) -> float:
    """Full angle (radians) of a side with this focal length in units of the side."""
    return 2 * float(np.arctan(0.5 / focal))
