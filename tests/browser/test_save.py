"""The page's "Save" folder in a real browser, with a scene of a few dots."""

import io
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from hisplat_app.drawing import SceneDrawer
from hisplat_app.page_files import PageFiles
from hisplat_app.page_scenes import PageScenes, page_writers
from hisplat_data_tools.cameras_json import read_cameras
from hisplat_data_tools.scene_files import read_scene
from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import Gaussians
from hisplat_viewer import PhotoCameras, Scene, VideoPlan, ViewerServer
from hisplat_viewer.saving import Progress

SIZE = (48, 64)
WAIT_S = 120

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


class WatchedFiles(PageFiles):
    """Tells when a video has begun and how it has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.ended = threading.Event(), threading.Event()

    def video(self, gaussians: Gaussians, plan: VideoPlan, progress: Progress) -> bytes:
        def told(step: str, fraction: float) -> None:
            progress(step, fraction)
            self.begun.set()

        self.begun.clear()
        self.ended.clear()
        try:
            return super().video(gaussians, plan, told)
        finally:
            self.ended.set()


@pytest.fixture(scope="module")
def scene() -> Scene:
    """A wall of coloured dots, half of them of a second level, before two cameras."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(-2, 2, 20), torch.linspace(-2, 2, 20), indexing="ij")
    means = torch.stack([x.flatten(), y.flatten(), torch.full((400,), 2.0)], dim=-1)
    gaussians = Gaussians(
        means,
        torch.full((400, 3), 0.12),
        torch.tensor([1.0, 0, 0, 0]).repeat(400, 1),
        torch.full((400,), 0.99),
        torch.rand(400, 1, 3, generator=generator) * 3 - 1.5,
        torch.arange(400) // 200,
    )
    poses = torch.eye(4).repeat(2, 1, 1)
    poses[1, 0, 3] = 0.3
    intrinsics = torch.tensor([[1.0, 0, 0.5], [0, 4 / 3, 0.5], [0, 0, 1]]).repeat(2, 1, 1)
    cameras = Cameras(poses, intrinsics, torch.full((2,), 0.5), torch.full((2,), 9.0))
    drawer = SceneDrawer(gaussians)
    photos = [torch.from_numpy(drawer.draw(cameras[i], SIZE).pixels) for i in range(2)]
    return Scene(
        gaussians,
        cameras,
        torch.stack(photos).permute(0, 3, 1, 2).float() / 255,
        "A wall of dots.",
        photo_cameras=PhotoCameras(("a.jpg", "b.jpg"), ((480, 640), (480, 640)), cameras),
    )


@pytest.fixture(scope="module")
def files() -> WatchedFiles:
    return WatchedFiles()


@pytest.fixture(scope="module")
def server(source: PageScenes, scene: Scene, files: WatchedFiles) -> Iterator[ViewerServer]:
    with ViewerServer(source, page_writers(), port=0, saver=files) as server:
        server.show(scene)
        yield server


def download(page: Page, button: str, folder: Path) -> Path:
    with page.expect_download() as download:
        page.get_by_role("button", name=button, exact=True).click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def field(page: Page, label: str) -> Locator:
    return page.get_by_label(label, exact=True).locator("visible=true")


def choose(page: Page, label: str, option: str) -> None:
    field(page, label).click()
    page.get_by_role("option", name=option, exact=True).click()


def unfold(page: Page, folder: str) -> None:
    page.get_by_text(folder, exact=True).click()


def video_frames(path: Path) -> list[np.ndarray]:
    reader = imageio_ffmpeg.read_frames(str(path))
    width, height = next(reader)["size"]  # pyright: ignore[reportCallIssue, reportArgumentType]
    return [np.frombuffer(f, np.uint8).reshape(height, width, 3) for f in reader]


def start_endless_video(page: Page, files: WatchedFiles) -> None:
    unfold(page, "Video")
    field(page, "Seconds").fill("60")
    page.get_by_role("button", name="Make video").click()
    assert files.begun.wait(WAIT_S)


def test_scene_is_saved_whole_or_as_shown(page: Page, scene: Scene, tmp_path: Path):
    page.get_by_role("button", name="Download .ply").wait_for()
    choose(page, "Format", ".splat")
    everything = read_scene(download(page, "Download .splat", tmp_path))
    torch.testing.assert_close(everything.means, scene.gaussians.means)
    page.get_by_role("checkbox", name="Coarse (200)").uncheck()
    shown = read_scene(download(page, "Download .splat", tmp_path))
    torch.testing.assert_close(shown.means, scene.gaussians.means[200:])
    choose(page, "Part", "Whole scene")
    assert read_scene(download(page, "Download .splat", tmp_path)).count == 400


