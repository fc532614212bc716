"""The examples run, and what they add is what the seams ask for."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

from hisplat_data_tools.ply import read_ply, write_ply
from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import Gaussians
from hisplat_models.rendering import CpuRenderer, Renderer
from hisplat_models.training.feed import ExampleDataset

ROOT = Path(__file__).resolve().parents[1]


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blobs() -> Gaussians:
    """Two overlapping Gaussians in front of the origin."""
    return Gaussians(
        means=torch.tensor([[0.0, 0, 2], [0.3, 0.1, 3]]),
        scales=torch.full((2, 3), 0.4),
        quaternions_wxyz=torch.tensor([[1.0, 0, 0, 0]]).expand(2, 4),
        opacities=torch.tensor([0.9, 0.6]),
        harmonics=torch.tensor([[[1.0, 0, -1]], [[0.0, 1, 0]]]),
        level=torch.zeros(2, dtype=torch.long),
    )


def camera() -> Cameras:
    intrinsics = torch.tensor([[1.0, 0, 0.5], [0, 1.0, 0.5], [0, 0, 1.0]])
    ones = torch.ones(1, 1)
    return Cameras(torch.eye(4)[None, None], intrinsics[None, None], ones, 10 * ones)


def test_two_photos_make_a_scene_with_cameras_and_a_picture(tmp_path: Path):
    (left,) = (ROOT / "hisplat_app").rglob("left.jpg")
    example("two_photos").main(left, left.with_name("right.jpg"), tmp_path / "out", size=160)
    assert read_ply(tmp_path / "out/scene.ply").count > 1000
    assert len(json.loads((tmp_path / "out/cameras.json").read_text())["images"]) == 2
    assert Image.open(tmp_path / "out/between.png").getextrema() != ((0, 0), (0, 0), (0, 0))


def test_own_renderer_obeys_the_protocol_and_averages():
    renderer = example("own_renderer").Supersampled(CpuRenderer(), factor=2)
    assert isinstance(renderer, Renderer)
    drawn = renderer(blobs()[None], camera(), (12, 16))
    large = CpuRenderer()(blobs()[None], camera(), (24, 32))
    blocks = large.color.unflatten(-1, (16, 2)).unflatten(-3, (12, 2))
    torch.testing.assert_close(drawn.color, blocks.mean(dim=(-1, -3)))
    assert drawn.alpha.max() > 0.5


def test_own_renderer_serves_the_network(capsys: pytest.CaptureFixture[str]):
    example("own_renderer").main()
    assert int(capsys.readouterr().out.split()[0]) > 2 * 64 * 64


def test_own_dataset_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    module = example("own_dataset")
    assert isinstance(module.Walls(1), ExampleDataset)
    module.main(tmp_path, steps=2)
    assert "step 2: loss" in capsys.readouterr().out
    assert list(tmp_path.glob("*.safetensors"))


def test_own_writer_writes_a_line_for_each_gaussian(tmp_path: Path):
    write_ply(tmp_path / "scene.ply", blobs())
    example("own_writer").main(tmp_path / "scene.ply", tmp_path / "points.xyz")
    first, second = (tmp_path / "points.xyz").read_text().splitlines()
    assert first.split() == ["0", "0", "2", "199", "128", "56"]
    assert len(second.split()) == 6


def test_a_network_of_ones_own_is_cut_and_still_does_its_work(tmp_path: Path):
    torch.manual_seed(0)
    module = example("compress_own_network")
    small, right = module.main(tmp_path / "small.safetensors", epochs=4)
    whole = module.resnet()

    def size(network: torch.nn.Module) -> int:
        return sum(values.numel() for values in network.parameters())

    assert size(small) < 0.6 * size(whole)
    assert right > 80
