"""The benchmark of learning one real pair by heart, in small."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def overfit() -> ModuleType:
    path = ROOT / "benchmarks" / "overfit.py"
    spec = importlib.util.spec_from_file_location("overfit", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_small_network_learns_a_real_pair_by_heart(
    overfit: ModuleType, data_dir: Path, tmp_path: Path
):
    output = tmp_path / "overfit.json"
    options = overfit.Options(data_dir, size=128, steps=8, learning_rate=3e-3, output=output)
    overfit.main(options)
    result = json.loads(output.read_text())["hisplat-small fountain_p11 128"]
    (_, first), *_, (_, last) = result["psnr"]
    # The analytic scene it starts from is good at its own photos already.
    assert last >= 30
    assert last > first + 0.2


def test_a_squared_pair_sees_what_it_saw_before(overfit: ModuleType, data_dir: Path):
    """A point of the scene falls on the same colours before and after the crop."""
    from hisplat_data_tools.datasets import PosedFolderDataset

    whole = PosedFolderDataset(data_dir / "fountain_p11", long_side=640)[0]
    square = overfit.squared(whole, 64)
    assert square.context_images.shape[-2:] == (64, 64)
    assert square.target_images is square.context_images
    height, width = whole.context_images.shape[-2:]
    side = min(height, width)
    point = whole.context_cameras.positions[:1] + 5 * whole.context_cameras.rays(3, 3)[:1, 1, 1]
    before = whole.context_cameras.project(point[None].expand(2, 1, 3))[..., :2]
    after = square.context_cameras.project(point[None].expand(2, 1, 3))[..., :2]
    left, top = (width - side) // 2, (height - side) // 2
    expected = (before * before.new_tensor([width, height]) - before.new_tensor([left, top])) / side
    assert (after - expected).abs().max() < 1e-5
