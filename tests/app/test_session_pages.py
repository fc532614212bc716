"""The page's door to the session: what it refuses, survives and keeps apart."""

import io
import struct
import sys
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.load import Answer, Crowd, Load
from hisplat_app import page_scenes, reconstruction_session
from hisplat_app.memory_errors import TOO_LITTLE
from hisplat_app.page_scenes import INTERNAL_ERROR, PageScenes, offered_models, photos_of
from hisplat_app.reconstruction_session import ReconstructionRequest, ReconstructionSession
from hisplat_data_tools.images import Photo, load_photo
from hisplat_viewer import PhotoSet, SceneSource, Upload

SIZE = 64
WAIT_S = 120


@pytest.fixture(scope="module")
def session(weights: Path) -> Iterator[ReconstructionSession]:
    with ReconstructionSession(str(weights), "cpu", SIZE, warm_up=False) as session:
        yield session


@pytest.fixture
def scenes(session: ReconstructionSession, weights: Path) -> PageScenes:
    return PageScenes(session, str(weights), SIZE)


@pytest.fixture
def pair(demo_photos: tuple[Image.Image, Image.Image]) -> PhotoSet:
    left, right = (Upload(f"{i}.png", png(photo)) for i, photo in enumerate(demo_photos))
    return PhotoSet((left, right), fov_degrees=59.5)


def png(photo: Image.Image) -> bytes:
    content = io.BytesIO()
    photo.save(content, "PNG", compress_level=1)
    return content.getvalue()


def asked(scenes: PageScenes, pair: PhotoSet, client: str = "somebody") -> Answer:
    answer = Answer()
    scenes.request(client, pair, answer)
    assert answer.ended.wait(WAIT_S)
    return answer


def test_page_scenes_are_a_source_with_an_example(scenes: PageScenes):
    assert isinstance(scenes, SceneSource)
    (example,) = scenes.offer.examples
    for photo in example.photos.photos:
        assert scenes.thumbnail(photo, 160).shape == (120, 160, 3)


@pytest.mark.parametrize(
    ("own", "names"),
    [
        ("hisplat-small", []),
        ("/home/me/secret/mine.safetensors", ["mine"]),
        ("hf://me/models/best.safetensors@v1", ["best"]),
        ("/x/hisplat-small.safetensors", ["hisplat-small (own)"]),
    ],
)
def test_browsers_see_no_folders_of_this_machine(own: str, names: list[str]):
    offered = offered_models(own)
    assert list(offered) == [*names, "hisplat-small", "hisplat-small-fast"]
    assert own in offered.values()


def test_coarser_levels_and_what_was_predicted_come_first(scenes: PageScenes, pair: PhotoSet):
    answer = asked(scenes, pair)
    assert answer.scene is not None
    assert [int(s.gaussians.level.max()) for s in answer.previews] == [0, 1, 2]
    whole = answer.scene.gaussians
    for preview in answer.previews:
        # Finer levels only change how opaque coarser Gaussians are.
        made = preview.gaussians.means[::37]
        apart = torch.cdist(made, whole.means, compute_mode="donot_use_mm_for_euclid_dist")
        assert (apart.min(dim=1).values == 0).float().mean() > 0.9


def test_an_offered_network_is_loaded(scenes: PageScenes, pair: PhotoSet):
    for model in scenes.offer.models:
        chosen = PhotoSet(pair.photos, pair.fov_degrees, model=model)
        assert asked(scenes, chosen).scene is not None


def test_a_working_size_can_be_chosen(scenes: PageScenes, pair: PhotoSet):
    chosen = PhotoSet(pair.photos, pair.fov_degrees, size=256)
    scene = asked(scenes, chosen).scene
    assert scene is not None
    assert scene.photos is not None
    assert scene.photos.shape[-1] == 256


@pytest.mark.parametrize("model", ["/etc/passwd", "hf://owner/repo/file", "../weights"])
def test_only_offered_networks_are_loaded(scenes: PageScenes, pair: PhotoSet, model: str):
    hostile = PhotoSet(pair.photos, model=model)
    assert asked(scenes, hostile).message == "There is no such network to choose."


@pytest.mark.parametrize("size", [-1, 0, 63, 100_000])
def test_only_offered_sizes_are_computed(scenes: PageScenes, pair: PhotoSet, size: int):
    hostile = PhotoSet(pair.photos, size=size)
    assert asked(scenes, hostile).message == "There is no such working size to choose."


