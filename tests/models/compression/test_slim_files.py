"""Files of slimmed networks: what was written comes back, what was tampered with does not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hisplat_models.checkpoints import read_safetensors, write_safetensors
from hisplat_models.compression.slim_files import METADATA_KEY, load_slimmed, save_slimmed
from hisplat_models.compression.slimming import cut_from_json, cut_to_json, slimmed
from hisplat_models.compression.subnet import Subnet
from hisplat_models.model_sources import CheckpointError
from tests.models.compression.narrow_nets import CASES, groups_of, some_channels


def subnet_of(name: str) -> Subnet:
    skipped = frozenset({"stages.0.1"}) if name != "mixed" else frozenset({"slope"})
    return Subnet(skipped, some_channels(groups_of(name), 0).kept)


def written(name: str, path: Path) -> torch.nn.Module:
    network, groups, subnet = CASES[name].create(), groups_of(name), subnet_of(name)
    slim = slimmed(network, groups, subnet)
    save_slimmed(slim, subnet.cut(network, groups), path)
    return slim


@pytest.mark.parametrize("name", ["batch norm", "mixed"])
def test_a_slimmed_network_comes_back_from_its_file(name: str, tmp_path: Path):
    slim = written(name, tmp_path / "slim.safetensors")
    again = load_slimmed(CASES[name].create(), tmp_path / "slim.safetensors").eval()
    with torch.no_grad():
        assert torch.equal(again(*CASES[name].inputs), slim(*CASES[name].inputs))
    assert str(again) == str(slim)
    whole = sum(p.numel() for p in CASES[name].create().parameters())
    assert sum(p.numel() for p in again.parameters()) < whole


@pytest.mark.parametrize("name", ["batch norm", "mixed"])
def test_a_cut_comes_back_from_its_text(name: str):
    network = CASES[name].create()
    cut = subnet_of(name).cut(network, groups_of(name))
    again = cut_from_json(cut_to_json(cut), network)
    assert (again.skipped, again.sizes) == (cut.skipped, cut.sizes)
    assert {tensor: sorted(axes) for tensor, axes in again.entries.items()} == {
        tensor: sorted(axes) for tensor, axes in cut.entries.items()
    }
    for tensor, axes in cut.entries.items():
        for axis, entries in axes.items():
            assert torch.equal(again.entries[tensor][axis], entries)


def test_a_file_of_another_network_is_refused(tmp_path: Path):
    written("batch norm", tmp_path / "slim.safetensors")
    with pytest.raises(CheckpointError, match="does not fit"):
        load_slimmed(CASES["mixed"].create(), tmp_path / "slim.safetensors")


def test_a_file_that_does_not_say_what_was_cut_is_refused(tmp_path: Path):
    network = CASES["mixed"].create()
    write_safetensors(network.state_dict(), {}, tmp_path / "whole.safetensors")
    with pytest.raises(CheckpointError, match="does not say what was cut"):
        load_slimmed(network, tmp_path / "whole.safetensors")


def test_tensors_that_are_not_those_of_the_cut_are_refused(tmp_path: Path):
    path = tmp_path / "slim.safetensors"
    written("mixed", path)
    tensors = read_safetensors(path)
    tensors["out.weight"] = torch.zeros(3, 11)
    network = CASES["mixed"].create()
    text = cut_to_json(subnet_of("mixed").cut(network, groups_of("mixed")))
    write_safetensors(tensors, {METADATA_KEY: text}, path)
    with pytest.raises(CheckpointError, match=r"out\.weight"):
        load_slimmed(network, path)


def _set(values: Any, *path: Any) -> Callable[[dict], None]:
    def change(cut: dict) -> None:
        for key in path[:-1]:
            cut = cut[key]
        cut[path[-1]] = values

    return change


TAMPERED = {
    "unknown tensor": _set({"0": [0]}, "kept", "nothing.weight"),
    "unknown axis": _set([0], "kept", "first.weight", "7"),
    "negative axis": _set([0], "kept", "first.weight", "-1"),
    "axis in words": _set([0], "kept", "first.weight", "one"),
    "no entry": _set([], "kept", "first.weight", "0"),
    "out of order": _set([3, 1], "kept", "first.weight", "0"),
    "beyond the end": _set([99], "kept", "first.weight", "0"),
    "fractions": _set([0.5], "kept", "first.weight", "0"),
    "larger size": _set({"num_features": 99}, "sizes", "bare_norm"),
    "no size": _set({"eps": 1}, "sizes", "bare_norm"),
    "unknown attribute": _set({"__class__": 1}, "sizes", "bare_norm"),
    "a truth for a size": _set({"num_features": True}, "sizes", "bare_norm"),
    "unknown module": _set({"num_features": 1}, "sizes", "nothing"),
    "unknown block": _set(["nothing"], "skipped"),
    "the network itself": _set([""], "skipped"),
    "lists for names": _set([["slope"]], "skipped"),
    "no tensors": _set(None, "kept"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_text_that_does_not_fit_the_network_is_refused(name: str):
    network = CASES["mixed"].create()
    cut = json.loads(cut_to_json(subnet_of("mixed").cut(network, groups_of("mixed"))))
    TAMPERED[name](cut)
    with pytest.raises(CheckpointError, match="does not fit"):
        cut_from_json(json.dumps(cut), network)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "[" * 100_000])
def test_a_text_that_is_no_cut_is_refused(text: str):
    with pytest.raises(CheckpointError, match="does not fit"):
        cut_from_json(text, CASES["mixed"].create())
