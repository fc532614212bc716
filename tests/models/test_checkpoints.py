"""Weights files of anybody: read when they fit, refused before they cost anything otherwise."""

import copy
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from hisplat_models import checkpoints
from hisplat_models.checkpoints import (
    CheckpointError,
    MisfitError,
    bundled_models,
    config_from_dict,
    load_model,
    save_model,
    save_weights,
)
from hisplat_models.config import PRESETS, HiSplatConfig
from hisplat_models.network import HiSplat

SMALL = PRESETS["hisplat-small"]
Values = dict[str, Any]


@pytest.fixture(scope="module")
def model() -> HiSplat:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return HiSplat(SMALL).eval()


def write(path: Path, config: object, tensors: dict[str, torch.Tensor]) -> Path:
    save_file(tensors, path, {"hisplat_config": json.dumps(config), "format": "pt"})
    return path


def test_save_then_load_is_identity(model: HiSplat, tmp_path: Path):
    save_model(model, tmp_path / "a.safetensors")
    loaded = load_model(tmp_path / "a.safetensors")
    assert loaded.config == model.config
    assert not loaded.training
    for key, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor), key
    buffers = dict(model.named_buffers())  # also those that are not saved
    assert buffers
    for name, buffer in loaded.named_buffers():
        assert torch.equal(buffer, buffers[name]), name


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_load_as_single(kind: torch.dtype, model: HiSplat, tmp_path: Path):
    state = {key: tensor.to(kind) for key, tensor in model.state_dict().items()}
    save_weights(SMALL, state, tmp_path / "a.safetensors")
    for key, tensor in load_model(tmp_path / "a.safetensors").state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, state[key].float()), key


def test_every_preset_survives_its_file_form():
    for config in PRESETS.values():
        assert config_from_dict(json.loads(json.dumps(asdict(config)))) == config


def test_fields_that_came_later_may_be_absent():
    values = json.loads(json.dumps(asdict(SMALL)))
    del values["error_aware"]
    assert config_from_dict(values) == SMALL


def test_bundled_networks_load():
    assert bundled_models() == ["hisplat-small", "hisplat-small-fast"]
    assert load_model("hisplat-small").config == SMALL


def changed(*path: str | int, to: object) -> Callable[[Values], object]:
    def change(values: Values) -> object:
        place: Any = values
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = to
        return values

    return change


BAD_CONFIGS: dict[str, Callable[[Values], object]] = {
    "expected fields, got 'text'": lambda values: "text",
    r"unknown fields \['wheels'\]": changed("wheels", to=4),
    r"missing fields \['sh_degree'\]": lambda v: {k: x for k, x in v.items() if k != "sh_degree"},
    r"size_multiple: expected int, got '16'": changed("size_multiple", to="16"),
    r"size_multiple: expected int, got 16\.0": changed("size_multiple", to=16.0),
    r"size_multiple: expected int, got True": changed("size_multiple", to=True),
    r"error_aware: expected bool, got 1": changed("error_aware", to=1),
    r"stages\[0\]\.depth: expected one of": changed("stages", 0, "depth", to="eval"),
    r"stages\[1\]\.head_kernel: expected one of \(1, 3\), got 5": (
        changed("stages", 1, "head_kernel", to=5)
    ),
    r"cnn_widths\[1\]: expected at most 8192": changed("cnn_widths", to=[16, 10**12, 32]),
    r"cnn_widths\[0\]: .* at least 0, got -16": changed("cnn_widths", to=[-16, 24, 32]),
    r"cnn_widths: expected a short list": changed("cnn_widths", to=[16] * 1000),
    r"transformer_layers: expected at most 64": changed("transformer_layers", to=10**9),
    r"refine_levels: expected at most 12": changed("stages", 2, "refine_levels", to=10**9),
    r"vit\.depth: expected at most 64": (
        changed("vit", to={"width": 768, "depth": 10**6, "heads": 12})
    ),
    r"sh_degree: expected at most 4": changed("sh_degree", to=500),
    r"needs stages at strides 8, 4, 1": changed("stages", 0, "stride", to=2),
    r"No network has this configuration: Expected a depth that splits into three": (
        changed("vit", to={"width": 24, "depth": 4, "heads": 2})
    ),
}


