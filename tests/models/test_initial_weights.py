"""DINOv2's and UniMatch's files into the network before training."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from hisplat_models.checkpoints import CheckpointError, MisfitError
from hisplat_models.config import PRESETS
from hisplat_models.initial_weights import load_dinov2, load_unimatch
from hisplat_models.network import HiSplat
from hisplat_models.published_checkpoints import to_published
from tests.models.parity import published_shapes
from tests.models.small_published import create_small, published_state

State = Mapping[str, Tensor]
VIT = "encoder.backbone.dino.vit."
TRANSFORMER = "encoder.backbone."


def part(state: State, prefix: str, containing: str = "") -> dict[str, Tensor]:
    return {
        k.removeprefix(prefix): t for k, t in state.items() if k.startswith(prefix + containing)
    }


def dinov2() -> dict[str, Tensor]:
    """As in dinov2_vitb14_pretrain.pth: the names are those of the published encoder's ViT."""
    return part(published_state(), VIT)


def unimatch() -> dict[str, Tensor]:
    """As under "model" in UniMatch's files: more than the transformer."""
    others = {
        "backbone.conv1.weight": torch.rand(4, 3, 7, 7),
        "feature_flow_attn.q_proj.weight": torch.rand(4, 4),
    }
    return others | part(published_state(), TRANSFORMER, "transformer.")


def changed(before: State, after: State) -> set[str]:
    return {key for key in before if not torch.equal(before[key], after[key])}


def copied(model: HiSplat) -> State:
    return {key: t.clone() for key, t in to_published(model.state_dict()).items()}


def test_the_files_have_as_many_tensors_as_the_spec_counts():
    names = [f"encoder.{key}" for key in published_shapes()]
    assert sum(name.startswith(VIT) for name in names) == len(dinov2()) == 175
    theirs = [name for name in names if name.startswith(f"{TRANSFORMER}transformer.")]
    assert len(theirs) == len(unimatch()) - 2 == 96


def test_dinov2_fills_the_vit_only_and_leaves_it_frozen(tmp_path: Path):
    torch.save(dinov2(), tmp_path / "dinov2.pth")
    model = create_small()
    before = copied(model)
    load_dinov2(model, tmp_path / "dinov2.pth")
    after = copied(model)
    assert all(key.startswith(VIT) for key in changed(before, after))
    assert changed(part(after, VIT), dinov2()) == set()
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if ".vit." in name}


def test_unimatch_fills_the_transformer_only_and_leaves_it_to_training(tmp_path: Path):
    torch.save({"model": unimatch(), "step": 100_000}, tmp_path / "gmdepth.pth")
    model = create_small()
    before = copied(model)
    load_unimatch(model, tmp_path / "gmdepth.pth")
    after = copied(model)
    assert all(key.startswith(TRANSFORMER + "transformer.") for key in changed(before, after))
    assert changed(part(after, TRANSFORMER, "transformer."), unimatch()) == set()
    assert all(p.requires_grad for p in model.transformer.parameters())


def test_safetensors_files_do_as_well(tmp_path: Path):
    save_file(dinov2(), tmp_path / "dinov2.safetensors")
    save_file(unimatch(), tmp_path / "unimatch.safetensors")
    model = create_small()
    load_dinov2(model, tmp_path / "dinov2.safetensors")
    load_unimatch(model, tmp_path / "unimatch.safetensors")
    after = copied(model)
    assert changed(part(after, VIT), dinov2()) == set()
    assert changed(part(after, TRANSFORMER, "transformer."), unimatch()) == set()


def test_another_vit_is_refused_and_changes_nothing(tmp_path: Path):
    with_registers = dinov2() | {"register_tokens": torch.ones(1, 4, 24)}
    torch.save(with_registers, tmp_path / "reg4.pth")
    model = create_small()
    before = copied(model)
    with pytest.raises(MisfitError, match=r"reg4\.pth.*unknown register_tokens"):
        load_dinov2(model, tmp_path / "reg4.pth")
    assert changed(before, copied(model)) == set()


def test_another_transformer_is_refused_and_changes_nothing(tmp_path: Path):
    state = unimatch()
    state["transformer.layers.0.self_attn.merge.weight"] = torch.ones(16, 16)
    torch.save({"model": state}, tmp_path / "other.pth")
    model = create_small()
    before = copied(model)
    with pytest.raises(MisfitError, match=r"expected \(32, 32\), got \(16, 16\)"):
        load_unimatch(model, tmp_path / "other.pth")
    assert changed(before, copied(model)) == set()


def test_swapped_files_are_refused(tmp_path: Path):
    torch.save(dinov2(), tmp_path / "dinov2.pth")
    with pytest.raises(MisfitError, match=r"missing layers\.0"):
        load_unimatch(create_small(), tmp_path / "dinov2.pth")


def test_files_that_name_code_are_refused(tmp_path: Path):
    torch.save({"model": unimatch(), "args": create_small}, tmp_path / "own.pth")
    with pytest.raises(CheckpointError, match="create_small"):
        load_unimatch(create_small(), tmp_path / "own.pth")


def test_a_network_without_the_branch_says_so(tmp_path: Path):
    torch.save(dinov2(), tmp_path / "dinov2.pth")
    with torch.device("meta"):
        model = HiSplat(PRESETS["hisplat-small"])
    with pytest.raises(ValueError, match="no monocular branch"):
        load_dinov2(model, tmp_path / "dinov2.pth")
