"""Files of slim and elastic networks: they load as any other, and lie to nobody."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hisplat_models.checkpoints import CheckpointError, load_model, save_model
from hisplat_models.compression.hisplat import channel_groups, depth_space, parts_of
from hisplat_models.compression.hisplat.slim import slim_copy
from hisplat_models.compression.masks import subnet_of_sizes
from hisplat_models.network import HiSplat
from tests.models.compression.small_hisplat import KINDS, create
from tests.models.scenes import example


def opacities(network: HiSplat) -> torch.Tensor:
    scene = example(height=32, width=48)
    with torch.no_grad():
        output = network(scene.context_images[None], scene.context_cameras[None])
    return output.gaussians.opacities


def slim(kind: str) -> tuple[HiSplat, HiSplat]:
    """A network, and what is left of it at its smallest."""
    network = create(KINDS[kind])
    parts = parts_of(network)
    groups, space = channel_groups(network, parts), depth_space(network, parts)
    sizes = {group.name: group.divisor for group in groups}
    skipped = space.subnet(space.minimum).skipped
    return network, slim_copy(network, groups, subnet_of_sizes(network, groups, sizes, skipped))


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_slim_network_comes_back_from_its_file(kind: str, tmp_path: Path):
    whole, small = slim(kind)
    save_model(whole, tmp_path / "whole.safetensors")
    save_model(small, tmp_path / "slim.safetensors")
    loaded = load_model(tmp_path / "slim.safetensors")
    assert torch.equal(opacities(loaded), opacities(small))
    assert loaded.state_dict().keys() < whole.state_dict().keys()
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("slim", "whole")]
    assert sizes[0] < sizes[1]
    save_model(loaded, tmp_path / "again.safetensors")  # still slim
    assert torch.equal(opacities(load_model(tmp_path / "again.safetensors")), opacities(small))


def elastic(path: Path) -> HiSplat:
    network = create(KINDS["hisplat-small"])
    network.depths = {
        "fast": frozenset({"cnn.bottleneck.1", "transformer.layers.1"}),
        "balanced": frozenset({"transformer.layers.1"}),
    }
    save_model(network, path)
    return network


def test_an_elastic_file_holds_three_networks(tmp_path: Path):
    path = tmp_path / "elastic.safetensors"
    network = elastic(path)
    full, balanced, fast = (load_model(path, depth=d) for d in ("full", "balanced", "fast"))
    assert torch.equal(opacities(full), opacities(network))
    assert full.depths == network.depths
    counts = [sum(p.numel() for p in n.parameters()) for n in (full, balanced, fast)]
    assert counts[0] > counts[1] > counts[2]
    assert not torch.equal(opacities(fast), opacities(balanced))
    save_model(fast, tmp_path / "fast.safetensors")  # a slim file of one depth
    assert torch.equal(opacities(load_model(tmp_path / "fast.safetensors")), opacities(fast))


def test_a_depth_that_a_file_lacks_is_refused(tmp_path: Path):
    save_model(create(KINDS["hisplat-small"]), tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="no depth 'fast'"):
        load_model(tmp_path / "a.safetensors", depth="fast")


def with_metadata(path: Path, key: str, value: str) -> None:
    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata()
    save_file(load_file(path), path, {**metadata, key: value})


@pytest.mark.parametrize(
    "cut",
    [
        "no json",
        "[]",
        '{"kept": {}, "sizes": {}}',
        '{"kept": {"cnn.stem.weight": {"0": [3, 2]}}, "sizes": {}, "skipped": []}',
        '{"kept": {"cnn.stem.weight": {"0": [0, 999]}}, "sizes": {}, "skipped": []}',
        '{"kept": {"nothing": {"0": [0]}}, "sizes": {}, "skipped": []}',
        '{"kept": {}, "sizes": {"cnn": {"training": 1}}, "skipped": []}',
        '{"kept": {}, "sizes": {}, "skipped": ["cnn"]}',
        '{"kept": {}, "sizes": {}, "skipped": ["cnn.heads.0.0"]}',
    ],
)
def test_cuts_that_no_network_has_are_refused(cut: str, tmp_path: Path):
    path = tmp_path / "a.safetensors"
    save_model(slim("hisplat-small")[1], path)
    with_metadata(path, "hisplat_cut", cut)
    with pytest.raises(CheckpointError):
        load_model(path)


def test_a_cut_that_the_tensors_do_not_have_is_refused(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    save_model(create(KINDS["hisplat-small"]), path)
    cut = {"kept": {"cnn.stem.weight": {"0": [0, 1]}}, "sizes": {}, "skipped": []}
    with_metadata(path, "hisplat_cut", json.dumps(cut))
    with pytest.raises(CheckpointError, match=r"cnn\.stem\.weight: expected \(2, 3, 7, 7\)"):
        load_model(path)


@pytest.mark.parametrize(
    "depths", ["{", "{}", '{"fast": ["stages"], "balanced": []}', '{"fast": 3, "balanced": []}']
)
def test_depths_that_no_network_has_are_refused(depths: str, tmp_path: Path):
    path = tmp_path / "a.safetensors"
    elastic(path)
    with_metadata(path, "hisplat_depths", depths)
    with pytest.raises(CheckpointError):
        load_model(path)
