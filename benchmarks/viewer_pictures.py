"""The pictures of docs/viewer.md: the page in Chromium with the bundled, made-up pair of photos.

Usage: python benchmarks/viewer_pictures.py --output docs/images
"""

import io
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

import hisplat_app
from hisplat_app.page_scenes import page_scene, page_writers
from hisplat_app.reconstruction import reconstruct
from hisplat_viewer import Offer, PhotoSet, SceneListener, Upload, ViewerServer

DEMO = Path(hisplat_app.__file__).parent / "demo"
FLAGS = (
    "--no-sandbox --use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader "
    "--disable-dev-shm-usage --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
DESKTOP, PHONE = (900, 640), (390, 844)
QUALITY = 80
WAIT_S = 120


@dataclass(frozen=True)
class Options:
    """Takes the pictures of the documentation."""

    output: Path = Path("docs/images")
    """Folder for the pictures."""
    size: int = 128
    """Working size; WebGL in software takes seconds a frame for more."""
    only: tuple[str, ...] = ()
    """Names of the pictures to take; by default all."""


class NoScenes:
    """A source that is never asked."""

    offer = Offer()

    def request(self, client: str, photos: PhotoSet, listener: SceneListener) -> None:
        """Nothing is made."""
        listener.failed("There is nothing here.")

    def withdraw(self, client: str) -> None:
        """There is nothing to drop."""

    def thumbnail(self, upload: Upload, long_side: int) -> np.ndarray:
        """There is nothing to show."""
        raise ValueError(f"{upload.name} is no photo.")


def main(options: Options) -> None:
    """Serves the scene, looks at it in every way, and saves what is on the screen."""
    scene = page_scene(
        reconstruct(
            DEMO / "left.jpg",
            DEMO / "right.jpg",
            cameras=DEMO / "cameras.json",
            size=options.size,
        )
    )
    program = shutil.which("chromium")
    with ViewerServer(NoScenes(), page_writers(), port=0) as server, sync_playwright() as play:
        server.show(scene)
        browser = play.chromium.launch(executable_path=program, headless=True, args=FLAGS)
        page = open_page(browser, server.url, DESKTOP)

        def keep(name: str) -> None:
            if options.only and name not in options.only:
                return
            image = settled(page)
            image.save(options.output / f"viewer_{name}.jpg", quality=QUALITY, optimize=True)

        for name, look in LOOKS.items():
            look(page)
            keep(name)
        page.context.close()
        page = open_page(browser, server.url, PHONE)
        keep("phone")
        browser.close()


def open_page(browser: Browser, url: str, size: tuple[int, int]) -> Page:
    """A new window with the scene in it, without the browser's notice about its graphics."""
    width, height = size
    page = browser.new_context(viewport={"width": width, "height": height}).new_page()
    page.set_default_timeout(1000 * WAIT_S)
    page.goto(url)
    page.get_by_role("button", name="Reset view").wait_for(state="attached")
    page.add_style_tag(content="[class*=Notifications-root] { display: none }")
    return page


def settled(page: Page) -> Image.Image:
    """The picture when it doesn't change any more."""
    last, deadline = None, time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        page.wait_for_timeout(3000)
        image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        if last is not None and np.array_equal(np.asarray(image), np.asarray(last)):
            return image
        last = image
    raise TimeoutError("The page did not come to rest.")


def press(page: Page, name: str) -> None:
    """Clicks a button."""
    page.get_by_role("button", name=name, exact=True).click()


def choose(page: Page, label: str, option: str) -> None:
    """Picks from a dropdown."""
    page.get_by_role("combobox", name=label, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()


def tick(page: Page, folder: str | None, name: str) -> None:
    """Ticks a box, in a folder that is opened first."""
    if folder is not None:
        page.get_by_text(folder, exact=True).click()
    page.get_by_role("checkbox", name=name).check()


def compared(page: Page) -> None:
    """The left photo over the left half."""
    choose(page, "Show", "Colour")
    press(page, "Left")
    choose(page, "Compare with", "Photo")


def difference(page: Page) -> None:
    """Where it differs from the scene, over the left half."""
    choose(page, "Compare with", "Difference")


def cropped(page: Page) -> None:
    """A box around the scene, from the overview."""
    press(page, "Reset view")
    press(page, "Overview")
    tick(page, "Filters", "Crop box")


def dark(page: Page) -> None:
    """The dark page without the box."""
    press(page, "No filters")
    page.get_by_text("Filters", exact=True).click()
    tick(page, "Appearance", "Dark")


LOOKS: dict[str, Callable[[Page], None]] = {
    "first": lambda page: None,
    "overview": lambda page: press(page, "Overview"),
    "coarse": lambda page: press(page, "Coarse"),
    "depth": lambda page: (press(page, "All"), choose(page, "Show", "Depth"))[0],
    "confidence": lambda page: choose(page, "Show", "Confidence"),
    "error": lambda page: choose(page, "Show", "Error"),
    "compare": compared,
    "difference": difference,
    "crop": cropped,
    "dark": dark,
}

if __name__ == "__main__":
    main(tyro.cli(Options))
