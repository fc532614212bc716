import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hisplat_data_tools.datasets import AllViews, SceneDataset, SceneFolders, UnusableScene
from hisplat_models.metrics import psnr
from tests.chunk_files import path_cameras
from tests.two_planes import FOCAL, SIZE, two_planes_views, write_photo, write_posed_folder


def write_transforms(folder: Path, frames: int = 11) -> Path:
    """The two planes as nerfstudio would have them: OpenGL axes, frames in no order."""
    folder.mkdir()
    cameras = path_cameras(frames)
    photos, _ = two_planes_views(cameras)
    entries = []
    for i in reversed(range(frames)):
        write_photo(folder / f"frame_{i}.png", photos[i])
        pose = cameras.camera_to_world[i].numpy() @ np.diag([1.0, -1, -1, 1])
        entries.append({"file_path": f"./frame_{i}.png", "transform_matrix": pose.tolist()})
    height, width = SIZE
    document = {
        "w": width, "h": height, "fl_x": FOCAL, "fl_y": FOCAL,
        "cx": 0.51 * width, "cy": 0.49 * height, "frames": entries,
    }  # fmt: skip
    (folder / "transforms.json").write_text(json.dumps(document))
    return folder


def test_transforms_folder_is_a_scene_in_order_of_its_frames(tmp_path: Path) -> None:
    scenes = SceneFolders([write_transforms(tmp_path / "nerf")], near=1.4, far=6.0)
    assert scenes.names(0) == [f"frame_{i}.png" for i in range(11)]
    example = SceneDataset(scenes, AllViews(), (48, 60))[0]
    expected, _ = two_planes_views(example.context_cameras, (48, 60))
    assert psnr(example.context_images, expected).min() > 30
    torch.testing.assert_close(
        example.context_cameras.camera_to_world, path_cameras(11).camera_to_world
    )
    assert example.context_cameras.far.tolist() == pytest.approx([6.0] * 11)


def test_range_must_be_known_from_somewhere(tmp_path: Path) -> None:
    folders = [write_transforms(tmp_path / "nerf", 2), write_posed_folder(tmp_path / "posed")]
    with pytest.raises(UnusableScene, match=r"transforms\.json states no near and far"):
        SceneFolders(folders).scene(0)
    document = json.loads((folders[1] / "cameras.json").read_text()) | {"near": 1.5, "far": 7.0}
    (folders[1] / "cameras.json").write_text(json.dumps(document))
    scenes = SceneFolders(folders, near=0.1, far=9.0)
    assert scenes.scene(0).cameras.near.tolist() == pytest.approx([0.1] * 2)
    assert scenes.scene(1).cameras.far.tolist() == [7.0] * 3


def test_photo_of_other_proportions_than_its_camera_is_refused(tmp_path: Path) -> None:
    folder = write_posed_folder(tmp_path / "posed")
    write_photo(folder / "middle.png", torch.zeros(3, 96, 96))
    with pytest.raises(UnusableScene, match=r"middle\.png is 96x96"):
        SceneDataset(SceneFolders([folder], 1.0, 9.0), AllViews(), (32, 32))[0]


def test_missing_files_are_named(tmp_path: Path) -> None:
    folder = write_posed_folder(tmp_path / "posed")
    (folder / "middle.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 photos .* middle\.png"):
        SceneFolders([folder])
    (folder / "cameras.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"neither cameras\.json nor transforms\.json"):
        SceneFolders([folder])


def test_folders_of_the_same_name_are_refused(tmp_path: Path) -> None:
    for parent in ("a", "b"):
        write_posed_folder(tmp_path / parent / "posed")
    scenes = SceneFolders([tmp_path / "a" / "posed", tmp_path / "b" / "posed"], 1.0, 9.0)
    with pytest.raises(ValueError, match="same name: posed"):
        SceneDataset(scenes, AllViews())
