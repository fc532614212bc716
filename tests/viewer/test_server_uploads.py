"""Uploads as a hostile or unlucky browser sends them, and what is left of one that is gone."""

import gc
import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from viser import UploadedFile

from hisplat_viewer import Offer, PhotoSet, Scene, SceneListener, Upload, ViewerServer
from hisplat_viewer import upload_limit as limit

from .visitors import PART_BYTES, Visitor, until


class Recorder:
    """A source that takes anything for a photo and keeps requests open until told otherwise."""

    offer = Offer()

    def __init__(self) -> None:
        self.thumbnails: list[str] = []
        self.listeners: dict[str, SceneListener] = {}
        self.withdrawn: list[str] = []

    def request(self, client: str, photos: PhotoSet, listener: SceneListener) -> None:
        self.listeners[client] = listener

    def withdraw(self, client: str) -> None:
        self.listeners.pop(client, None)
        self.withdrawn.append(client)

    def thumbnail(self, upload: Upload, long_side: int) -> np.ndarray:
        self.thumbnails.append(upload.name)
        return np.zeros((10, 10, 3), dtype=np.uint8)


@pytest.fixture
def source() -> Recorder:
    return Recorder()


@pytest.fixture
def server(source: Recorder) -> Iterator[ViewerServer]:
    with ViewerServer(source, {}, port=0) as server:
        yield server


def with_two_photos(server: ViewerServer) -> Visitor:
    visitor = Visitor(server)
    visitor.upload(b"left", 0, "left.jpg")
    visitor.upload(b"right", 1, "right.jpg")
    until(lambda: "Ready." in visitor.status, "both photos")
    return visitor


def test_uploads_reach_the_source(server: ViewerServer, source: Recorder):
    visitor = Visitor(server)
    visitor.upload(b"x" * (PART_BYTES + 5), name="a.jpg")
    until(lambda: source.thumbnails == ["a.jpg"], "the photo")
    assert visitor.bytes_on_the_way == 0


def test_a_file_that_is_too_large_is_refused_before_it_is_sent(
    server: ViewerServer, source: Recorder
):
    visitor = Visitor(server)
    transfer = visitor.announce(limit.LARGEST_UPLOAD + 1, 129)
    for index in range(5):
        visitor.send_part(transfer, index, b"x" * PART_BYTES)
    until(lambda: "at most 64 MB are accepted" in visitor.status, "the reason")
    visitor.upload(b"small", name="small.jpg")
    until(lambda: source.thumbnails == ["small.jpg"], "the next photo")
    assert visitor.bytes_on_the_way == 0


def test_a_file_that_is_longer_than_announced_is_dropped(server: ViewerServer, source: Recorder):
    visitor = Visitor(server)
    transfer = visitor.announce(10, 3)
    visitor.send_part(transfer, 0, b"x" * 100)
    until(lambda: "longer than announced" in visitor.status, "the reason")
    assert visitor.bytes_on_the_way == 0
    assert source.thumbnails == []


def test_a_browser_cannot_begin_any_number_of_uploads(server: ViewerServer):
    visitor = Visitor(server)
    for _ in range(10):
        transfer = visitor.announce(2 * PART_BYTES, 2)
        visitor.send_part(transfer, 0, b"x" * PART_BYTES)
    until(lambda: "Wait until the other photos are there" in visitor.status, "the reason")
    until(lambda: visitor.bytes_on_the_way == limit.MOST_UPLOADS * PART_BYTES, "the first two")


def test_nonsense_ends_its_own_connection_only(server: ViewerServer, source: Recorder):
    well_behaved = Visitor(server)
    for nonsense in (b"", b"\xff\x00", b"\x81\xa4type\xa4None", b"\x80"):
        visitor = Visitor(server)
        visitor.send_bytes(nonsense)
        assert visitor.closed.wait(30)
    well_behaved.upload(b"photo", name="a.jpg")
    until(lambda: source.thumbnails == ["a.jpg"], "the photo")


def test_photos_requests_and_scenes_of_a_browser_are_gone_when_it_leaves(
    server: ViewerServer, source: Recorder, scene: Scene
):
    visitor = with_two_photos(server)
    visitor.press(visitor.panel._photos._start)
    until(lambda: bool(source.listeners), "the request")
    (client,) = source.listeners
    shown = replace(scene)
    scene_is_kept = weakref.ref(shown)
    visitor.panel.show(shown, "a scene")
    del shown
    unfinished = visitor.announce(2 * PART_BYTES, 2)
    visitor.send_part(unfinished, 0, b"x" * PART_BYTES)
    visitor.leave()
    assert source.withdrawn == [client]
    del visitor

    def kept() -> list[object]:
        gc.collect()
        found = [x for x in gc.get_objects() if type(x) in (Upload, UploadedFile)]
        return [x for x in found if x.content]

    until(lambda: not kept() and scene_is_kept() is None, "that photos and scene are gone")


