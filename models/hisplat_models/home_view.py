"""From where to look at a scene of which nothing but its Gaussians is known."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from .cameras import Cameras
from .gaussians import Gaussians

Axis = Literal["+x", "-x", "+y", "-y", "+z", "-z"]
AXES: tuple[Axis, ...] = get_args(Axis)
UP: Axis = "-y"
"""OpenCV's axes, so those of a scene that was made of photos."""

FOV_Y = math.radians(60.0)
NEAR, FAR = 0.1, 10.0
"""Range of depths of a camera, in units of the scene's own depth."""

EXTENT_SHARE = 0.9
"""A scene is as large as the sphere around its middle that holds this share."""
EXTENT_ANGLE = math.radians(25.0)
"""Half the angle under which a scene appears whose photographers are unknown."""

SEEN_SHARE, SEEN_ANGLE = 0.95, math.radians(60.0)
SEEN_FROM = 4.0
"""A scene was seen from the origin if that share of it lies within that angle of the z axis, and
its middle not farther than so many times its radius."""


@dataclass(frozen=True)
class HomeView:
    """A pose and a distance.

    Attributes:
        camera_to_world: Rigid, OpenCV axes.
        depth: From there straight ahead to the point that is looked at, world units.
    """

    camera_to_world: Float[Tensor, "4 4"]
    depth: float

    @property
    def target(self) -> Float[Tensor, "3"]:
        """The point that is looked at."""
        return self.camera_to_world[:3, 3] + self.depth * self.camera_to_world[:3, 2]

    def upright(self, up: Axis) -> "HomeView":
        """The same point from as far away, along a world axis and with another one up."""
        up_vector = axis_vector(up)
        forward = axis_vector("+y" if up[1] == "z" else "+z")
        pose = torch.eye(4)
        pose[:3, :3] = torch.stack([torch.linalg.cross(forward, up_vector), -up_vector, forward], 1)
        pose = pose.to(self.camera_to_world)
        pose[:3, 3] = self.target - self.depth * pose[:3, 2]
        return HomeView(pose, self.depth)

    def camera(self, aspect: float) -> Cameras:
        """The camera, shape (), for pictures of ``aspect`` = width / height."""
        pose = self.camera_to_world.float()
        near, far = (torch.tensor(share * self.depth) for share in (NEAR, FAR))
        return Cameras(pose, intrinsics_of_view(FOV_Y, aspect), near, far)


def home_view(gaussians: Gaussians) -> HomeView:
    """World axes as they are, y down; looking along z at the scene's middle.

    It is the origin's view if the scene was seen from there, as scenes of photos without given
    cameras are, else one from a place from which all is seen.

    Raises:
        ValueError: if there are no Gaussians.
    """
    if not gaussians.count:
        raise ValueError("The scene has no Gaussians.")
    middle = gaussians.means.median(dim=0).values
    distance = (gaussians.means - middle).norm(dim=-1)
    radius = distance.sort().values[int(EXTENT_SHARE * (gaussians.count - 1))].item()
    radius = max(radius, gaussians.scales.median().item(), 1e-6)
    depth_z = gaussians.means[:, 2]
    seen = gaussians.means[:, :2].norm(dim=-1) < math.tan(SEEN_ANGLE) * depth_z
    pose = torch.eye(4).to(middle)
    if seen.float().mean() >= SEEN_SHARE and middle.norm() <= SEEN_FROM * radius:
        return HomeView(pose, depth_z.median().item())
    away = radius / math.sin(EXTENT_ANGLE)
    pose[:3, 3] = middle - torch.tensor([0.0, 0.0, away]).to(middle)
    return HomeView(pose, away)


def axis_vector(axis: Axis) -> Float[Tensor, "3"]:
    """Its unit vector."""
    return (1.0 if axis[0] == "+" else -1.0) * torch.eye(3)["xyz".index(axis[1])]


def intrinsics_of_view(fov_y: float, aspect: float) -> Float[Tensor, "3 3"]:
    """Normalised intrinsics of a vertical angle (radians) and ``aspect`` = width / height."""
    focal_y = 0.5 / math.tan(fov_y / 2)
    return torch.tensor([[focal_y / aspect, 0, 0.5], [0, focal_y, 0.5], [0, 0, 1]])
