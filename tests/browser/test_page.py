"""The page in a real browser, from the upload to the file that is saved."""

from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page

from hisplat_data_tools.ply import read_ply

from .visit import (
    PAIR,
    difference,
    keep_screenshot,
    likeness,
    photo_in_window,
    picture,
    reconstruct,
    settled,
    upload,
)

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


def test_two_photos_become_splats_that_can_be_looked_at_and_saved(page: Page, tmp_path: Path):
    empty = settled(page, lambda p: True, "the empty page")
    summary = reconstruct(page, *PAIR)
    shown = settled(page, lambda p: difference(p, empty) > 0.05, "splats")
    keep_screenshot(page, "demo")
    assert shown.std(axis=(0, 1)).min() > 0.02, "the splats are one flat colour"
    page.get_by_text("About this scene", exact=True).click()
    for row in ("Depth agreed on", "Matching points", "Time: matching the photos", "Time: in all"):
        page.get_by_role("cell", name=row, exact=True).wait_for()
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
