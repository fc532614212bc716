import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from hisplat_data_tools.cameras_json import (
    CameraFileError,
    CameraPair,
    ImageCamera,
    from_cameras,
    read_cameras,
    to_cameras,
    write_cameras,
)


def pose(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(rng.normal(size=3)).as_matrix()
    matrix[:3, 3] = rng.normal(size=3)
    return matrix


def view(file: str, seed: int = 0) -> ImageCamera:
    return ImageCamera(file, 640, 427, 501.25, 499.1, 322.7, 210.3, pose(seed))


def transforms(**changes: object) -> dict[str, object]:
    frame = {"file_path": "images/a.jpg", "transform_matrix": np.eye(4).tolist()}
    common = {"w": 640, "h": 480, "fl_x": 500.0, "fl_y": 510.0, "cx": 320.0, "cy": 240.0}
    return {**common, "frames": [frame], **changes}


def written(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document))
    return path


def test_write_then_read_is_identity(tmp_path: Path) -> None:
    views = [view("a.jpg", 1), view("b.jpg", 2), view("c.jpg", 3)]
    pairs = [CameraPair("a.jpg", "b.jpg", ("c.jpg",), 0.1, 1 / 3)]
    write_cameras(tmp_path / "cameras.json", views, pairs, near=0.7, far=1e3 / 7)
    file = read_cameras(tmp_path / "cameras.json")
    for read, original in zip(file.images, views, strict=True):
        assert np.array_equal(read.camera_to_world, original.camera_to_world)
        assert np.array_equal(read.intrinsics_px, original.intrinsics_px)
        assert (read.file, read.width, read.height) == (original.file, 640, 427)
    assert file.pairs == tuple(pairs)
    assert (file.near, file.far) == (0.7, 1e3 / 7)
    assert [p.name for p in tmp_path.iterdir()] == ["cameras.json"]


def test_cameras_survive_the_file_exactly(tmp_path: Path) -> None:
    cameras = to_cameras([view("a.jpg", 1), view("b.jpg", 2)], 0.3, 17.0)
    views = from_cameras(cameras, ["a.jpg", "b.jpg"], [(427, 640), (427, 640)])
    write_cameras(tmp_path / "cameras.json", views)
    file = read_cameras(tmp_path / "cameras.json")
    depths = file.depth_range("a.jpg", "b.jpg")
    assert depths is not None
    again = to_cameras(file.images, *depths)
    assert torch.equal(again.camera_to_world, cameras.camera_to_world)
    assert torch.equal(again.intrinsics, cameras.intrinsics)
    assert torch.equal(again.near, cameras.near)
    assert torch.equal(again.far, cameras.far)


def test_depth_range_prefers_pair_over_scene(tmp_path: Path) -> None:
    pairs = [CameraPair("a.jpg", "b.jpg", (), 2.0, 5.0)]
    views = [view("a.jpg"), view("b.jpg"), view("c.jpg")]
    write_cameras(tmp_path / "c.json", views, pairs, near=1.0, far=9.0)
    file = read_cameras(tmp_path / "c.json")
    assert file.depth_range("b.jpg", "a.jpg") == (2.0, 5.0)
    assert file.depth_range("a.jpg", "c.jpg") == (1.0, 9.0)
    write_cameras(tmp_path / "c.json", views)
    assert read_cameras(tmp_path / "c.json").depth_range("a.jpg", "c.jpg") is None


def test_transforms_axes_become_opencv(tmp_path: Path) -> None:
    file = read_cameras(written(tmp_path / "transforms.json", transforms()))
    camera = to_cameras([file.find("a.jpg")], 1.0, 9.0)
    # An OpenGL camera at the origin looks along -z with y up: OpenCV's z is -z, its y is -y.
    x, y, depth = camera.project(torch.tensor([[[0.1, 0.2, -2.0]]]))[0, 0].tolist()
    assert depth == pytest.approx(2.0)
    assert x * 640 == pytest.approx(320 + 500 * 0.1 / 2)
    assert y * 480 == pytest.approx(240 - 510 * 0.2 / 2)


def test_angle_of_view_gives_the_focal(tmp_path: Path) -> None:
    document = transforms(camera_angle_x=2 * np.arctan(0.5))
    for key in ("fl_x", "fl_y", "cx", "cy"):
        del document[key]
    camera = read_cameras(written(tmp_path / "t.json", document)).images[0]
    assert (camera.fx, camera.fy) == pytest.approx((640, 640))
    assert (camera.cx, camera.cy) == (320, 240)


def test_intrinsics_of_a_frame_go_before_common_ones(tmp_path: Path) -> None:
    document = transforms()
    frames = [{"file_path": f"{n}.png", "transform_matrix": np.eye(4).tolist()} for n in "ab"]
    document["frames"] = [frames[0], {**frames[1], "fl_x": 700.0}]
    file = read_cameras(written(tmp_path / "t.json", document))
    assert [i.fx for i in file.images] == [500.0, 700.0]


