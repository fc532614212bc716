import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from hisplat_data_tools.camera_files import write_camera_file
from hisplat_data_tools.cameras_json import (
    CameraFileError,
    CameraPair,
    ImageCamera,
    read_cameras,
)

from .random_scenes import scene


def view(file: str, seed: int) -> ImageCamera:
    rng = np.random.default_rng(seed)
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec(rng.normal(size=3)).as_matrix()
    pose[:3, 3] = rng.normal(size=3)
    return ImageCamera(file, 640, 427, 501.25, 499.1, 322.7, 210.3, pose)


VIEWS = [view("a.jpg", 1), view("b.jpg", 2)]


@pytest.mark.parametrize("name", ["cameras.json", "transforms.json", "Transforms_train.json"])
def test_cameras_survive_in_both_json_formats(tmp_path: Path, name: str) -> None:
    write_camera_file(tmp_path / name, VIEWS, [CameraPair("a.jpg", "b.jpg")], 0.5, 9.0)
    file = read_cameras(tmp_path / name)
    for read, original in zip(file.images, VIEWS, strict=True):
        assert (read.file, read.width, read.height) == (original.file, 640, 427)
        assert np.array_equal(read.intrinsics_px, original.intrinsics_px)
        assert read.camera_to_world == pytest.approx(original.camera_to_world, abs=1e-15)
    assert (file.near == 0.5) == (name == "cameras.json")


def test_transforms_have_opengl_axes(tmp_path: Path) -> None:
    write_camera_file(tmp_path / "transforms.json", VIEWS)
    matrix = np.array(
        json.loads((tmp_path / "transforms.json").read_text())["frames"][0]["transform_matrix"]
    )
    pose = VIEWS[0].camera_to_world
    assert np.array_equal(matrix[:3, 1], -pose[:3, 1])  # up
    assert np.array_equal(matrix[:3, 2], -pose[:3, 2])  # backward
    assert np.array_equal(matrix[:, [0, 3]], pose[:, [0, 3]])


def test_colmap_model_projects_points_as_our_cameras_do(tmp_path: Path) -> None:
    gaussians = replace(scene(count=30), opacities=torch.linspace(0.1, 1, 30))
    write_camera_file(tmp_path / "sparse", VIEWS, gaussians=gaussians)
    lens = read_rows(tmp_path / "sparse/cameras.txt")
    images = read_rows(tmp_path / "sparse/images.txt")
    points = np.array(read_rows(tmp_path / "sparse/points3D.txt"), dtype=float)
    solid = gaussians[(gaussians.level == 2) & (gaussians.opacities >= 0.5)]
    assert points[:, 1:4] == pytest.approx(solid.means.numpy(), rel=1e-6)
    assert points[:, 4:7] / 255 == pytest.approx(
        solid.base_colors.clamp(0, 1).numpy(), abs=0.5 / 255 + 1e-6
    )
    for original, camera, image in zip(VIEWS, lens, images, strict=True):
        assert camera[:4] == [image[8], "PINHOLE", "640", "427"]
        assert " ".join(image[9:]) == original.file
        w, x, y, z, *t = (float(v) for v in image[1:8])
        seen = Rotation.from_quat([x, y, z, w]).apply(points[:, 1:4]) + t
        fx, fy, cx, cy = (float(v) for v in camera[4:])
        pixels = seen[:, :2] / seen[:, 2:] * [fx, fy] + [cx, cy]
        ours = (points[:, 1:4] - original.camera_to_world[:3, 3]) @ original.camera_to_world[:3, :3]
        ours = ours @ original.intrinsics_px.T
        assert pixels == pytest.approx(ours[:, :2] / ours[:, 2:], rel=1e-6)


def read_rows(path: Path) -> list[list[str]]:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return [line.split() for line in lines if line]


def test_pycolmap_reads_the_model(tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    write_camera_file(tmp_path / "sparse", VIEWS, gaussians=scene())
    model = pycolmap.Reconstruction(str(tmp_path / "sparse"))
    assert [model.images[i].name for i in (1, 2)] == ["a.jpg", "b.jpg"]
    pose = np.linalg.inv(VIEWS[1].camera_to_world)[:3]
    assert model.images[2].cam_from_world().matrix() == pytest.approx(pose, abs=1e-9)
    assert len(model.points3D) > 5


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Cannot tell the format"):
        write_camera_file(tmp_path / "cameras.yaml", VIEWS)
    with pytest.raises(ValueError, match=r"'my photo\.jpg'"):
        write_camera_file(tmp_path / "sparse", [replace(VIEWS[0], file="my photo.jpg")])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_camera_file(tmp_path / "nowhere/sparse", VIEWS)


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"frames": [{"file_path": "a", "w": 1e9}]}', "7"]
)
def test_nonsense_is_refused_as_a_camera_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "transforms.json").write_text(content)
    with pytest.raises(CameraFileError, match=r"transforms\.json"):
        read_cameras(tmp_path / "transforms.json")


@pytest.mark.parametrize("key", ["w", "fl_x", "transform_matrix"])
def test_numbers_beyond_all_bounds_are_refused(tmp_path: Path, key: str) -> None:
    write_camera_file(tmp_path / "transforms.json", VIEWS)
    document = json.loads((tmp_path / "transforms.json").read_text())
    document["frames"][0][key] = [[10**400] * 4] * 4 if key == "transform_matrix" else 10**400
    (tmp_path / "transforms.json").write_text(json.dumps(document))
    with pytest.raises(CameraFileError, match=r"transforms\.json"):
        read_cameras(tmp_path / "transforms.json")
