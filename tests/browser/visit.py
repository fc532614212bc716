"""What a person does with the page, and what they see of it."""

import html
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

DEMO = Path(hisplat_app.__file__).parent / "demo"
PAIR = (DEMO / "left.jpg", DEMO / "right.jpg")
# Beside the panel and below notices.
PICTURE: FloatRect = {"x": 0, "y": 170, "width": 370, "height": 310}
WAIT_S = 120

_screenshots: dict[str, str] = {}
_GALLERY = """<!doctype html><meta charset="utf-8"><title>What the browser tests saw</title>
<style>body{font:15px sans-serif;display:flex;flex-wrap:wrap;gap:1em;margin:1em}
figure{margin:0;max-width:480px}img{max-width:100%;border:1px solid #ccc}small{color:#777}</style>
"""


def upload(page: Page, side: str, file: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name=f"{side} photo").click()
    chooser.value.set_files(file)


def choose_pair(page: Page, left: Path, right: Path) -> None:
    """Uploads both photos and waits until they are there."""
    upload(page, "Left", left)
    page.get_by_text("Now the other photo.").wait_for()
    upload(page, "Right", right)
    page.get_by_text("Ready.").wait_for()


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
    """Saves what is on the screen for people, if they say where, and adds it to a page there."""
    folder = os.environ.get("HISPLAT_SCREENSHOTS")
    if folder:
        file = Path(folder) / f"{name}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=file, type="jpeg", quality=80)
        test = os.environ["PYTEST_CURRENT_TEST"].partition(" ")[0].rpartition("::")[2]
        _screenshots[file.name] = test.removeprefix("test_").replace("_", " ")
        figures = "".join(
            f'<figure><img src="{file}" loading="lazy"><figcaption>{html.escape(what)} '
            f"<small>{file}</small></figcaption></figure>\n"
            for file, what in _screenshots.items()
        )
        (Path(folder) / "index.html").write_text(_GALLERY + figures, encoding="utf-8")
