"""Channel groups that tracing finds: what is coupled, what is named how, what is left out."""

import sys

import pytest
import torch
from torch import Tensor, nn

from hisplat_models.compression.dependency import find_groups
from hisplat_models.compression.groups import ChannelGroup
from hisplat_models.features import ResidualUNet
from tests.models.compression.narrow_nets import CASES, Mixed, groups_of


def produced(group: ChannelGroup) -> set[str]:
    return {member.tensor for member in group.members if member.role == "produced"}


def consumed(group: ChannelGroup) -> set[str]:
    return {member.tensor for member in group.members if member.role == "consumed"}


def by_name(name: str) -> dict[str, ChannelGroup]:
    return {group.name: group for group in groups_of(name)}


def test_summed_channels_are_one_group_and_inner_ones_are_free():
    groups = by_name("batch norm")
    stream = groups["stages.1.0.conv2"]
    for weight in ("stages.1.0.shortcut.0", "stages.1.1.conv2", "stages.1.2.conv2"):
        assert f"{weight}.weight" in produced(stream)
    assert {"stages.1.1.conv1.weight", "head.weight"} <= consumed(stream)
    inner = groups["stages.1.1.conv1"]
    assert consumed(inner) == {"stages.1.1.conv2.weight"}
    assert {f"stages.1.1.norm1.{name}" for name in ("weight", "bias", "running_var")} < produced(
        inner
    )


def test_levels_of_the_u_net_without_a_convolution_between_them_are_one_group():
    # The bottleneck begins with an identity shortcut, so it shares the encoder's last stream,
    # which the decoder reads beside its own channels.
    groups = by_name("u-net")
    stream = groups["encoder.1.0.conv2"]
    assert {"encoder.1.1.conv2.weight", "bottleneck.1.conv2.weight"} <= produced(stream)
    reader = next(m for m in stream.members if m.tensor == "heads.0.0.conv1.weight")
    assert reader.positions.flatten().tolist() == list(range(8, 16))


def test_channels_that_leave_the_network_are_no_group():
    assert "head" not in by_name("batch norm")
    assert not any("heads.1.1.conv2.weight" in produced(group) for group in groups_of("u-net"))


def test_groups_run_through_concatenations_depthwise_convolutions_and_flattened_maps():
    groups = by_name("mixed")
    first = groups["first"]
    assert {"depthwise.weight", "slope.weight", "both_norm.bias"} <= produced(first)
    assert consumed(first) == {"up.weight"}
    assert [(size.module, size.attribute) for size in first.sizes] == [
        ("bare_norm", "num_features")
    ]
    other = {member.tensor: member for member in groups["other"].members}
    assert other["up.weight"].axis == 0
    assert other["up.weight"].positions.flatten().tolist() == [8, 9, 10, 11]
    down = {member.tensor: member for member in groups["down"].members}
    assert down["flat.weight"].positions[1].tolist() == [4, 5, 6, 7]
    assert "gain" in produced(groups["up"])


def test_norms_of_several_groups_of_channels_set_a_divisor():
    assert by_name("mixed")["up"].divisor == 2


@pytest.mark.parametrize("name", CASES)
def test_names_are_unique_and_do_not_change_from_run_to_run(name: str):
    case = CASES[name]
    again = find_groups(case.create(), case.inputs, divisors=case.divisor)
    names = [group.name for group in groups_of(name)]
    assert [group.name for group in again] == names
    assert len(set(names)) == len(names) > 0
    for one, other in zip(groups_of(name), again, strict=True):
        assert [(m.tensor, m.axis, m.role) for m in one.members] == [
            (m.tensor, m.axis, m.role) for m in other.members
        ]


def test_a_frozen_network_has_groups_too_and_is_left_as_it_was():
    network = CASES["batch norm"].create().train().requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert len(find_groups(network, CASES["batch norm"].inputs)) == len(groups_of("batch norm"))
    assert network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_ignored_modules_keep_their_channels():
    case = CASES["batch norm"]
    groups = find_groups(case.create(), case.inputs, ignored=["stages.1.1", "stages.0.0.conv1"])
    names = {group.name for group in groups}
    # The stream of stage 1 is made in the ignored block, too.
    gone = {"stages.1.1.conv1", "stages.0.0.conv1", "stages.1.0.conv2"}
    assert names == {group.name for group in groups_of("batch norm")} - gone


def test_divisors_are_asked_for_by_name_or_for_all():
    case = CASES["batch norm"]
    assert {group.divisor for group in groups_of("divisor")} == {2}
    groups = find_groups(case.create(), case.inputs, divisors={"stem.0": 4, "stages.1.0.conv1": 2})
    divisors = {group.name: group.divisor for group in groups}
    assert "stem.0" not in divisors  # four channels in steps of four: nothing to choose
    assert divisors["stages.1.0.conv1"] == 2
    assert divisors["stages.1.1.conv1"] == 1


@pytest.mark.parametrize(
    "wrong", [{"ignored": ["stages.7"]}, {"divisors": {"stages.7": 2}}], ids=["ignored", "divisors"]
)
def test_unknown_names_are_refused(wrong: dict):
    case = CASES["batch norm"]
    with pytest.raises(ValueError, match=r"stages\.7"):
        find_groups(case.create(), case.inputs, **wrong)


class CountsOnIts(nn.Module):
    """Its code holds the number of its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Linear(3, 8)
        self.contract = nn.Linear(8, 8)
        self.out = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:  # (n, 3) -> (n, 2)
        inner = torch.relu(self.expand(x)).reshape(-1, 8)
        return self.out(torch.relu(self.contract(inner)))


def test_groups_that_the_code_cannot_run_narrower_are_left_out(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    groups = find_groups(CountsOnIts(), (torch.rand(2, 3),))
    assert [group.name for group in groups] == ["contract"]
    assert "expand stay" in caplog.text


def test_what_runs_without_gradients_is_not_seen():
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4))
            self.learned = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))

        def forward(self, x: Tensor) -> Tensor:  # (n, 3) -> (n, 2)
            with torch.no_grad():
                x = self.frozen(x)
            return self.learned(x)

    groups = find_groups(Half(), (torch.rand(2, 3),))
    assert [group.name for group in groups] == ["learned.0"]


def test_without_torch_pruning_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    with pytest.raises(ImportError, match=r"hisplat-app\[compress\]"):
        find_groups(Mixed(), CASES["mixed"].inputs)


def test_injected_maps_share_the_channels_they_are_added_to():
    inputs = (torch.rand(1, 3, 8, 8), torch.rand(1, 5, 2, 2))
    groups = find_groups(ResidualUNet((4, 8), injected_channels=5), inputs)
    by_producer = {tensor: group for group in groups for tensor in produced(group)}
    assert by_producer["injections.0.weight"] is by_producer["bottleneck_projection.weight"]


def test_a_network_of_a_single_layer_has_nothing_to_narrow():
    assert find_groups(nn.Linear(3, 4), (torch.rand(2, 3),)) == []