def test_blender_file_takes_sizes_from_the_photos_beside_it(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    Image.new("RGB", (80, 60)).save(tmp_path / "train" / "r_0.png")
    frame = {"file_path": "./train/r_0", "transform_matrix": np.eye(4).tolist()}
    document = {"camera_angle_x": 0.8, "frames": [frame]}
    file = read_cameras(written(tmp_path / "t.json", document))
    assert (file.find("r_0.png").width, file.find("r_0.png").height) == (80, 60)


def test_noticeable_distortion_is_refused_but_a_trace_is_not(tmp_path: Path) -> None:
    with pytest.raises(CameraFileError, match="distort"):
        read_cameras(written(tmp_path / "t.json", transforms(k1=0.05)))
    assert read_cameras(written(tmp_path / "t.json", transforms(k1=1e-4))).images
    with pytest.raises(CameraFileError, match="FISHEYE"):
        read_cameras(written(tmp_path / "t.json", transforms(camera_model="OPENCV_FISHEYE")))


def test_unknown_photo_is_answered_with_close_names(tmp_path: Path) -> None:
    write_cameras(tmp_path / "c.json", [view("left.jpg"), view("right.jpg")])
    with pytest.raises(CameraFileError, match=r"no camera for lft\.jpg.*left\.jpg"):
        read_cameras(tmp_path / "c.json").find("/somewhere/lft.jpg")


def test_photo_is_found_by_its_name_in_any_folder(tmp_path: Path) -> None:
    write_cameras(tmp_path / "c.json", [view("x/a.jpg"), view("y/a.jpg"), view("x/b.jpg")])
    file = read_cameras(tmp_path / "c.json")
    assert file.find("/elsewhere/b.jpg").file == "x/b.jpg"
    assert file.find("y/a.jpg").file == "y/a.jpg"
    with pytest.raises(CameraFileError, match="several photos named"):
        file.find("a.jpg")


def test_camera_follows_a_resized_photo_and_refuses_a_crop() -> None:
    camera = view("a.jpg")
    half = camera.at_size(320, 213)
    assert np.allclose(half.intrinsics, camera.intrinsics, rtol=1e-12)
    with pytest.raises(CameraFileError, match=r"a\.jpg is 400x400 px"):
        camera.at_size(400, 400)
    with pytest.raises(CameraFileError, match="EXIF rotation"):
        camera.at_size(427, 640)


def _image(**changes: object) -> dict[str, object]:
    entry = {"file": "a.jpg", "width": 64, "height": 48, "fx": 50, "fy": 50, "cx": 32, "cy": 24}
    return {"images": [{**entry, "c2w": np.eye(4).tolist(), **changes}]}


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ([], "no JSON object"),
        (None, "no JSON object"),
        ({}, "describes no photos"),
        ({"images": 3}, "laid out"),
        ({"images": [1]}, "laid out"),
        ({"images": [{"file": "a.jpg"}]}, "lacks"),
        (_image(fx="wide"), "Expected a number for 'fx'"),
        (_image(fx=-5), "impossible"),
        (_image(c2w=[[1, 2], [3, 4]]), "4x4"),
        (_image(c2w=(math.nan * np.eye(4)).tolist()), "NaN"),
        (_image(c2w=(2 * np.eye(4)).tolist()), "rotation"),
        (_image(c2w=np.diag([1, 1, -1, 1]).tolist()), "rotation"),
        ({**_image(), "pairs": [{"left": "a.jpg", "right": "z.jpg"}]}, r"z\.jpg"),
    ],
)
def test_broken_file_is_refused_with_its_name(
    tmp_path: Path, document: object, reason: str
) -> None:
    with pytest.raises(CameraFileError, match=rf"(?s){reason}") as caught:
        read_cameras(written(tmp_path / "odd.json", document))
    assert "odd.json" in str(caught.value)


def test_missing_file_and_broken_json_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.json"):
        read_cameras(tmp_path / "gone.json")
    (tmp_path / "cut.json").write_text('{"images": [')
    with pytest.raises(CameraFileError, match=r"cut\.json as JSON"):
        read_cameras(tmp_path / "cut.json")


def test_a_byte_order_mark_is_passed_over_and_other_encodings_are_told(tmp_path: Path) -> None:
    text = json.dumps(_image())
    (tmp_path / "windows.json").write_text(text, encoding="utf-8-sig")
    assert read_cameras(tmp_path / "windows.json").images[0].file == "a.jpg"
    (tmp_path / "wide.json").write_text(text, encoding="utf-16")
    with pytest.raises(CameraFileError, match=r"wide\.json is no JSON file in UTF-8"):
        read_cameras(tmp_path / "wide.json")


def test_writing_into_a_missing_folder_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_cameras(tmp_path / "nowhere" / "c.json", [view("a.jpg")])


def test_every_measured_scene_can_be_read(data_dir: Path) -> None:
    for path in sorted(data_dir.glob("*/cameras.json")):
        file = read_cameras(path)
        assert len(file.images) >= 2
        assert all((path.parent / i.file).is_file() for i in file.images)
        assert all(file.depth_range(p.left, p.right) == (p.near, p.far) for p in file.pairs)
    assert len(read_cameras(data_dir / "re10k_demo" / "cameras.json").trajectory) == 220
