"""A real Chromium and a page served by this process, with the network as it is before training."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from hisplat_app.page_files import PageFiles
from hisplat_app.page_scenes import PageScenes, page_writers
from hisplat_app.reconstruction_session import ReconstructionSession
from hisplat_models.checkpoints import save_model
from hisplat_models.config import PRESETS
from hisplat_models.network import HiSplat
from hisplat_viewer import ViewerServer

SIZE = 64  # few enough splats for WebGL in software
FLAGS = (
    "--no-sandbox --use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader "
    "--disable-dev-shm-usage --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
TIMEOUT_MS = 240_000
WINDOW: ViewportSize = {"width": 720, "height": 480}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not (program and Path(program).is_file()):
        reason = "needs Chromium: install it or set CHROMIUM"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageScenes]:
    weights = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_model(HiSplat(PRESETS["hisplat-small"]), weights)
    with ReconstructionSession(str(weights), "cpu", SIZE, warm_up=False, refine=0) as session:
        yield PageScenes(session, str(weights), SIZE)


@pytest.fixture(scope="module")
def server(source: PageScenes) -> Iterator[ViewerServer]:
    with ViewerServer(source, page_writers(), port=0, saver=PageFiles()) as server:
        yield server


@pytest.fixture
def page(browser: Browser, server: ViewerServer) -> Iterator[Page]:
    yield from open_page(browser, server)


@pytest.fixture
def other_page(browser: Browser, server: ViewerServer) -> Iterator[Page]:
    """A second browser with nothing in common with the first."""
    yield from open_page(browser, server)


def open_page(browser: Browser, server: ViewerServer) -> Iterator[Page]:
    context = browser.new_context(viewport=WINDOW, accept_downloads=True)
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    page.goto(server.url)
    page.get_by_text("Left photo").wait_for()
    yield page
    context.close()
