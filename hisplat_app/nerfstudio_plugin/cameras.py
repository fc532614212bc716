"""nerfstudio's cameras as ours."""

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras as NerfstudioCameras
from nerfstudio.cameras.cameras import CameraType
from torch import Tensor

from hisplat_models.cameras import Cameras


def from_nerfstudio(
    cameras: NerfstudioCameras, poses: Float[Tensor, "view 3 4"] | None = None
) -> Cameras:
    """Cameras of shape (view,) in nerfstudio's world, with a range of depths that says nothing.

    Args:
        cameras: Shape (view,), without distortion; axes are OpenGL's (y up, z backward).
        poses: Instead of the cameras' own, such as optimised ones.

    Raises:
        ValueError: for cameras that are no pinholes.
    """
    if (cameras.camera_type != CameraType.PERSPECTIVE.value).any():
        raise ValueError(
            "The method hisplat needs perspective cameras; undistort fisheye and panoramic photos."
        )
    poses = cameras.camera_to_worlds if poses is None else poses
    axes = poses.new_tensor([1.0, -1.0, -1.0, 1.0])
    bottom = poses.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(poses), 1, 4)
    width, height = cameras.width[:, 0], cameras.height[:, 0]
    intrinsics = torch.zeros(len(poses), 3, 3, dtype=poses.dtype, device=poses.device)
    intrinsics[:, 0, 0], intrinsics[:, 0, 2] = cameras.fx[:, 0] / width, cameras.cx[:, 0] / width
    intrinsics[:, 1, 1], intrinsics[:, 1, 2] = cameras.fy[:, 0] / height, cameras.cy[:, 0] / height
    intrinsics[:, 2, 2] = 1
    ones = torch.ones(len(poses), dtype=poses.dtype, device=poses.device)
    return Cameras(torch.cat([poses * axes, bottom], dim=1), intrinsics, ones, 2 * ones)