@pytest.mark.parametrize("message", BAD_CONFIGS)
def test_configurations_that_no_network_has_are_refused(message: str, tmp_path: Path):
    values = BAD_CONFIGS[message](copy.deepcopy(json.loads(json.dumps(asdict(SMALL)))))
    path = write(tmp_path / "a.safetensors", values, {"w": torch.ones(1)})
    with pytest.raises(CheckpointError, match=message) as refusal:
        load_model(path)
    assert "\n" not in str(refusal.value)


def test_nothing_is_allocated_for_sizes_that_the_file_does_not_have(
    model: HiSplat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    values = json.loads(json.dumps(asdict(PRESETS["hisplat"])))
    values["vit"] = {"width": 8192, "depth": 63, "heads": 64}  # 200 GB
    devices = []

    def recorded(config: HiSplatConfig) -> HiSplat:
        devices.append(torch.get_default_device().type)
        return HiSplat(config)

    monkeypatch.setattr(checkpoints, "HiSplat", recorded)
    path = write(tmp_path / "a.safetensors", values, dict(model.state_dict()))
    with pytest.raises(MisfitError, match="does not fit the network"):
        load_model(path)
    assert devices == ["meta"]


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "holds no HiSplat configuration"),
        ({"format": "pt"}, "holds no HiSplat configuration"),
        ({"hisplat_config": "{"}, "broken configuration"),
        ({"hisplat_config": "[" * 100_000}, "broken configuration"),
        ({"hisplat_config": "NaN"}, "expected fields"),
    ],
)
def test_metadata_that_say_nothing_are_refused(
    metadata: dict[str, str] | None, message: str, tmp_path: Path
):
    save_file({"w": torch.ones(1)}, tmp_path / "a.safetensors", metadata)
    with pytest.raises(CheckpointError, match=message):
        load_model(tmp_path / "a.safetensors")


@pytest.mark.parametrize("kind", [torch.int32, torch.uint8, torch.bool, torch.int64])
def test_numbers_of_other_kinds_are_refused(kind: torch.dtype, model: HiSplat, tmp_path: Path):
    state = {
        key: torch.zeros(tensor.shape, dtype=kind) for key, tensor in model.state_dict().items()
    }
    path = write(tmp_path / "a.safetensors", asdict(SMALL), state)
    with pytest.raises(CheckpointError, match=r"a\.safetensors"):
        load_model(path)


def test_cut_off_files_are_refused(model: HiSplat, tmp_path: Path):
    save_model(model, tmp_path / "a.safetensors")
    content = (tmp_path / "a.safetensors").read_bytes()
    for keep in (0, 4, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "cut.safetensors").write_bytes(content[:keep])
        with pytest.raises(CheckpointError, match=r"Cannot read .*cut\.safetensors"):
            load_model(tmp_path / "cut.safetensors")


def test_names_in_strangers_files_cannot_steer_a_terminal(model: HiSplat, tmp_path: Path):
    state = dict(model.state_dict()) | {"\x1b[2Jboo": torch.ones(1)}
    path = write(tmp_path / "a.safetensors", asdict(SMALL), state)
    with pytest.raises(MisfitError, match="unknown") as refusal:
        load_model(path)
    assert str(refusal.value).isprintable()


def test_a_failed_write_leaves_what_was_there(model: HiSplat, tmp_path: Path):
    (tmp_path / "a.safetensors").write_text("before")
    sparse = {"w": torch.eye(3).to_sparse()}
    with pytest.raises((RuntimeError, ValueError)):
        save_weights(SMALL, sparse, tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