def test_a_full_queue_says_so(weights: Path, pair: PhotoSet, monkeypatch: pytest.MonkeyPatch):
    began, go_on = threading.Event(), threading.Event()

    def held(*photos: object, **options: object) -> object:
        began.set()
        assert go_on.wait(WAIT_S)
        raise ValueError("held up")

    monkeypatch.setattr(reconstruction_session, "reconstruct", held)
    with ReconstructionSession(str(weights), "cpu", SIZE, warm_up=False, most_waiting=1) as session:
        scenes = PageScenes(session, str(weights), SIZE)
        first, second, third = Answer(), Answer(), Answer()
        scenes.request("a", pair, first)
        assert began.wait(WAIT_S)
        scenes.request("b", pair, second)
        scenes.request("c", pair, third)
        assert third.message is not None
        assert "1 wait already" in third.message
        go_on.set()
        assert second.ended.wait(WAIT_S)
        assert first.message == second.message == "held up"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("secret"), INTERNAL_ERROR),
        (MemoryError(), TOO_LITTLE),
        (torch.OutOfMemoryError("secret"), TOO_LITTLE),
        (KeyError("secret"), INTERNAL_ERROR),
    ],
)
def test_a_crash_of_one_reconstruction_leaves_the_others_alone(
    scenes: PageScenes,
    pair: PhotoSet,
    error: Exception,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
):
    def crash(*photos: object, **options: object) -> None:
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(reconstruction_session, "reconstruct", crash)
        assert asked(scenes, pair).message == told
    assert asked(scenes, pair).scene is not None


def test_a_photo_that_would_fill_the_memory_is_refused(scenes: PageScenes):
    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    bomb += chunk(b"IDAT", zlib.compress(bytes(1_000_000))) + chunk(b"IEND", b"")
    with pytest.raises(ValueError, match="too large"):
        scenes.thumbnail(Upload("bomb.png", bomb), 160)


def test_one_photo_is_decoded_at_a_time(
    scenes: PageScenes, pair: PhotoSet, monkeypatch: pytest.MonkeyPatch
):
    begun, go_on = threading.Semaphore(0), threading.Event()

    def slow(content: bytes, name: str) -> Photo:
        begun.release()
        assert go_on.wait(WAIT_S)
        return load_photo(content, name)

    monkeypatch.setattr(page_scenes, "load_photo", slow)
    with ThreadPoolExecutor() as browsers:
        thumbnails = [browsers.submit(scenes.thumbnail, photo, 160) for photo in pair.photos]
        assert begun.acquire(timeout=WAIT_S)
        assert not begun.acquire(timeout=0.3)
        go_on.set()
        assert [t.result(WAIT_S).shape for t in thumbnails] == [(120, 160, 3)] * 2


def test_photos_of_the_command_line_can_be_gone_on_with(pair: PhotoSet, tmp_path: Path):
    paths = tuple(tmp_path / photo.name for photo in pair.photos)
    for path, photo in zip(paths, pair.photos, strict=True):
        path.write_bytes(photo.content)
    assert photos_of(ReconstructionRequest(paths, fov_degrees=59.5)) == pair
    assert photos_of(ReconstructionRequest(paths, cameras=tmp_path / "cameras.json")) is None


class OpenedFiles:
    """The paths that this process opens, once it is asked to watch."""

    def __init__(self) -> None:
        self.watching = False
        self.paths: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple) -> None:
        if self.watching and event in ("open", "os.mkdir", "os.rename", "os.remove"):
            self.paths.append(str(arguments[0]))
        if self.watching and event.startswith("tempfile."):
            self.paths.append(f"temporary: {arguments[0]}")


def test_names_of_photos_never_reach_the_file_system(scenes: PageScenes, pair: PhotoSet):
    names = ("/etc/passwd", "../../evil<b>.png")
    left, right = (
        Upload(name, photo.content) for name, photo in zip(names, pair.photos, strict=True)
    )
    opened = OpenedFiles()
    opened.watching = True
    try:
        scenes.thumbnail(left, 160)
        scene = asked(scenes, PhotoSet((left, right), 59.5)).scene
    finally:
        opened.watching = False
    assert scene is not None
    assert not [p for p in opened.paths if "passwd" in p or "evil" in p or "temporary" in p]


def test_a_crowd_gets_its_own_scenes_and_all_of_them(scenes: PageScenes):
    load = Load(clients=4, requests=2, size=SIZE, photo_side=160, patience_s=WAIT_S)
    figures = Crowd(scenes, load).run()
    assert figures.answered == 8
    assert figures.lost == figures.mixed_up == figures.failed == 0
    assert figures.replaced == 2
    assert 1 <= figures.farthest_place <= 4
