"""What the page offers for download is what other programs can read."""

import io
import json
import tempfile
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image

import hisplat_app
from hisplat_app.drawing import SceneDrawer
from hisplat_app.page_files import PageFiles, distinct_names, harmless_stem, photo_cameras
from hisplat_app.page_scenes import page_scene, page_writers
from hisplat_app.reconstruction import reconstruct
from hisplat_data_tools.cameras_json import from_cameras, read_cameras
from hisplat_data_tools.depth_maps import from_depth_png_bytes
from hisplat_data_tools.scene_files import SCENE_WRITERS, scene_from_bytes
from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import Gaussians
from hisplat_models.network import HiSplat
from hisplat_viewer import PhotoCameras, SceneSaver, VideoPlan
from hisplat_viewer.background_job import Cancelled
from hisplat_viewer.saving import PathName, VideoEnding

DEMO = Path(hisplat_app.__file__).parent / "demo"
SIZE = (24, 32)
NAMES = ("a.jpg", "b.jpg")


def ignore(step: str, fraction: float) -> None:
    pass


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def wall() -> Gaussians:
    """Opaque dots of random colours, two units before the cameras."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(-2, 2, 20), torch.linspace(-2, 2, 20), indexing="ij")
    means = torch.stack([x.flatten(), y.flatten(), torch.full((400,), 2.0)], dim=-1)
    return Gaussians(
        means,
        torch.full((400, 3), 0.12),
        torch.tensor([1.0, 0, 0, 0]).expand(400, 4).contiguous(),
        torch.full((400,), 0.99),
        torch.rand(400, 1, 3, generator=generator) * 3 - 1.5,
        torch.zeros(400, dtype=torch.int64),
    )


@pytest.fixture
def cameras() -> Cameras:
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[:, 0, 3] = torch.tensor([-0.3, 0.3])
    intrinsics = torch.tensor([[1.0, 0, 0.5], [0, 1.3, 0.5], [0, 0, 1]]).repeat(2, 1, 1)
    return Cameras(poses, intrinsics, torch.full((2,), 0.5), torch.full((2,), 9.0))


@pytest.fixture
def photos(cameras: Cameras) -> PhotoCameras:
    return PhotoCameras(NAMES, ((480, 640), (300, 400)), cameras)


def plan_of(cameras: Cameras, path: PathName, ending: VideoEnding = ".mp4") -> VideoPlan:
    return VideoPlan(path, cameras, SIZE, 0.2, ending)


def frames_of(content: bytes, ending: str, folder: Path) -> list[np.ndarray]:
    file = folder / f"check{ending}"
    file.write_bytes(content)
    reader = imageio_ffmpeg.read_frames(str(file))
    width, height = next(reader)["size"]  # pyright: ignore[reportCallIssue, reportArgumentType]
    return [np.frombuffer(f, np.uint8).reshape(height, width, 3) for f in reader]


def test_page_files_are_a_saver():
    assert isinstance(PageFiles(), SceneSaver)


def test_page_offers_every_format_of_scenes():
    assert set(page_writers()) == set(SCENE_WRITERS)


@pytest.mark.parametrize("ending", SCENE_WRITERS)
def test_scene_in_each_format_is_read(ending: str, wall: Gaussians):
    content = page_writers()[ending](wall)
    if ending == ".glb":
        points = pytest.importorskip("trimesh").load(io.BytesIO(content), file_type="glb")
        assert sum(len(cloud.vertices) for cloud in points.geometry.values()) == wall.count
        return
    read = scene_from_bytes(content, f"scene{ending}")
    order = [torch.argsort(g.means @ torch.tensor([100.0, 1.0, 0.0])) for g in (read, wall)]
    torch.testing.assert_close(
        read.means[order[0]], wall.means[order[1]], atol=5e-3, rtol=0, check_dtype=False
    )


@pytest.mark.parametrize("kind", ["cameras.json", "transforms.json"])
def test_cameras_of_whole_photos_are_read_back(kind, photos, wall, tmp_path, temporary_folder):
    (tmp_path / kind).write_bytes(PageFiles().camera_file(photos, wall, kind))
    file = read_cameras(tmp_path / kind)
    expected = from_cameras(photos.cameras, NAMES, photos.sizes)
    for name, camera in zip(NAMES, expected, strict=True):
        found = file.find(name)
        assert (found.width, found.height) == (camera.width, camera.height)
        np.testing.assert_allclose(found.intrinsics_px, camera.intrinsics_px)
        np.testing.assert_allclose(found.camera_to_world, camera.camera_to_world, atol=1e-12)
    if kind == "cameras.json":
        assert file.depth_range(*NAMES) == (0.5, 9.0)
    assert list(temporary_folder.iterdir()) == []


def test_cameras_survive_the_way_through_the_page_unchanged(photos):
    images = from_cameras(photos.cameras, NAMES, photos.sizes)
    passed = photo_cameras(images, 0.5, 9.0)
    for before, after in zip(
        images, from_cameras(passed.cameras, passed.names, passed.sizes), strict=True
    ):
        assert (before.file, before.width, before.height) == (after.file, after.width, after.height)
        np.testing.assert_allclose(after.intrinsics_px, before.intrinsics_px, rtol=1e-15)
        np.testing.assert_array_equal(after.camera_to_world, before.camera_to_world)


def test_scene_of_two_photos_brings_the_cameras_of_the_whole_photos(untrained: HiSplat, tmp_path):
    pair = (DEMO / "left.jpg", DEMO / "right.jpg")
    result = reconstruct(*pair, cameras=DEMO / "cameras.json", model=untrained, size=64)
    scene = page_scene(result)
    assert scene.photo_cameras is not None
    content = PageFiles().camera_file(scene.photo_cameras, scene.gaussians, "cameras.json")
    (tmp_path / "page.json").write_bytes(content)
    result.write_cameras(tmp_path / "command.json")
    page, command = (read_cameras(tmp_path / f"{name}.json") for name in ("page", "command"))
    for mine, other in zip(page.images, command.images, strict=True):
        assert (mine.file, mine.width, mine.height) == (other.file, other.width, other.height)
        np.testing.assert_allclose(mine.intrinsics_px, other.intrinsics_px)
        np.testing.assert_allclose(mine.camera_to_world, other.camera_to_world)
    assert page.depth_range(*pair) == command.depth_range(*pair)


def test_colmap_model_is_a_zip_that_colmap_reads(photos, wall, tmp_path, temporary_folder):
    content = PageFiles().camera_file(photos, wall, "colmap.zip")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path)
    model = tmp_path / "sparse" / "0"
    assert {f.name for f in model.iterdir()} == {"cameras.txt", "images.txt", "points3D.txt"}
    assert list(temporary_folder.iterdir()) == []
    reader = pytest.importorskip("pycolmap").Reconstruction(str(model))
    assert {image.name for image in reader.images.values()} == set(NAMES)
    assert len(reader.points3D) == wall.count


def test_colmap_model_refuses_names_with_spaces(photos, wall):
    spaced = replace(photos, names=("my photo.jpg", "b.jpg"))
    with pytest.raises(ValueError, match="without spaces"):
        PageFiles().camera_file(spaced, wall, "colmap.zip")


def test_photos_of_one_name_are_told_apart(photos, wall):
    phone = replace(photos, names=("image.jpg", "Image.jpg"))
    document = json.loads(PageFiles().camera_file(phone, wall, "cameras.json"))
    assert [image["file"] for image in document["images"]] == ["1_image.jpg", "2_Image.jpg"]
    assert distinct_names(NAMES) == list(NAMES)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\IMG 01.JPG", "IMG_01"),
        ("größe.png", "größe"),
        ("..", "photo"),
        ("", "photo"),
        ("a" * 300 + ".jpg", "a" * 60),
        ('x"<\0>.jpg', "x____"),
    ],
)
def test_names_of_strangers_become_harmless(name: str, stem: str):
    assert harmless_stem(name) == stem


def test_depth_maps_say_how_far_the_wall_is(wall, cameras):
    names = ("../a.jpg", "b.jpg")
    content = PageFiles().depth_maps(wall, cameras, SIZE, names, ignore)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert set(archive.namelist()) == {"a.npy", "a.depth.png", "b.npy", "b.depth.png"}
        for name in ("a", "b"):
            depth = np.load(io.BytesIO(archive.read(f"{name}.npy")))
            assert depth.shape == SIZE
            assert depth.dtype == np.float32
            np.testing.assert_allclose(depth, 2.0, atol=1e-3)
            levels = from_depth_png_bytes(archive.read(f"{name}.depth.png"))
            np.testing.assert_allclose(levels, depth, atol=5.1e-4)


def test_still_is_what_the_renderer_draws(wall, cameras):
    content = PageFiles().still(wall, cameras[0], (60, 80), (10, 200, 30))
    drawn = SceneDrawer(wall, background=(10, 200, 30)).draw(cameras[0], (60, 80)).pixels
    with Image.open(io.BytesIO(content)) as image:
        np.testing.assert_array_equal(np.asarray(image), drawn)


@pytest.mark.parametrize("ending", [".mp4", ".gif", ".webm"])
def test_video_in_each_format_is_read(ending, wall, cameras, tmp_path, temporary_folder):
    told: list[float] = []
    content = PageFiles().video(
        wall, plan_of(cameras, "between", ending), lambda _, share: told.append(share)
    )
    frames = frames_of(content, ending, tmp_path)
    assert [f.shape for f in frames] == [(*SIZE, 3)] * 6
    assert told == sorted(told)
    first = SceneDrawer(wall, background=(255, 255, 255)).draw(cameras[0], SIZE).pixels
    assert np.abs(frames[0].astype(float) - first).mean() < 12
    assert list(temporary_folder.iterdir()) == []


@pytest.mark.parametrize("path", ["wobble", "orbit", "keyframes"])
def test_camera_moves_on_each_path(path, wall, cameras, tmp_path):
    content = PageFiles().video(wall, plan_of(cameras, path), ignore)
    frames = frames_of(content, ".mp4", tmp_path)
    assert len(frames) == 6
    assert np.abs(frames[0].astype(float) - frames[2]).mean() > 1


def test_camera_that_sees_nothing_cannot_orbit(wall, cameras):
    away = cameras.transformed(torch.diag(torch.tensor([-1.0, 1, -1, 1])))
    with pytest.raises(ValueError, match="sees nothing"):
        PageFiles().video(wall, plan_of(away, "orbit"), ignore)


def test_cancelled_video_leaves_nothing_behind(wall, cameras, temporary_folder):
    seen: list[float] = []

    def cancel(step: str, fraction: float) -> None:
        seen.append(fraction)
        if len(seen) == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        PageFiles().video(wall, plan_of(cameras, "between"), cancel)
    assert len(seen) == 3
    assert list(temporary_folder.iterdir()) == []


def test_browsers_draw_in_turn(wall, cameras):
    """Nobody waits for the whole of somebody else's video."""
    files, begun, done = PageFiles(), threading.Event(), threading.Event()

    def wait(step: str, fraction: float) -> None:
        if fraction > 0.3:
            begun.set()
            assert done.wait(60), "the other one was never served"

    made: list[bytes] = []
    plan = plan_of(cameras, "between")
    video = threading.Thread(target=lambda: made.append(files.video(wall, plan, wait)))
    video.start()
    assert begun.wait(60)
    assert files.still(wall, cameras[0], SIZE, (0, 0, 0))
    assert not made
    done.set()
    video.join(60)
    assert made
