"""Pinhole cameras: OpenCV axes, camera-to-world poses, normalised intrinsics."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Cameras:
    """Any number of pinhole cameras; all fields share their leading axes, usually (batch, view).

    Attributes:
        camera_to_world: Rigid poses; camera axes are x right, y down, z forward.
        intrinsics: 3x3 matrices whose first row is divided by the image width and whose second
            row by its height, so they hold at any resolution. Pixel centres are at +0.5.
        near: z-depth of the nearest surface expected, world units, > 0.
        far: z-depth of the farthest surface expected, world units, > near.
    """

    camera_to_world: Float[Tensor, "*batch 4 4"]
    intrinsics: Float[Tensor, "*batch 3 3"]
    near: Float[Tensor, "*batch"]
    far: Float[Tensor, "*batch"]

    @property
    def batch_shape(self) -> torch.Size:
        """The leading axes, e.g. (batch, view)."""
        return self.near.shape

    @property
    def positions(self) -> Float[Tensor, "*batch 3"]:
        """Camera centres in world units."""
        return self.camera_to_world[..., :3, 3]

    @property
    def world_to_camera(self) -> Float[Tensor, "*batch 4 4"]:
        """The inverse poses, formed by transposing the rotation (exact for rigid poses)."""
        rotation = self.camera_to_world[..., :3, :3].mT
        translation = -(rotation @ self.camera_to_world[..., :3, 3:])
        bottom = self.camera_to_world[..., 3:, :]
        return torch.cat([torch.cat([rotation, translation], dim=-1), bottom], dim=-2)

    def intrinsics_px(self, height: int, width: int) -> Float[Tensor, "*batch 3 3"]:
        """Intrinsics in pixels of a (height, width) image, pixel centres at +0.5."""
        size = self.intrinsics.new_tensor([width, height, 1.0])
        return self.intrinsics * size[:, None]

    def rays(self, height: int, width: int) -> Float[Tensor, "*batch height width 3"]:
        """World-space directions through the pixel centres, scaled to unit z-depth.

        ``positions + depth_z * rays`` are the surface points of a z-depth map.
        """
        x = (torch.arange(width, device=self.near.device, dtype=self.near.dtype) + 0.5) / width
        y = (torch.arange(height, device=self.near.device, dtype=self.near.dtype) + 0.5) / height
        grid = torch.stack([*torch.meshgrid(x, y, indexing="xy"), x.new_ones(height, width)], -1)
        to_world = self.camera_to_world[..., :3, :3] @ torch.linalg.inv(self.intrinsics)
        return torch.einsum("...ij,hwj->...hwi", to_world, grid)

    def project(self, points: Float[Tensor, "*batch n 3"]) -> Float[Tensor, "*batch n 3"]:
        """World points as (x, y, z-depth), x and y normalised to [0, 1] inside the image.

        Points in the camera plane give infinite x and y; callers test z-depth first.
        """
        pose = self.world_to_camera
        camera = points @ pose[..., :3, :3].mT + pose[..., None, :3, 3]
        image = camera @ self.intrinsics.mT
        return torch.cat([image[..., :2] / image[..., 2:], camera[..., 2:]], dim=-1)

    def relative(self) -> "Cameras":
        """The same cameras in the frame of the first view (last leading axis)."""
        first = self.world_to_camera[..., :1, :, :]
        return replace(self, camera_to_world=first @ self.camera_to_world)

    def transformed(self, world_to_new: Float[Tensor, "4 4"]) -> "Cameras":
        """The same cameras after a rigid change of the world frame."""
        return replace(self, camera_to_world=world_to_new.to(self.near) @ self.camera_to_world)

    def scaled(self, factor: float | Float[Tensor, "*batch"]) -> "Cameras":
        """The same cameras in a world whose lengths are multiplied by ``factor`` (> 0)."""
        factor = torch.as_tensor(factor, dtype=self.near.dtype, device=self.near.device)
        factor = factor.expand(self.batch_shape)
        pose = self.camera_to_world.clone()
        pose[..., :3, 3] = pose[..., :3, 3] * factor[..., None]
        return replace(self, camera_to_world=pose, near=self.near * factor, far=self.far * factor)

    def __getitem__(self, index: object) -> "Cameras":
        """Indexes the leading axes of all fields alike."""
        return Cameras(
            self.camera_to_world[index],  # pyright: ignore[reportArgumentType]
            self.intrinsics[index],  # pyright: ignore[reportArgumentType]
            self.near[index],  # pyright: ignore[reportArgumentType]
            self.far[index],  # pyright: ignore[reportArgumentType]
        )

    def to(self, target: torch.device | torch.dtype | str) -> "Cameras":
        """All fields moved to a device or converted to a dtype."""
        return Cameras(
            self.camera_to_world.to(target),
            self.intrinsics.to(target),
            self.near.to(target),
            self.far.to(target),
        )

    @staticmethod
    def stack(cameras: "Sequence[Cameras]") -> "Cameras":
        """Cameras of equal shape joined along a new first axis."""
        return Cameras(
            torch.stack([c.camera_to_world for c in cameras]),
            torch.stack([c.intrinsics for c in cameras]),
            torch.stack([c.near for c in cameras]),
            torch.stack([c.far for c in cameras]),
        )