def test_cameras_and_depth_of_the_photos_are_saved(page: Page, tmp_path: Path):
    unfold(page, "Cameras and depth")
    cameras = read_cameras(download(page, "Download cameras", tmp_path))
    assert [image.file for image in cameras.images] == ["a.jpg", "b.jpg"]
    with zipfile.ZipFile(download(page, "Download depth maps", tmp_path)) as archive:
        depth = np.load(io.BytesIO(archive.read("a.npy")))
        assert {"a.depth.png", "b.npy", "b.depth.png"} < set(archive.namelist())
    np.testing.assert_allclose(depth, np.full(SIZE, 2.0), atol=1e-3)


def test_picture_shows_what_the_eye_sees(page: Page, scene: Scene, tmp_path: Path):
    """From the left photo's place, what the renderer draws for its camera."""
    page.get_by_text("Left", exact=True).click()
    unfold(page, "Picture")
    field(page, "Long side (px)").fill("720")
    path = download(page, "Download picture", tmp_path)
    with Image.open(path) as image:
        assert image.size == (720, 480)
        middle = np.asarray(image.convert("RGB"))[:, 40:-40].astype(float)
    assert scene.cameras is not None
    drawer = SceneDrawer(scene.gaussians, background=(255, 255, 255))
    expected = drawer.draw(scene.cameras[0], (480, 640)).pixels
    assert np.abs(middle - expected).mean() < 2


def test_short_video_is_made(page: Page, scene: Scene, tmp_path: Path):
    unfold(page, "Video")
    field(page, "Seconds").fill("0.2")
    field(page, "Long side (px)").fill("64")
    frames = video_frames(download(page, "Make video", tmp_path))
    assert [frame.shape for frame in frames] == [(*SIZE, 3)] * 6
    assert scene.photos is not None
    left = scene.photos[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(frames[0] - left).mean() < 12
    page.get_by_text("video.mp4 has").wait_for()


def test_video_flies_through_keyframes(page: Page, scene: Scene, tmp_path: Path):
    unfold(page, "Video")
    field(page, "Seconds").fill("0.2")
    field(page, "Long side (px)").fill("64")
    choose(page, "Path", "Keyframes")
    page.get_by_role("button", name="Make video").click()
    page.get_by_text("Add at least two keyframes").wait_for()
    for count, place in enumerate(("Left", "Right"), start=1):
        page.get_by_text(place, exact=True).click()
        page.get_by_role("button", name="Add keyframe here").click()
        page.get_by_text(f"{count} keyframe").wait_for()
    saved = read_cameras(download(page, "Download keyframes", tmp_path)).images
    assert scene.cameras is not None
    for keyframe, expected in zip(saved, scene.cameras.camera_to_world, strict=True):
        np.testing.assert_allclose(keyframe.camera_to_world, expected, atol=1e-3)
        assert (keyframe.width, keyframe.height) == (64, 42)  # as the window is
    choose(page, "Video format", ".gif")
    frames = video_frames(download(page, "Make video", tmp_path))
    assert len(frames) == 6
    assert np.abs(frames[0].astype(float) - frames[-1]).mean() > 1


def test_cancelled_video_is_not_made(page: Page, files: WatchedFiles, tmp_path: Path):
    start_endless_video(page, files)
    expect(page.get_by_role("button", name="Download .ply")).to_be_disabled(timeout=1000 * WAIT_S)
    page.get_by_role("button", name="Cancel", exact=True).locator("visible=true").click()
    page.get_by_text("Cancelled.").wait_for()
    assert files.ended.wait(WAIT_S)
    assert read_scene(download(page, "Download .ply", tmp_path)).count == 400


def test_video_ends_when_its_browser_leaves(
    page: Page, other_page: Page, files: WatchedFiles, tmp_path: Path
):
    """And another browser is served meanwhile."""
    start_endless_video(other_page, files)
    assert read_scene(download(page, "Download .ply", tmp_path)).count == 400
    assert not files.ended.is_set()
    other_page.close()
    assert files.ended.wait(WAIT_S)
