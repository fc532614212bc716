"""Working with the page in a real browser: what is interrupted, repeated, shared and refused."""

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, Dialog, Page, expect

from hisplat_app import reconstruction_session
from hisplat_app.page_scenes import file_scene
from hisplat_data_tools.scene_files import read_scene, write_scene
from hisplat_models.gaussians import Gaussians
from hisplat_viewer import ViewerServer
from tests.no_scenes import NoScenes

from .conftest import TIMEOUT_MS, open_page
from .odd_files import odd_files
from .visit import (
    DEMO,
    PAIR,
    choose_pair,
    difference,
    keep_screenshot,
    settled,
    upload,
)

EXAMPLE = "Try: Room with a table"
FIRST_WORDS = "Choose two photos of one scene."
SUMMARY = "Gaussians from two photos"
WAIT_S = 120

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


class Held:
    """Reconstructions wait for ``let_through``, each once it has begun."""

    def __init__(self, work: Callable[..., Any]) -> None:
        self._work = work
        self.begun = threading.Semaphore(0)
        self._open = threading.Event()

    def __call__(self, *photos: Any, progress: Callable[[str, float], None], **options: Any) -> Any:
        progress("holding on", 0.1)
        self.begun.release()
        while not self._open.wait(0.1):
            progress("holding on", 0.1)  # raises when it is cancelled
        return self._work(*photos, progress=progress, **options)

    def wait_until_begun(self) -> None:
        assert self.begun.acquire(timeout=WAIT_S)

    def let_through(self) -> None:
        self._open.set()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    held = Held(reconstruction_session.reconstruct)
    monkeypatch.setattr(reconstruction_session, "reconstruct", held)
    yield held
    held.let_through()


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name).click()


def status(page: Page, text: str) -> None:
    """Waits until the page says so."""
    page.get_by_text(text).first.wait_for()


def thumbnail_colors(page: Page) -> list[int]:
    """The strongest channel of the left and the right thumbnail, as they are on the screen."""
    content = page.locator("img:visible").first.screenshot()
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), dtype=float)
    left, right = np.array_split(pixels, 2, axis=1)
    return [int(half.mean(axis=(0, 1)).argmax()) for half in (left, right)]


def test_photos_can_change_sides(page: Page, tmp_path: Path):
    for name, color in (("red", (200, 0, 0)), ("blue", (0, 0, 200))):
        Image.new("RGB", (64, 64), color).save(tmp_path / f"{name}.png")
    choose_pair(page, tmp_path / "red.png", tmp_path / "blue.png")
    while thumbnail_colors(page) != [0, 2]:
        page.wait_for_timeout(100)
    press(page, "Swap")
    while thumbnail_colors(page) != [2, 0]:
        page.wait_for_timeout(100)


def test_a_third_photo_is_added(page: Page):
    more = page.get_by_role("button", name="One more photo")
    expect(more).to_be_hidden()
    choose_pair(page, *PAIR)
    page.get_by_text("More photos", exact=True).click()
    upload(page, "One more", DEMO / "middle.jpg")
    remove = page.get_by_role("button", name="Remove the last one")
    remove.wait_for()
    press(page, "Reconstruct")
    page.get_by_text("Gaussians from three photos").wait_for()
    press(page, "3")
    page.get_by_text("Photo 3 and what is shown: PSNR").wait_for()
    keep_screenshot(page, "three_photos")
    remove.click()
    expect(remove).to_be_hidden()


def test_a_known_lens_is_used(page: Page):
    choose_pair(page, *PAIR)
    page.get_by_text("Settings", exact=True).click()
    page.get_by_role("combobox", name="Lens", exact=True).click()
    page.get_by_role("option", name="Field of view (°)", exact=True).click()
    value = page.get_by_label("Field of view (°)", exact=True).locator("visible=true").last
    value.fill("61")
    value.press("Enter")
    press(page, "Reconstruct")
    status(page, SUMMARY)
    status(page, "with the given focal length")


def test_scenes_are_kept_to_go_back_to(page: Page):
    press(page, EXAMPLE)
    status(page, SUMMARY)
    first = page.get_by_text(SUMMARY).inner_text()
    press(page, "Swap")
    status(page, "Ready.")
    press(page, "Reconstruct")
    history = page.get_by_label("History")
    expect(history).to_have_value("2: right.jpg + left.jpg", timeout=TIMEOUT_MS)
    keep_screenshot(page, "history")
    history.click()
    page.get_by_role("option", name="1: left.jpg + right.jpg").click()
    expect(page.get_by_text(SUMMARY)).to_contain_text(first[:40], timeout=TIMEOUT_MS)


