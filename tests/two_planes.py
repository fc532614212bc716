"""A scene whose every view is known: a textured wall and a smaller textured board before it."""

import json
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from hisplat_models.cameras import Cameras

WALL_DEPTH, BOARD_DEPTH = 4.0, 2.0
BOARD_HALF = 0.55
SIZE = (96, 128)
FOCAL = 110.0
POSITIONS = (-0.2, 0.0, 0.2)  # left, target, right along x


def two_planes_cameras(positions: tuple[float, ...] = POSITIONS) -> Cameras:
    """Cameras side by side, each turned a little inward."""
    height, width = SIZE
    intrinsics = torch.tensor([[FOCAL / width, 0, 0.51], [0, FOCAL / height, 0.49], [0, 0, 1.0]])
    poses = []
    for x in positions:
        angle = torch.tensor(-0.2 * x)
        pose = torch.eye(4)
        pose[0, 0] = pose[2, 2] = angle.cos()
        pose[0, 2], pose[2, 0] = angle.sin(), -angle.sin()
        pose[0, 3] = x
        poses.append(pose)
    count = len(positions)
    return Cameras(
        torch.stack(poses),
        intrinsics.repeat(count, 1, 1),
        torch.full((count,), 1.4),
        torch.full((count,), 6.0),
    )


def two_planes_views(cameras: Cameras, size: tuple[int, int] = SIZE) -> tuple[Tensor, Tensor]:
    """Photos (view, 3, height, width) and z-depths of the scene."""
    # Four rays a pixel: hard edges without jags, as a lens would show them.
    height, width = 2 * size[0], 2 * size[1]
    rays = cameras.rays(height, width)
    origin = cameras.positions[:, None, None]
    wall_z = (WALL_DEPTH - origin[..., 2]) / rays[..., 2]
    board_z = (BOARD_DEPTH - origin[..., 2]) / rays[..., 2]
    wall = origin + wall_z[..., None] * rays
    board = origin + board_z[..., None] * rays
    on_board = (board[..., :2].abs() < BOARD_HALF).all(dim=-1)
    color = torch.where(on_board[:, None], _texture(board, 1, 14.0), _texture(wall, 2, 7.0))
    depth = torch.where(on_board, board_z, wall_z)
    pooled = torch.nn.functional.avg_pool2d(color, 2)
    return pooled, depth[:, ::2, ::2]


def _texture(points: Tensor, seed: int, frequency: float) -> Tensor:
    """Smooth random colours over x and y."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.rand(1, 3, 64, 64, generator=generator)
    place = (points[..., :2] * frequency / 32).remainder(2.0) - 1
    return grid_sample(
        grid.expand(len(points), -1, -1, -1), place, mode="bilinear", padding_mode="reflection",
        align_corners=False,
    )  # fmt: skip


def write_posed_folder(path: Path) -> Path:
    """The scene as left.png, middle.png, right.png and cameras.json with one pair."""
    path.mkdir(parents=True, exist_ok=True)
    cameras = two_planes_cameras()
    photos, _ = two_planes_views(cameras)
    height, width = SIZE
    names = ["left.png", "middle.png", "right.png"]
    images = []
    for i, name in enumerate(names):
        write_photo(path / name, photos[i])
        k = cameras.intrinsics_px(height, width)[i]
        images.append(
            {
                "file": name, "width": width, "height": height,
                "fx": k[0, 0].item(), "fy": k[1, 1].item(),
                "cx": k[0, 2].item(), "cy": k[1, 2].item(),
                "c2w": cameras.camera_to_world[i].tolist(),
            }
        )  # fmt: skip
    pair = {
        "left": "left.png", "right": "right.png", "targets": ["middle.png"],
        "near": 1.4, "far": 6.0,
    }  # fmt: skip
    document = {"scene": path.name, "images": images, "pairs": [pair]}
    (path / "cameras.json").write_text(json.dumps(document))
    return path


def write_stereo_folder(path: Path) -> Path:
    """The scene as a rectified pair: left.png, right.png, disparity.npy and calib.json."""
    path.mkdir(parents=True, exist_ok=True)
    cameras = two_planes_cameras((0.0, 0.3))
    cameras = Cameras(torch.eye(4).repeat(2, 1, 1), cameras.intrinsics, cameras.near, cameras.far)
    cameras.camera_to_world[1, 0, 3] = 0.3
    photos, depth = two_planes_views(cameras)
    write_photo(path / "left.png", photos[0])
    write_photo(path / "right.png", photos[1])
    disparity = (FOCAL * 0.3 / depth[0]).numpy().astype(np.float32)
    disparity[:3] = np.nan
    np.save(path / "disparity.npy", disparity)
    height, width = SIZE
    calibration = {
        "fx": FOCAL, "fy": FOCAL, "cx": 0.51 * width, "cy": 0.49 * height, "doffs": 0.0,
        "baseline_mm": 300.0,
    }  # fmt: skip
    (path / "calib.json").write_text(json.dumps(calibration))
    return path


def write_photo(path: Path, photo: Tensor) -> None:
    pixels = (photo.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    cv2.imwrite(str(path), np.ascontiguousarray(pixels[..., ::-1]))