def begun(server: ViewerServer, source: Recorder) -> tuple[Visitor, SceneListener]:
    visitor = with_two_photos(server)
    visitor.press(visitor.panel._photos._start)
    until(lambda: bool(source.listeners), "the request")
    (listener,) = source.listeners.values()
    return visitor, listener


def shown(visitor: Visitor) -> int | None:
    """How many Gaussians the page shows; None without a scene."""
    view = visitor.panel._look.view
    return None if view is None else view.scene.gaussians.count


def coarse(scene: Scene, levels: int) -> Scene:
    part = scene.gaussians[scene.gaussians.level < levels]
    return replace(scene, gaussians=part, confidence=None)


def test_coarser_levels_are_shown_while_finer_ones_are_made(
    server: ViewerServer, source: Recorder, scene: Scene
):
    visitor, listener = begun(server, source)
    for levels in (1, 2):
        listener.preview(coarse(scene, levels))
        assert shown(visitor) == coarse(scene, levels).gaussians.count
        assert not visitor.panel.has_scene
    listener.finished(scene)
    assert shown(visitor) == scene.gaussians.count
    assert visitor.panel.has_scene


def test_a_preview_of_nothing_leaves_no_trace(server: ViewerServer, source: Recorder, scene: Scene):
    visitor, listener = begun(server, source)
    listener.preview(coarse(scene, 1))
    listener.failed("The lights went out.")
    assert shown(visitor) is None
    assert "The lights went out." in visitor.status


def test_the_scene_before_comes_back_if_no_finer_levels_follow(
    server: ViewerServer, source: Recorder, scene: Scene
):
    visitor, listener = begun(server, source)
    listener.finished(scene)
    visitor.press(visitor.panel._photos._start)
    until(lambda: listener not in source.listeners.values(), "the next request")
    (listener,) = source.listeners.values()
    listener.preview(coarse(scene, 1))
    assert shown(visitor) == coarse(scene, 1).gaussians.count
    visitor.press(visitor.panel._photos._cancel)
    until(lambda: shown(visitor) == scene.gaussians.count, "the scene before")
    listener.preview(coarse(scene, 1))  # too late
    assert shown(visitor) == scene.gaussians.count


def test_a_request_that_comes_while_its_browser_leaves_is_not_made(
    server: ViewerServer, source: Recorder
):
    """A press of the button is handled on a thread, which may be late."""
    visitor = with_two_photos(server)
    photos = visitor.panel._photos
    visitor.leave()
    late = threading.Thread(target=photos._ask, args=(photos._chosen_photos,))
    late.start()
    late.join(30)
    assert source.listeners == {}


def test_two_presses_leave_one_request_awaited(server: ViewerServer, source: Recorder):
    visitor = with_two_photos(server)
    visitor.press(visitor.panel._photos._start)
    until(lambda: len(source.listeners) == 1, "the request")
    (first,) = source.listeners.values()
    visitor.press(visitor.panel._photos._start)
    until(lambda: first not in source.listeners.values(), "the second request")
    first.failed("an old answer")
    (second,) = source.listeners.values()
    second.waiting(3)
    assert "3 before you" in visitor.status
    second.progress("doing something", 0.5)
    assert "Doing something" in visitor.status
    second.failed("no luck")
    assert "no luck" in visitor.status


def test_cancelling_withdraws_and_says_so(server: ViewerServer, source: Recorder):
    visitor = with_two_photos(server)
    visitor.press(visitor.panel._photos._start)
    until(lambda: len(source.listeners) == 1, "the request")
    visitor.press(visitor.panel._photos._cancel)
    until(lambda: "Cancelled." in visitor.status, "the end")
    until(lambda: len(source.withdrawn) == 1, "the withdrawal")


def test_photos_of_a_scene_shown_at_the_start_are_there_to_go_on_with(
    server: ViewerServer, source: Recorder, scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    requests: list[PhotoSet] = []
    monkeypatch.setattr(source, "request", lambda client, photos, listener: requests.append(photos))
    early = Visitor(server)
    early.upload(b"own", 0, "own.jpg")
    until(lambda: "other photo" in early.status, "the photo")
    photos = PhotoSet((Upload("a.jpg", b"a"), Upload("b.jpg", b"b")), focal_px=700.0)
    server.show(scene, "a scene", photos)
    late = Visitor(server)
    until(lambda: late.panel.has_scene, "the scene")
    late.press(late.panel._photos._start)
    until(lambda: bool(requests), "the request")
    assert requests == [photos]
    uploads = [slot.upload for slot in early.panel._photos._photos._slots]
    assert uploads == [Upload("own.jpg", b"own"), None]