def test_waiting_and_cancelling(page: Page, other_page: Page, held: Held):
    press(page, EXAMPLE)
    held.wait_until_begun()
    status(page, "Holding on …")
    press(other_page, EXAMPLE)
    status(other_page, "Waiting: 1 before you …")
    keep_screenshot(other_page, "waiting")
    press(page, "Cancel")
    status(page, "Cancelled.")
    held.wait_until_begun()
    status(other_page, "Holding on …")
    held.let_through()
    status(other_page, SUMMARY)
    assert page.get_by_text(SUMMARY).count() == 0
    press(page, EXAMPLE)
    status(page, SUMMARY)


def test_the_scene_stays_until_the_next_one_is_there(page: Page, held: Held):
    held.let_through()
    press(page, EXAMPLE)
    status(page, SUMMARY)
    shown = settled(page, lambda p: p.std() > 0.02, "splats")
    upload(page, "Left", PAIR[1])
    status(page, "Ready.")
    press(page, "Reconstruct")
    status(page, "The camera hardly moved between the photos")
    # The first picture may have been taken while the browser was still sorting.
    settled(page, lambda p: difference(p, shown) < 3e-2, "kept")


def test_a_reload_in_the_middle_starts_afresh(page: Page, held: Held, server: ViewerServer):
    press(page, EXAMPLE)
    held.wait_until_begun()
    page.reload()
    status(page, FIRST_WORDS)
    assert page.get_by_role("button", name="Cancel", exact=True).count() == 0
    held.let_through()
    press(page, EXAMPLE)
    status(page, SUMMARY)
    assert len(server._panels) == 1


def test_a_dropped_connection_is_made_again(page: Page, server: ViewerServer):
    press(page, EXAMPLE)
    status(page, SUMMARY)
    server._server._websock_server.disconnect_all_clients()
    status(page, FIRST_WORDS)
    assert page.get_by_text(SUMMARY).count() == 0
    choose_pair(page, *PAIR)
    keep_screenshot(page, "connected_again")


def test_odd_files_one_after_the_other(page: Page, tmp_path: Path):
    alerts: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        alerts.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismiss)
    files = odd_files()
    assert len(files) >= 30
    upload(page, "Left", PAIR[0])
    status(page, "Now the other photo.")
    refused = 0
    start = page.get_by_role("button", name="Reconstruct")
    for number, (name, (content, usable)) in enumerate(files.items()):
        path = tmp_path / str(number) / name
        path.parent.mkdir()
        path.write_bytes(content)
        upload(page, "Right", path)
        if usable:
            status(page, "Ready.")
            expect(start).to_be_enabled()
        else:
            expect(page.get_by_text(name, exact=False).last).to_be_visible()
            expect(start).to_be_disabled()
            refused += 1
            # A message of the next file is then seen to be new.
            upload(page, "Right", PAIR[1])
            status(page, "Ready.")
    assert refused >= 20
    assert alerts == []


def connects(page: Page, address: str) -> bool:
    """Whether a script of the page that is open gets a websocket."""
    return page.evaluate(
        """address => new Promise(resolve => {
            const socket = new WebSocket(address, "viser-v1");
            socket.onopen = () => resolve(true);
            socket.onerror = () => resolve(false);
        })""",
        address,
    )


def test_others_need_the_token_and_other_sites_stay_out(browser: Browser):
    with (
        ViewerServer(NoScenes(), {}, host="0.0.0.0", port=0) as shared,
        ViewerServer(NoScenes(), {}, port=0) as local,
    ):
        plain = shared.url.partition("?")[0]
        socket = plain.replace("http", "ws")
        context = browser.new_context()
        stranger = context.new_page()
        answer = stranger.goto(plain)
        assert answer is not None
        assert answer.status == 401
        assert not connects(stranger, socket)
        keep_screenshot(stranger, "no_token")
        context.close()

        for friend in open_page(browser, shared):
            assert friend.url == plain
            assert connects(friend, socket)
            assert not connects(friend, local.url.replace("http", "ws"))
            friend.goto(local.url)
            assert not connects(friend, socket), "another page used the cookie"
            friend.goto(plain)
            status(friend, FIRST_WORDS)


def test_a_scene_file_is_shown_without_photos(browser: Browser, tmp_path: Path):
    generator = torch.Generator().manual_seed(0)
    count = 400
    gaussians = Gaussians(
        means=torch.randn(count, 3, generator=generator) * 3 + 50,
        scales=torch.full((count, 3), 0.3),
        quaternions_wxyz=torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1),
        opacities=torch.full((count,), 0.9),
        harmonics=torch.randn(count, 1, 3, generator=generator),
        level=torch.zeros(count, dtype=torch.long),
    )
    write_scene(tmp_path / "blob.splat", gaussians)
    opened = read_scene(tmp_path / "blob.splat")
    with ViewerServer(NoScenes(), {}, port=0) as server:
        server.show(file_scene(opened, "blob.splat"), "blob.splat")
        for page in open_page(browser, server):
            status(page, "400 Gaussians from blob.splat.")
            settled(page, lambda p: p.std() > 0.05, "splats")
            keep_screenshot(page, "scene_file")
            expect(page.get_by_role("checkbox", name="Cameras")).to_have_count(0)
