"""A network before training, and the example pair in small."""

from pathlib import Path

import pytest
import torch
from PIL import Image

import hisplat_app
from hisplat_models.checkpoints import save_model
from hisplat_models.config import PRESETS
from hisplat_models.network import HiSplat

DEMO = Path(hisplat_app.__file__).parent / "demo"


@pytest.fixture(scope="session")
def untrained() -> HiSplat:
    """The small preset before training: it makes the layered analytic scene."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return HiSplat(PRESETS["hisplat-small"]).eval()


@pytest.fixture(scope="session")
def weights(untrained: HiSplat, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in a file."""
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    save_model(untrained, path)
    return path


@pytest.fixture(scope="session")
def demo_photos() -> tuple[Image.Image, Image.Image]:
    """The example pair at 320x240."""
    left, right = (
        Image.open(DEMO / f"{side}.jpg").convert("RGB").resize((320, 240), Image.Resampling.BOX)
        for side in ("left", "right")
    )
    return left, right
