"""What of HiSplat may be left out: channel groups, blocks, costs; and networks without it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hisplat_models.checkpoints import create_skeleton
from hisplat_models.compression.hisplat import channel_groups, depth_space, parts_of
from hisplat_models.compression.hisplat.costs import (
    layer_flops,
    part_budgets,
    part_flops,
    part_parameters,
)
from hisplat_models.compression.hisplat.layers import run_layers
from hisplat_models.compression.hisplat.slim import slim_copy
from hisplat_models.compression.samplers import uniform_depths, uniform_widths
from hisplat_models.compression.subnet import Subnet
from hisplat_models.config import PRESETS
from hisplat_models.features import ResidualUNet
from hisplat_models.network import HiSplat, HiSplatOutput
from tests.models.compression.small_hisplat import KINDS, PUBLISHED_KIND, create
from tests.models.scenes import example

SIZE = (32, 48)


@pytest.fixture(scope="module", params=list(KINDS))
def network(request: pytest.FixtureRequest) -> HiSplat:
    return create(KINDS[request.param])


@torch.no_grad()
def output(network: HiSplat) -> HiSplatOutput:
    scene = example(height=SIZE[0], width=SIZE[1])
    return network(scene.context_images[None], scene.context_cameras[None])


def random_subnet(network: HiSplat, seed: int) -> Subnet:
    generator = torch.Generator().manual_seed(seed)
    parts = parts_of(network)
    groups, space = channel_groups(network, parts), depth_space(network, parts)
    widths = uniform_widths(groups, {g.name: g.divisor for g in groups}, generator)
    kept = {
        g.name: torch.randperm(g.channels, generator=generator)[: widths[g.name]].sort().values
        for g in groups
    }
    return Subnet(space.subnet(uniform_depths(space, generator)).skipped, kept)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_slim_network_computes_what_its_subnet_does(network: HiSplat, seed: int):
    groups, subnet = channel_groups(network, parts_of(network)), random_subnet(network, seed)
    whole = output(network)
    with subnet.active(network, groups):
        sliced = output(network)
    slim = output(slim_copy(network, groups, subnet))
    for name in ("means", "scales", "opacities", "harmonics"):
        expected = getattr(sliced.gaussians, name)
        assert torch.allclose(getattr(slim.gaussians, name), expected, atol=1e-5, rtol=1e-5), name
    assert not torch.equal(sliced.gaussians.opacities, whole.gaussians.opacities)
    assert torch.equal(output(network).gaussians.means, whole.gaussians.means)


def test_every_group_alone_can_be_narrowed(network: HiSplat):
    images = torch.rand(1, 2, 3, 16, 16)
    groups = channel_groups(network, parts_of(network))
    assert len({group.name for group in groups}) == len(groups)
    narrowable = [group for group in groups if group.channels > group.divisor]
    assert len(narrowable) > len(groups) / 2
    with torch.no_grad():
        expected = run_layers(network, images)[0].shape
        for group in narrowable:
            kept = torch.arange(group.channels - group.divisor)
            with Subnet(kept={group.name: kept}).active(network, groups):
                assert run_layers(network, images)[0].shape == expected, group.name


def test_channels_behind_an_instance_norm_are_removed_as_if_nobody_read_them():
    network = create(KINDS["hisplat-small"])
    name = "cnn.heads.0.0.conv1"
    groups = [g for g in channel_groups(network, ("cnn",)) if g.name == name]
    with Subnet(kept={name: torch.arange(8)}).active(network, groups):
        narrow = output(network).gaussians.means
    with torch.no_grad():
        network.cnn.heads[0][0].conv2.weight[:, 8:] = 0  # pyright: ignore
    assert torch.allclose(output(network).gaussians.means, narrow, atol=1e-5)


def test_attention_scores_keep_their_scale_when_queries_lose_channels():
    network = create(KINDS["hisplat-small"])
    name = "transformer.layers.0.self_attention.query"
    groups = [g for g in channel_groups(network, ("transformer",)) if g.name == name]
    with Subnet(kept={name: torch.arange(8)}).active(network, groups):
        narrow = output(network).gaussians.means
    with torch.no_grad():
        network.get_submodule(name).weight[8:] = 0  # pyright: ignore
    assert torch.allclose(output(network).gaussians.means, narrow, atol=1e-5)


@pytest.mark.parametrize("part", ["vit", "decoder"])
def test_a_removed_head_is_one_that_nobody_reads(part: str):
    network = create(PUBLISHED_KIND)
    groups = channel_groups(network, (part,))  # pyright: ignore[reportArgumentType]
    group = next(g for g in groups if g.channels == 3)
    with Subnet(kept={group.name: torch.tensor([0, 2])}).active(network, groups):
        narrow = output(network).gaussians.means
    read = next(m for m in group.members if m.role == "consumed")
    with torch.no_grad():
        dict(network.named_parameters())[read.tensor][:, read.positions[1]] = 0
    assert torch.allclose(output(network).gaussians.means, narrow, atol=1e-5)


@pytest.mark.parametrize("injected", [None, 6])
def test_groups_of_the_cnn_are_those_that_tracing_finds(injected: int | None):
    pytest.importorskip("torch_pruning")
    from hisplat_models.compression.dependency import find_groups

    network = create(KINDS["hisplat-small"])
    network.cnn = ResidualUNet((8, 8, 16), injected)
    inputs = (torch.rand(1, 3, 16, 16),)
    if injected is not None:
        inputs += (torch.rand(1, injected, 4, 4),)
    traced = {g.name: g for g in find_groups(network.cnn, inputs)}
    declared = {g.name.removeprefix("cnn."): g for g in channel_groups(network, ("cnn",))}

    def members(group: object, prefix: str) -> set[object]:
        return {
            (m.tensor.removeprefix(prefix), m.axis, tuple(m.positions.flatten().tolist()))
            for m in group.members  # pyright: ignore
        }

    assert {n: members(g, "cnn.") for n, g in declared.items()} == {
        n: members(g, "") for n, g in traced.items()
    }


def test_blocks_of_the_cnn_without_a_branch_pass_their_input_on():
    network = create(KINDS["hisplat-small"])
    (stage,) = (s for s in depth_space(network, ("cnn",)).blocks if "cnn.bottleneck.0" in s)
    assert stage == ("cnn.encoder.2.0", "cnn.encoder.2.1", "cnn.bottleneck.0", "cnn.bottleneck.1")
    skipped = Subnet(skipped=frozenset(stage[2:]))
    with skipped.active(network, []):
        short = output(network).gaussians.means
    with torch.no_grad():
        for name in stage[2:]:
            network.get_submodule(f"{name}.conv2").weight.zero_()  # pyright: ignore
    assert torch.allclose(output(network).gaussians.means, short, atol=1e-5)


def test_no_block_behind_which_the_vit_is_read_can_be_skipped():
    network = create_skeleton(PRESETS["hisplat"])
    names = [name for stage in depth_space(network, ("vit",)).blocks for name in stage]
    left = {f"monocular.vit.blocks.{i}" for i in range(12)} - set(names)
    assert left == {f"monocular.vit.blocks.{i}" for i in (3, 7, 11)}


def test_published_depths():
    space = depth_space(create_skeleton(PRESETS["hisplat"]), ("cnn", "transformer"))
    assert space.full == (2, 2, 4, 2, 2, 2, 6)
    assert space.minimum == (0, 1, 1, 1, 1, 1, 1)  # nine blocks of the CNN, five layers
    assert sum(space.full) - sum(space.minimum) == 9 + 5


def test_parts_that_are_not_there_are_refused():
    network = create_skeleton(PRESETS["hisplat-small"])
    with pytest.raises(ValueError, match="'vit'"):
        channel_groups(network, ("cnn", "vit"))
    with pytest.raises(ValueError, match="Expected some of the parts"):
        depth_space(network, ())


def test_costs_of_a_subnet_are_those_counted_in_its_slim_network(network: HiSplat):
    parts = parts_of(network)
    groups, subnet = channel_groups(network, parts), random_subnet(network, 2)
    slim = slim_copy(network, groups, subnet)
    flops = part_flops(network, groups, parts, SIZE)
    assert flops.of() == layer_flops(network, SIZE)
    assert flops.of(subnet) == layer_flops(slim, SIZE)
    saved = sum(p.numel() for p in network.parameters()) - sum(p.numel() for p in slim.parameters())
    parameters = part_parameters(network, groups, parts)
    assert parameters.of() - parameters.of(subnet) == saved


def test_layers_that_are_counted_are_all_that_the_network_runs(network: HiSplat):
    ran: set[str] = set()

    def names_of(run: object) -> set[str]:
        ran.clear()
        handles = [
            module.register_forward_hook(lambda *_, name=name: ran.add(name))
            for name, module in network.named_modules()
            if not list(module.children()) and isinstance(getattr(module, "weight", None), Tensor)
        ]
        with torch.no_grad():
            run()  # pyright: ignore
        for handle in handles:
            handle.remove()
        return set(ran)

    norms = {f"stages.{i}.refine_norm" for i in range(3)} | {"stages.0.surface.stem_norm"}
    whole = {n for n in names_of(lambda: output(network)) if not n.startswith("fusion")}
    assert whole - norms == names_of(lambda: run_layers(network, torch.zeros(1, 2, 3, *SIZE)))


def test_parts_have_budgets_of_their_own():
    network = create(KINDS["hisplat-small"])
    groups = channel_groups(network, ("cnn", "stages"))
    flops = {("cnn", "stages"): 0.5, ("cnn",): 0.3}
    parameters = {("stages",): 0.4}
    budgets = part_budgets(network, groups, flops, parameters, SIZE)  # pyright: ignore
    assert [b.keep for b in budgets] == [0.5, 0.3, 0.4]
    both, cnn, stages = budgets
    assert cnn.cost.of() < both.cost.of()
    own = sum(p.numel() for n, p in network.named_parameters() if n.startswith("stages."))
    assert stages.cost.of() == own
    narrow = {g.name: g.divisor for g in groups if g.name.startswith("stages.")}
    assert cnn.share(narrow) == 1.0


def test_a_frozen_vit_is_left_alone_and_an_unfrozen_one_learns():
    network = create(replace(PUBLISHED_KIND))
    images = torch.rand(1, 2, 3, 64, 64)
    assert network.monocular is not None

    def gradients() -> list[Tensor | None]:
        network.zero_grad(set_to_none=True)
        network.monocular(images).sum().backward()  # pyright: ignore
        return [p.grad for p in network.monocular.vit.blocks.parameters()]  # pyright: ignore

    assert all(g is None for g in gradients())
    network.monocular.vit.requires_grad_(True)
    learned = gradients()
    assert all(g is not None for g in learned)
