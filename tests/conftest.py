"""Shared fixtures; shapes of all annotated functions of our packages are checked at run time."""

import os
from pathlib import Path

# Spinning threads slow a busy machine many times over; read once, when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch
from jaxtyping import install_import_hook

install_import_hook(
    ["hisplat_models", "hisplat_data_tools", "hisplat_viewer", "hisplat_app"], "beartype.beartype"
)
torch.set_num_threads(min(2, os.cpu_count() or 1))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real photos with known cameras; tests that need it are skipped without it."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("HISPLAT_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"needs real photos: set HISPLAT_DATA (looked in {folder})")
    return folder
