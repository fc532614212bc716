"""Every switch of the configuration changes what it should and nothing else."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hisplat_models.checkpoints import load_model, save_model
from hisplat_models.config import PRESETS, HiSplatConfig
from hisplat_models.example import Example, collate
from hisplat_models.gaussians import Gaussians
from hisplat_models.network import HiSplat, HiSplatOutput
from hisplat_models.rendering import PAPER, CpuRenderer, RasterizationSettings

from .published_tensors import RecordingRenderer
from .scenes import example
from .test_network import TINY, randomised

ABLATIONS: dict[str, HiSplatConfig] = {
    "full": TINY,
    "no error awareness": dataclasses.replace(TINY, error_aware=False),
    "no modulating fusion": dataclasses.replace(TINY, modulating_fusion=False),
    "neither": dataclasses.replace(TINY, error_aware=False, modulating_fusion=False),
    "no ViT branch": dataclasses.replace(TINY, vit=None),
    "two levels": TINY.with_levels(2),
    "one level": TINY.with_levels(1),
}


@pytest.fixture(scope="module")
def batch() -> Example:
    return collate([example()])


@pytest.fixture(scope="module")
def full() -> HiSplat:
    torch.manual_seed(0)
    return randomised(HiSplat(TINY))


def with_weights_of(full: HiSplat, config: HiSplatConfig) -> HiSplat:
    """Another network with all weights of ``full`` that fit; input channels beyond are cut."""
    model = HiSplat(config)
    donor = full.state_dict()
    state = {key: _cut(donor[key], own) for key, own in model.state_dict().items()}
    model.load_state_dict(state)
    return model.eval()


def _cut(given: Tensor, wanted: Tensor) -> Tensor:
    return given if given.shape == wanted.shape else given[:, : wanted.shape[1]]


@torch.no_grad()
def predicted(model: HiSplat, batch: Example) -> HiSplatOutput:
    return model(batch.context_images, batch.context_cameras)


def assert_same(a: Gaussians, b: Gaussians, but: tuple[str, ...] = ()) -> None:
    for field in dataclasses.fields(Gaussians):
        same = torch.equal(getattr(a, field.name), getattr(b, field.name))
        assert same == (field.name not in but), field.name


def missing(full: HiSplat, ablated: HiSplat) -> set[str]:
    assert set(ablated.state_dict()) <= set(full.state_dict())
    return set(full.state_dict()) - set(ablated.state_dict())


def of_parts(full: HiSplat, *prefixes: str) -> set[str]:
    return {key for key in full.state_dict() if key.startswith(prefixes)}


def test_without_fusion_opacities_stay_and_nothing_else_of_two_levels_changes(
    full: HiSplat, batch: Example
):
    ablated = with_weights_of(full, ABLATIONS["no modulating fusion"])
    assert missing(full, ablated) == of_parts(full, "fusion.")
    with_it, without = predicted(full, batch), predicted(ablated, batch)
    for stage in (0, 1):
        assert_same(with_it.stages[stage].gaussians, without.stages[stage].gaussians)
    assert_same(with_it.accumulated[0], without.accumulated[0], but=("opacities",))
    parts = Gaussians.cat([stage.gaussians for stage in without.stages])
    assert_same(without.gaussians, parts)


def test_without_error_awareness_later_stages_have_three_inputs_less(full: HiSplat, batch: Example):
    ablated = with_weights_of(full, ABLATIONS["no error awareness"])
    assert missing(full, ablated) == set()
    own = ablated.state_dict()
    narrower = {
        key: tensor.shape[1] - own[key].shape[1]
        for key, tensor in full.state_dict().items()
        if tensor.shape != own[key].shape
    }
    layers = ("refine_in", "head_hidden")
    assert narrower == {f"stages.{i}.{layer}.weight": 3 for i in (1, 2) for layer in layers}
    with_it, without = predicted(full, batch), predicted(ablated, batch)
    assert_same(with_it.stages[0].gaussians, without.stages[0].gaussians)
    assert not torch.equal(with_it.stages[1].raw, without.stages[1].raw)


def test_errors_are_drawn_only_if_something_reads_them(batch: Example):
    drawn: dict[str, int] = {}
    for name, config in ABLATIONS.items():
        model = HiSplat(config).eval()
        renderer = RecordingRenderer(model.create_renderer("cpu"))
        model.renderer = renderer
        predicted(model, batch)
        drawn[name] = len(renderer.colors)
    assert drawn["neither"] == drawn["one level"] == 0
    assert drawn["two levels"] == 1
    assert drawn["full"] == drawn["no error awareness"] == drawn["no modulating fusion"] == 2


@pytest.mark.parametrize("levels", [1, 2])
def test_fewer_levels_are_the_first_of_all(full: HiSplat, batch: Example, levels: int):
    ablated = with_weights_of(full, TINY.with_levels(levels))
    gone = ["stages.2.", "cnn.heads.2.", "cnn.ascents.1.", "cnn.injections.2."]
    if levels == 1:
        gone += ["stages.1.", "cnn.heads.1.", "cnn.ascents.0.", "cnn.injections.1.", "fusion."]
    assert missing(full, ablated) == of_parts(full, *gone)
    all_of_them, fewer = predicted(full, batch), predicted(ablated, batch)
    assert len(fewer.accumulated) == len(fewer.stages) == levels
    for ours, theirs in zip(fewer.stages, all_of_them.stages, strict=False):
        assert_same(ours.gaussians, theirs.gaussians)
    assert fewer.gaussians.level.unique().tolist() == list(range(levels))


def test_without_the_monocular_branch_only_its_parameters_are_gone(full: HiSplat, batch: Example):
    ablated = with_weights_of(full, ABLATIONS["no ViT branch"])
    assert missing(full, ablated) == of_parts(full, "monocular.", "cnn.injections.")
    assert not torch.equal(
        predicted(full, batch).stages[0].raw, predicted(ablated, batch).stages[0].raw
    )


def test_fusion_over_the_scene_is_fusion_over_the_stage_while_there_is_one(
    full: HiSplat, batch: Example
):
    per_stage = with_weights_of(full, dataclasses.replace(TINY, fusion_over="stage"))
    assert TINY.fusion_over == "scene"
    scene, stage = predicted(full, batch), predicted(per_stage, batch)
    assert_same(scene.accumulated[0], stage.accumulated[0])
    assert_same(scene.stages[2].gaussians, stage.stages[2].gaussians)
    assert_same(scene.gaussians, stage.gaussians, but=("opacities",))


def test_coarse_sets_carry_the_weights_of_the_next_stage_only(full: HiSplat, batch: Example):
    as_drawn = with_weights_of(full, dataclasses.replace(TINY, reweighted_coarse_sets=False))
    published, plain = predicted(full, batch), predicted(as_drawn, batch)
    assert_same(published.gaussians, plain.gaussians)
    for level in (0, 1):
        assert_same(published.accumulated[level], plain.accumulated[level], but=("opacities",))
    assert_same(plain.accumulated[0], plain.stages[0].gaussians)
    count = plain.accumulated[0].count
    once = published.accumulated[0].opacities
    assert torch.equal(once, plain.accumulated[1].opacities[:, :count])
    twice = published.accumulated[1].opacities
    assert torch.equal(twice, published.gaussians.opacities[:, : twice.shape[1]])
    assert not torch.equal(once, twice[:, :count])


def test_the_published_adapter_changes_only_colours_of_the_first_stage(
    full: HiSplat, batch: Example
):
    exact = with_weights_of(full, dataclasses.replace(TINY, published_adapter=False))
    a, b = (predicted(model, batch).stages[0].gaussians for model in (full, exact))
    torch.testing.assert_close(a.means, b.means, rtol=1e-6, atol=1e-6)  # rounded in another order
    assert_same(dataclasses.replace(a, means=b.means), b, but=("harmonics",))
    assert torch.equal(a.base_colors, b.base_colors)


def test_a_network_knows_the_renderer_that_fits_it():
    assert HiSplat(TINY).create_renderer("cpu") == CpuRenderer(PAPER)
    plain = HiSplat(dataclasses.replace(TINY, rasterization="default"))
    assert plain.create_renderer("cpu") == CpuRenderer(RasterizationSettings())
    small = PRESETS["hisplat-small"]
    assert (small.rasterization, small.fusion_over) == ("default", "stage")
    assert not small.published_adapter
    assert not small.reweighted_coarse_sets


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_trains_all_its_parameters(name: str, batch: Example):
    torch.manual_seed(0)
    model = randomised(HiSplat(ABLATIONS[name])).train()
    output = model(batch.context_images, batch.context_cameras)
    fields = [f.name for f in dataclasses.fields(Gaussians) if f.name != "level"]
    values = torch.cat([getattr(output.gaussians, name).flatten() for name in fields])
    (values * torch.linspace(-1, 1, len(values))).sum().backward()
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    without = {n for n, p in model.named_parameters() if p.grad is None}
    assert without == frozen
    assert all(n.startswith("monocular.vit.") for n in frozen)


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_ablation_can_be_saved_and_loaded(name: str, batch: Example, tmp_path: Path):
    torch.manual_seed(0)
    model = randomised(HiSplat(ABLATIONS[name]))
    save_model(model, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path / "model.safetensors")
    assert loaded.config == ABLATIONS[name]
    assert_same(predicted(loaded, batch).gaussians, predicted(model, batch).gaussians)


def test_levels_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="1 to 3 levels, got 4"):
        TINY.with_levels(4)
    with pytest.raises(ValueError, match="at least one stage"):
        dataclasses.replace(TINY, stages=())
    with pytest.raises(ValueError, match="stages at strides 8, 4, 1, got \\[8, 4\\]"):
        PRESETS["hisplat-small"].with_levels(2)
