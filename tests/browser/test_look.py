"""What the controls for looking do to the picture, in a real browser."""

import re
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page, expect

from hisplat_app.page_scenes import file_scene, page_scene
from hisplat_app.reconstruction import reconstruct
from hisplat_models.config import PRESETS
from hisplat_models.gaussians import quaternions_to_matrices
from hisplat_models.network import HiSplat
from hisplat_viewer import Scene, ViewerServer
from tests.no_scenes import NoScenes

from .conftest import open_page
from .visit import (
    PAIR,
    box,
    difference,
    keep_screenshot,
    likeness,
    photo_in_window,
    picture,
    settled,
)

CAMERAS = PAIR[0].parent / "cameras.json"
SIZE = 64  # few enough splats for WebGL in software

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def scene() -> Scene:
    """The bundled pair, by the network as it is before training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = HiSplat(PRESETS["hisplat-small"]).eval()
    return page_scene(reconstruct(*PAIR, cameras=CAMERAS, model=network, size=SIZE))


@pytest.fixture(scope="module")
def server(scene: Scene) -> Iterator[ViewerServer]:
    with ViewerServer(NoScenes(), {}, port=0) as server:
        server.show(scene)
        yield server


@pytest.fixture
def page(browser: Browser, server: ViewerServer) -> Iterator[Page]:
    for page in open_page(browser, server):
        page.get_by_role("button", name="Reset view").wait_for()
        page.mouse.move(100, 300)  # away from anything that changes under it
        yield page


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def choose(page: Page, label: str, option: str) -> None:
    """Picks from a dropdown."""
    page.get_by_role("combobox", name=label, exact=True).click()
    page.get_by_role("option", name=option, exact=True).click()


def enter(page: Page, label: str, number: str) -> None:
    """Types into the first field beside a label."""
    row = page.get_by_text(label, exact=True).locator("xpath=ancestor::*[.//input][1]")
    field = row.locator("input[type=text]").first
    field.fill(number)
    field.press("Enter")


def camera_on_screen(page: Page, server: ViewerServer, photo: int) -> tuple[float, float]:
    """Where the middle of a photo is that a camera is drawn with."""
    number = max(server._panels)
    view, eye = server._panels[number]._look.view, server._server.get_clients()[number].camera
    assert view is not None
    pose, handle = view.eye._poses[photo], view._frustums._handles[photo]
    # viser's frustums all have the volume of a cube.
    height = np.tan(pose.fov_y / 2)
    width = height * handle.aspect
    length = handle.scale / np.cbrt(width * height / 3)
    turn = quaternions_to_matrices(torch.from_numpy(eye.wxyz)).numpy()
    x, y, z = turn.T @ (pose.position + length * pose.forward - eye.position)
    window = page.viewport_size
    assert window is not None
    focal_px = window["height"] / 2 / np.tan(eye.fov / 2)
    return window["width"] / 2 + focal_px * x / z, window["height"] / 2 + focal_px * y / z


def splats(page: Page) -> np.ndarray:
    return settled(page, lambda p: p.std() > 0.05, "splats")


def changed(page: Page, before: np.ndarray, what: str) -> np.ndarray:
    return settled(page, lambda p: difference(p, before) > 5e-3, what)


def test_first_view_is_that_of_the_left_photo(page: Page):
    expected, inside = photo_in_window(page, PAIR[0])
    shown = settled(page, lambda p: likeness(p[inside], expected[inside]) > 0.8, "the left photo")
    keep_screenshot(page, "look_first")
    press(page, "Overview")
    changed(page, shown, "the overview")
    keep_screenshot(page, "look_overview")
    press(page, "Reset view")
    settled(page, lambda p: difference(p, shown) < 5e-3, "the first view again")
    enter(page, "Field of view (°)", "90")
    changed(page, shown, "a wider view")


def test_click_on_a_camera_goes_there(page: Page, server: ViewerServer):
    first = splats(page)
    press(page, "Overview")
    changed(page, first, "the overview")
    page.mouse.click(*camera_on_screen(page, server, 0))
    page.get_by_text("Left photo and what is shown: PSNR").wait_for()
    settled(page, lambda p: difference(p, first) < 5e-3, "what the left photo shows")


def test_levels_alone_together_and_one_after_the_other(page: Page, scene: Scene):
    whole = splats(page)
    for level, name in enumerate(("Coarse", "Middle", "Fine")):
        count = int((scene.gaussians.level == level).sum())
        assert box(page, f"{name} ({count:,})").is_checked()
    press(page, "Coarse")
    coarse = changed(page, whole, "the coarse level alone")
    expect(page.get_by_text(re.compile(r"of [\d,]+ Gaussians are shown"))).to_have_count(1)
    assert not box(page, "Fine").is_checked()
    assert len(np.unique((coarse * 32).astype(int).reshape(-1, 3), axis=0)) < len(
        np.unique((whole * 32).astype(int).reshape(-1, 3), axis=0)
    ), "the coarse level shows as much detail as the whole scene"
    keep_screenshot(page, "look_coarse")
    page.get_by_role("button", name="Coarse → fine").click()
    expect(box(page, "Middle")).to_be_checked()
    expect(box(page, "Fine")).to_be_checked()
    settled(page, lambda p: difference(p, whole) < 5e-3, "all levels again")


def test_other_colours_show_other_things(page: Page):
    shown = [splats(page)]
    for name in ("Depth", "Confidence", "Level", "Error"):
        choose(page, "Show", name)
        shown.append(changed(page, shown[-1], name))
        keep_screenshot(page, f"look_{name.lower()}")
    for i, one in enumerate(shown):
        assert all(difference(one, other) > 0.02 for other in shown[:i])
    choose(page, "Show", "Colour")
    settled(page, lambda p: difference(p, shown[0]) < 5e-3, "colours again")


def test_standing_at_a_photo_compares_it_with_the_scene(page: Page):
    first = splats(page)
    press(page, "Right")
    changed(page, first, "the right view")
    score = page.get_by_text(re.compile(r"Right photo and what is shown: PSNR \d+\.\d\d dB"))
    score.wait_for()
    whole = score.inner_text()
    before = picture(page)
    expected, inside = photo_in_window(page, PAIR[1])
    choose(page, "Compare with", "Photo")
    page.get_by_text("Covered (%)").wait_for()
    over = settled(
        page,
        lambda p: (
            likeness(p[inside], expected[inside]) > likeness(before[inside], expected[inside])
        ),
        "the photo",
    )
    assert difference(over, before) > 1e-3
    keep_screenshot(page, "look_photo_over")
    choose(page, "Compare with", "Difference")
    dark = changed(page, over, "the difference")
    assert dark.mean() < over.mean()
    keep_screenshot(page, "look_difference_over")
    choose(page, "Compare with", "Nothing")
    press(page, "Coarse")
    expect(page.get_by_text(whole)).to_have_count(0)
    score.wait_for()
    assert float(score.inner_text().split("PSNR ")[1].split()[0]) < float(
        whole.split("PSNR ")[1].split()[0]
    ), "the coarse level alone is as like the photo as the whole scene"


def test_filters_leave_out_and_come_back(page: Page, scene: Scene):
    whole = splats(page)
    total = scene.gaussians.count
    everything = page.get_by_text(f"{total:,} of {total:,} Gaussians are shown.")
    page.get_by_text("Filters", exact=True).click()
    everything.wait_for()
    enter(page, "Opacity ≥", "0.9")
    everything.wait_for(state="hidden")
    enter(page, "Opacity ≥", "0")
    everything.wait_for()
    largest = page.locator(".multi-slider-thumb:visible").last.bounding_box()
    assert largest is not None
    page.mouse.move(largest["x"] + largest["width"] / 2, largest["y"] + largest["height"] / 2)
    page.mouse.down()
    page.mouse.move(largest["x"] - 20, largest["y"] + largest["height"] / 2, steps=3)
    page.mouse.up()
    everything.wait_for(state="hidden")
    press(page, "No filters")
    everything.wait_for()
    enter(page, "Scale", "0.3")
    changed(page, whole, "smaller Gaussians")
    enter(page, "Scale", "1")
    box(page, "Points").check()
    points = changed(page, whole, "points")
    keep_screenshot(page, "look_points")
    box(page, "Points").uncheck()
    settled(page, lambda p: difference(p, whole) < 5e-3, "Gaussians again")
    box(page, "Crop box").check()
    enter(page, "Box size", "0.3")
    everything.wait_for(state="hidden")
    cropped = changed(page, whole, "the crop box")
    assert difference(cropped, points) > 5e-3
    keep_screenshot(page, "look_crop")
    press(page, "No filters")
    everything.wait_for()
    settled(page, lambda p: difference(p, whole) < 5e-3, "everything again")


def test_dark_page_and_own_background(page: Page):
    plain = splats(page)
    panel = page.get_by_text("HiSplat", exact=True)
    light = panel.evaluate("e => getComputedStyle(e).color")
    page.get_by_text("Appearance", exact=True).click()
    box(page, "Dark").check()
    page.wait_for_function(
        "light => [...document.querySelectorAll('*')].some(e => e.textContent === 'HiSplat'"
        " && getComputedStyle(e).color !== light)",
        arg=light,
    )
    keep_screenshot(page, "look_dark")
    page.get_by_text("Filters", exact=True).click()
    box(page, "Points").check()
    press(page, "Coarse")
    dots = changed(page, plain, "dots of the coarse level, with much between them")
    box(page, "Own background").check()
    color = page.locator(".mantine-ColorInput-input")
    color.fill("rgb(0, 255, 0)")
    color.press("Enter")
    green = changed(page, dots, "another background")
    assert (green == (0, 1, 0)).all(axis=-1).mean() > 0.3


def test_phone_shows_scene_and_controls(browser: Browser, server: ViewerServer):
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    page.goto(server.url)
    reset = page.get_by_role("button", name="Reset view")
    reset.wait_for()
    page.wait_for_timeout(3000)
    keep_screenshot(page, "look_phone")
    place, title = reset.bounding_box(), page.get_by_text("HiSplat", exact=True)
    assert place is not None
    assert 0 <= place["x"]
    assert 300 < place["width"] <= 390 - place["x"]
    top = title.bounding_box()
    assert top is not None
    assert top["y"] > 844 / 2, "the controls hide more than half of the scene"
    title.click()  # folds the sheet
    reset.wait_for(state="hidden")
    page.wait_for_timeout(3000)
    keep_screenshot(page, "look_phone_folded")
    context.close()


def test_scene_from_a_file_is_whole_in_the_first_view(browser: Browser, scene: Scene):
    with ViewerServer(NoScenes(), {}, port=0) as server:
        server.show(file_scene(scene.gaussians, "room.ply"))
        for page in open_page(browser, server):
            page.get_by_text("Gaussians from room.ply").wait_for()
            shown = splats(page)
            keep_screenshot(page, "look_file")
            assert (shown.min(axis=-1) < 0.97).mean() > 0.2
            assert page.get_by_role("button", name="Overview", exact=True).count() == 0
            choose(page, "Up", "+y")
            changed(page, shown, "the scene upside down")
