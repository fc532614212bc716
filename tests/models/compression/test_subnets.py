"""Subnets run narrow, share weights with the whole network, and leave no trace."""

import pytest
import torch
from torch import Tensor, nn

from hisplat_models.compression.groups import ChannelGroup, GroupMember
from hisplat_models.compression.slimming import slimmed
from hisplat_models.compression.subnet import Subnet
from tests.models.compression import small_residual as small
from tests.models.compression.narrow_nets import CASES, groups_of, some_channels


def outputs(network: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    found = network(*inputs)
    return found if isinstance(found, list) else [found]


@pytest.mark.parametrize("name", CASES)
def test_the_whole_network_as_a_subnet_is_the_same_bit_for_bit(name: str):
    case, groups = CASES[name], groups_of(name)
    network = case.create()
    expected = outputs(network, case.inputs)
    whole = Subnet(kept={group.name: torch.arange(group.channels) for group in groups})
    with whole.active(network, groups):
        for found, wanted in zip(outputs(network, case.inputs), expected, strict=True):
            assert torch.equal(found, wanted)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", CASES)
def test_an_active_subnet_computes_what_the_extracted_network_does(name: str, seed: int):
    case, groups = CASES[name], groups_of(name)
    network = case.create()
    subnet = some_channels(groups, seed)
    slim = slimmed(network, groups, subnet)
    with torch.no_grad(), subnet.active(network, groups):
        narrow = outputs(network, case.inputs)
    with torch.no_grad():
        for found, wanted in zip(outputs(slim, case.inputs), narrow, strict=True):
            assert (found - wanted).abs().max() <= 1e-5
    assert sum(p.numel() for p in slim.parameters()) < sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("name", ["batch norm", "instance norm", "mixed"])
def test_removed_channels_are_those_that_would_be_zero(name: str):
    # Norms see each channel for itself here, so zeros where channels are read remove them exactly.
    case = CASES[name]
    groups = tuple(
        group for group in groups_of(name) if group.divisor == 1 and group.name != "flat"
    )
    network, subnet = case.create(), some_channels(groups, 0)
    with torch.no_grad(), subnet.active(network, groups):
        narrow = network(*case.inputs)
    with torch.no_grad():
        state = network.state_dict()
        for group in groups:
            gone = torch.ones(group.channels, dtype=torch.bool)
            gone[subnet.kept[group.name]] = False
            for member in group.members:
                if member.role == "consumed":
                    entries = member.positions[gone].flatten()
                    state[member.tensor].index_fill_(member.axis, entries, 0.0)
        assert (network(*case.inputs) - narrow).abs().max() <= 1e-5


@pytest.mark.parametrize("name", CASES)
def test_parameters_outside_the_subnet_get_no_gradient(name: str):
    case, groups = CASES[name], groups_of(name)
    network, subnet = case.create(), some_channels(groups, 0)
    with subnet.active(network, groups):
        torch.stack(
            [each.square().sum() for each in outputs(network, case.inputs)]
        ).sum().backward()
    gradients = small.gradients(network)
    assert any(gradient.any() for gradient in gradients.values())
    for group in groups:
        gone = torch.ones(group.channels, dtype=torch.bool)
        gone[subnet.kept[group.name]] = False
        for member in group.members:
            if member.tensor in gradients:
                along = gradients[member.tensor].movedim(member.axis, 0)
                assert not along[member.positions[gone].flatten()].any()


def test_gradients_of_a_subnet_are_those_of_the_extracted_network():
    case, groups = CASES["batch norm"], groups_of("batch norm")
    network = case.create().train()
    subnet = some_channels(groups, 1)
    slim = slimmed(network, groups, subnet)
    slim(*case.inputs).square().sum().backward()
    with subnet.active(network, groups):
        network(*case.inputs).square().sum().backward()
    gradient = network.get_parameter("stages.1.0.conv2.weight").grad
    assert gradient is not None
    kept = subnet.kept
    part = gradient[kept["stages.1.0.conv2"]][:, kept["stages.1.0.conv1"]]
    torch.testing.assert_close(part, slim.get_parameter("stages.1.0.conv2.weight").grad)


def test_a_shortened_stage_is_the_chain_of_its_first_blocks():
    network, space = small.network().eval(), small.space()
    images = small.batch().images
    with torch.no_grad(), space.subnet((1, 2)).active(network, ()):
        found = network(images)
    with torch.no_grad():
        x = network.stem(images)
        for name in ("stages.0.0", "stages.1.0", "stages.1.1"):
            x = network.get_submodule(name)(x)
        assert torch.equal(found, network.head(x.mean(dim=(2, 3))))


def test_a_skipped_block_passes_on_the_first_of_its_arguments():
    class Adds(nn.Module):
        def forward(self, x: Tensor, y: Tensor, scale: float = 1.0) -> Tensor:
            return x + scale * y

    network = nn.ModuleDict({"block": Adds()})
    x, y = torch.rand(2, 3)
    with Subnet(frozenset({"block"})).active(network, ()):
        assert network["block"](x, y, scale=2.0) is x
    assert torch.equal(network["block"](x, y), x + y)


def test_while_active_modules_know_their_new_sizes_and_then_the_old_ones():
    case, groups = CASES["mixed"], groups_of("mixed")
    network = case.create()
    before = str(network)
    kept = {"first": torch.tensor([1, 4, 6]), "other": torch.tensor([0])}
    with Subnet(kept=kept).active(network, groups):
        depthwise, norm = network.get_submodule("depthwise"), network.get_submodule("bare_norm")
        assert (depthwise.in_channels, depthwise.out_channels, depthwise.groups) == (3, 3, 3)
        assert (norm.num_features, network.get_submodule("both_norm").num_features) == (3, 4)
        assert network.get_submodule("up").in_channels == 4
        assert network.state_dict()["both_norm.weight"].shape == (4,)
    assert str(network) == before


@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_whole_again_also_after_an_error(fails: bool):
    case, groups = CASES["mixed"], groups_of("mixed")
    network = case.create()
    tensors = {name: id(value) for name, value in network.named_parameters()}
    keys, expected = list(network.state_dict()), network(*case.inputs)
    subnet = Subnet(kept=some_channels(groups, 0).kept, skipped=frozenset({"slope"}))
    try:
        with subnet.active(network, groups):
            assert list(network.state_dict()) == keys
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert {name: id(value) for name, value in network.named_parameters()} == tensors
    assert list(network.state_dict()) == keys
    assert torch.equal(network(*case.inputs), expected)
    assert not any("forward" in vars(module) for module in network.modules())


def test_a_subnet_within_a_subnet_is_refused_for_a_part_of_the_network_too():
    network, subnet = small.network(), Subnet(frozenset({"stages.0.1"}))
    with subnet.active(network, ()):
        with pytest.raises(RuntimeError, match="active"), subnet.active(network, ()):
            pass
        part = network.get_submodule("stages.0")
        with pytest.raises(RuntimeError, match="active"), Subnet(frozenset({"1"})).active(part, ()):
            pass
    with subnet.active(network, ()):
        pass


def test_what_norms_see_while_channels_are_left_out_is_forgotten():
    case, groups = CASES["batch norm"], groups_of("batch norm")
    network = case.create().train()
    before = {name: value.clone() for name, value in network.named_buffers()}
    kept = {"stages.0.0.conv1": torch.tensor([0, 3])}
    mean = "stages.0.0.norm1.running_mean"
    with Subnet(kept=kept).active(network, groups):
        network(*case.inputs)
        assert not torch.equal(network.get_buffer(mean), before[mean][[0, 3]])
    assert torch.equal(network.get_buffer(mean), before[mean])


def test_a_weight_with_two_names_is_sliced_under_both():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 4, bias=False)
            self.again = nn.Linear(3, 4, bias=False)
            self.again.weight = self.first.weight
            self.out = nn.Linear(4, 2, bias=False)

    network = Tied()
    channels = torch.arange(4)[:, None]
    group = ChannelGroup(
        "first",
        4,
        1,
        (
            GroupMember("first.weight", 0, channels, "produced"),
            GroupMember("out.weight", 1, channels, "consumed"),
        ),
    )
    with Subnet(kept={"first": torch.tensor([0, 2])}).active(network, [group]):
        assert network.again.weight is network.first.weight
        assert network.again.weight.shape == (2, 3)


WRONG = {
    "unknown group": (Subnet(kept={"nothing": torch.tensor([0])}), "nothing"),
    "no channel": (Subnet(kept={"stem.0": torch.tensor([], dtype=torch.int64)}), "ascending"),
    "out of order": (Subnet(kept={"stem.0": torch.tensor([1, 0])}), "ascending"),
    "twice": (Subnet(kept={"stem.0": torch.tensor([1, 1])}), "ascending"),
    "too many": (Subnet(kept={"stem.0": torch.tensor([0, 4])}), "4 channels of stem.0"),
    "odd": (Subnet(kept={"stem.0": torch.tensor([0, 1, 2])}), "multiple of 2"),
    "unknown block": (Subnet(frozenset({"stages.9"})), r"stages\.9"),
    "the network itself": (Subnet(frozenset({""})), "blocks"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_the_network_does_not_have_is_refused_before_anything_changes(name: str):
    subnet, message = WRONG[name]
    network, groups = CASES["divisor"].create(), groups_of("divisor")
    with pytest.raises(ValueError, match=message), subnet.active(network, groups):
        pass
    assert network(*CASES["divisor"].inputs).shape == (2, 5)
