"""The page in a real browser, from the upload to the file that is saved."""

import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import FloatRect, Locator, Page

import hisplat_app
from hisplat_data_tools.ply import read_ply

DEMO = Path(hisplat_app.__file__).parent / "demo"
PAIR = (DEMO / "left.jpg", DEMO / "right.jpg")
LEVELS = ("Coarse", "Middle", "Fine")
# Beside the panel and below notices.
PICTURE: FloatRect = {"x": 0, "y": 170, "width": 370, "height": 310}
WAIT_S = 240

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


def upload(page: Page, side: str, file: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name=f"{side} photo").click()
    chooser.value.set_files(file)


def reconstruct(page: Page, left: Path, right: Path) -> str:
    """Uploads, presses the button, waits; the text that then describes the scene."""
    button = page.get_by_role("button", name="Reconstruct")
    upload(page, "Left", left)
    page.get_by_text("Now the other photo.").wait_for()
    assert button.is_disabled()
    upload(page, "Right", right)
    page.get_by_text("Ready.").wait_for()
    button.click()
    summary = page.get_by_text("Gaussians from two photos")
    summary.wait_for()
    return summary.inner_text()


def box(page: Page, name: str) -> Locator:
    return page.get_by_role("checkbox", name=name)


def picture(page: Page) -> np.ndarray:
    """The part of the window that shows nothing but the scene, (height, width, 3) in [0, 1]."""
    png = page.screenshot(clip=PICTURE)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=np.float64) / 255


def settled(page: Page, accept: Callable[[np.ndarray], bool], what: str) -> np.ndarray:
    """The first picture that is accepted and doesn't change any more."""
    deadline = time.monotonic() + WAIT_S
    last = picture(page)
    while time.monotonic() < deadline:
        page.wait_for_timeout(300)
        now = picture(page)
        if accept(now) and difference(now, last) < 1e-3:
            return now
        last = now
    pytest.fail(f"the picture never showed {what}")


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).mean())


def photo_in_window(page: Page, file: Path) -> tuple[np.ndarray, np.ndarray]:
    """What ``picture`` shows of a photo that just fits into the window, and where it does."""
    window = page.viewport_size
    assert window is not None
    photo = Image.open(file).convert("RGB")
    scale = min(window["width"] / photo.width, window["height"] / photo.height)
    width, height = round(photo.width * scale), round(photo.height * scale)
    x, y = (window["width"] - width) // 2, (window["height"] - height) // 2
    whole = np.full((window["height"], window["width"], 3), np.nan)
    whole[y : y + height, x : x + width] = np.asarray(photo.resize((width, height))) / 255
    rows = slice(int(PICTURE["y"]), int(PICTURE["y"] + PICTURE["height"]))
    part = whole[rows, : int(PICTURE["width"])]
    return part, np.asarray(np.isfinite(part).all(axis=-1))


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two lists of colours, in [-1, 1]."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    return float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))


def keep_screenshot(page: Page, name: str) -> None:
    """Saves what is on the screen for people, if they say where."""
    folder = os.environ.get("HISPLAT_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png")


def test_two_photos_become_splats_that_can_be_looked_at_and_saved(page: Page, tmp_path: Path):
    empty = settled(page, lambda p: True, "the empty page")
    summary = reconstruct(page, *PAIR)
    shown = settled(page, lambda p: difference(p, empty) > 0.05, "splats")
    keep_screenshot(page, "demo")
    assert shown.std(axis=(0, 1)).min() > 0.02, "the splats are one flat colour"

    box(page, "Cameras").uncheck()
    without_cameras = settled(page, lambda p: difference(p, shown) > 1e-3, "no cameras")
    before = without_cameras
    for level in reversed(LEVELS):
        box(page, level).uncheck()
        before = settled(page, lambda p, b=before: difference(p, b) > 1e-3, f"no {level} level")
        keep_screenshot(page, f"without_{level}")
    assert difference(before, empty) < 2e-3, "something is left without any level"
    for level in LEVELS:
        box(page, level).check()
    settled(page, lambda p: difference(p, without_cameras) < 5e-3, "all levels again")

    page.get_by_role("button", name="Left", exact=True).click()
    expected, inside = photo_in_window(page, PAIR[0])
    left = settled(page, lambda p: likeness(p[inside], expected[inside]) > 0.8, "the left photo")
    assert (left[inside].min(axis=-1) > 0.99).mean() < 0.02, "there are holes in the scene"
    keep_screenshot(page, "left_view")
    page.get_by_role("button", name="Right", exact=True).click()
    settled(page, lambda p: difference(p, left) > 5e-3, "the right view")

    with page.expect_download() as download:
        page.get_by_role("button", name="Download .ply").click()
    download.value.save_as(tmp_path / "scene.ply")
    gaussians = read_ply(tmp_path / "scene.ply")
    assert f"{gaussians.count:,} Gaussians" in summary
    assert gaussians.level.unique().tolist() == [0, 1, 2]


def test_browsers_have_their_own_photos_and_scenes(page: Page, other_page: Page, tmp_path: Path):
    mine = reconstruct(page, *PAIR)
    shown = settled(page, lambda p: p.std() > 0.02, "splats")
    assert other_page.get_by_text("Choose two photos of one scene.").is_visible()
    assert other_page.get_by_text("Download .ply").count() == 0
    cropped = []
    for file in PAIR:
        photo = Image.open(file)
        cropped.append(tmp_path / file.name)
        photo.crop((0, 0, photo.width, photo.height // 2)).save(cropped[-1])
    theirs = reconstruct(other_page, *cropped)
    assert theirs != mine
    assert page.get_by_text("Gaussians from two photos").inner_text() == mine
    assert difference(picture(page), shown) < 1e-3


def test_bad_uploads_are_explained_and_the_page_goes_on(page: Page, tmp_path: Path):
    garbage = tmp_path / "<b>notes.jpg"
    garbage.write_text("no photo at all")
    upload(page, "Left", garbage)
    page.get_by_text("is not an image that can be read").wait_for()
    keep_screenshot(page, "garbage")
    assert page.get_by_role("button", name="Reconstruct").is_disabled()

    upload(page, "Left", PAIR[0])
    page.get_by_text("Now the other photo.").wait_for()
    upload(page, "Right", PAIR[0])
    page.get_by_text("Ready.").wait_for()
    page.get_by_role("button", name="Reconstruct").click()
    page.get_by_text("The camera hardly moved between the photos").wait_for()
    keep_screenshot(page, "same_photo_twice")

    upload(page, "Right", PAIR[1])
    page.get_by_text("Ready.").wait_for()
    page.get_by_role("button", name="Reconstruct").click()
    page.get_by_text("Gaussians from two photos").wait_for()


def test_real_photos_become_splats(page: Page, data_dir: Path):
    folder = data_dir / "fountain_p11"
    empty = settled(page, lambda p: True, "the empty page")
    reconstruct(page, folder / "002.jpg", folder / "000.jpg")
    settled(page, lambda p: difference(p, empty) > 0.05 and p.std() > 0.05, "splats")
    keep_screenshot(page, "fountain")
