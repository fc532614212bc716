"""Costs are those of the slimmed network, to the last operation, and have gradients."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from hisplat_models.compression.budgets import Budget, flop_cost, parameter_cost
from hisplat_models.compression.groups import ChannelGroup, GroupMember
from hisplat_models.compression.slimming import slimmed
from hisplat_models.compression.subnet import Subnet
from tests.models.compression.narrow_nets import CASES, groups_of, some_channels


class Attention(nn.Module):
    """Scores and messages take operations that belong to no weight."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(6, 8, bias=False)
        self.key = nn.Linear(6, 8, bias=False)
        self.value = nn.Linear(6, 8, bias=False)
        self.merge = nn.Linear(8, 6)

    def forward(self, tokens: Tensor) -> Tensor:  # (n, tokens, 6), the same
        q, k, v = self.query(tokens), self.key(tokens), self.value(tokens)
        return tokens + self.merge(functional.scaled_dot_product_attention(q, k, v))


def attention_group() -> ChannelGroup:
    channels = torch.arange(8)[:, None]
    produced = [GroupMember(f"{name}.weight", 0, channels, "produced") for name in ("query", "key")]
    value = GroupMember("value.weight", 0, channels, "produced")
    return ChannelGroup(
        "query", 8, 2, (*produced, value, GroupMember("merge.weight", 1, channels, "consumed"))
    )


def counted(network: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.to("meta")(*(tensor.to("meta") for tensor in inputs))
    return counter.get_total_flops()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", CASES)
def test_costs_of_sizes_are_those_of_the_slimmed_network(name: str, seed: int):
    case, groups = CASES[name], groups_of(name)
    network = case.create()
    subnet = some_channels(groups, seed)
    slim = slimmed(network, groups, subnet)
    parameters = sum(parameter.numel() for parameter in slim.parameters())
    assert parameter_cost(network, groups).of(subnet) == parameters
    assert flop_cost(network, groups, case.inputs).of(subnet) == counted(slim, case.inputs)


def test_skipped_blocks_cost_nothing():
    case, groups = CASES["batch norm"], groups_of("batch norm")
    network = case.create()
    subnet = Subnet(frozenset({"stages.0.1", "stages.1.2"}), some_channels(groups, 0).kept)
    slim = slimmed(network, groups, subnet)
    parameters = sum(parameter.numel() for parameter in slim.parameters())
    assert parameter_cost(network, groups).of(subnet) == parameters
    assert flop_cost(network, groups, case.inputs).of(subnet) == counted(slim, case.inputs)


@pytest.mark.parametrize("kept", [2, 4, 6, 8])
def test_operations_of_attention_are_counted_exactly(kept: int):
    network, groups, inputs = Attention(), [attention_group()], (torch.rand(2, 5, 6),)
    subnet = Subnet(kept={"query": torch.arange(kept)})
    slim = slimmed(network, groups, subnet)
    assert flop_cost(network, groups, inputs).of(subnet) == counted(slim, inputs)


def test_operations_that_no_rule_fits_are_refused():
    class Borrowed(nn.Module):
        """Multiplies with weights of layers that it does not call."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 8, bias=False), nn.Linear(8, 8, bias=False)
            self.out = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:  # (n, 3) -> (n, 2)
            return self.out(torch.relu(x @ self.first.weight.T) @ self.second.weight.T)

    channels = torch.arange(8)[:, None]
    groups = [
        ChannelGroup(
            one,
            8,
            1,
            (
                GroupMember(f"{one}.weight", 0, channels, "produced"),
                GroupMember(f"{reader}.weight", 1, channels, "consumed"),
            ),
        )
        for one, reader in (("first", "second"), ("second", "out"))
    ]
    with pytest.raises(ValueError, match="products of several groups"):
        flop_cost(Borrowed(), groups, (torch.rand(4, 3),))


@pytest.mark.parametrize("cost", ["flops", "parameters"])
def test_soft_costs_equal_hard_ones_and_have_their_slope(cost: str):
    case, groups = CASES["mixed"], groups_of("mixed")
    network = case.create()
    found = (
        flop_cost(network, groups, case.inputs)
        if cost == "flops"
        else parameter_cost(network, groups)
    )
    sizes = {group.name: 2 for group in groups}
    soft = {name: torch.tensor(float(size), requires_grad=True) for name, size in sizes.items()}
    total = found.soft(soft)
    assert total.item() == found.hard(sizes)
    total.backward()
    for name, size in soft.items():
        more, less = found.hard({**sizes, name: 3}), found.hard({**sizes, name: 1})
        assert size.grad is not None
        assert size.grad.item() == pytest.approx((more - less) / 2, rel=1e-6)


def test_a_part_of_a_network_has_its_own_cost():
    case, groups = CASES["batch norm"], groups_of("batch norm")
    cost = parameter_cost(case.create(), groups)
    stages = cost.within(["stages.0", "stages.1"]).of()
    assert stages + cost.within(["stem"]).of() + cost.within(["head"]).of() == cost.of()
    with pytest.raises(ValueError, match=r"stages\.9"):
        cost.within(["stages.9"])


@pytest.mark.parametrize("keep", [0.0, -0.5, 1.5])
def test_a_budget_is_a_share(keep: float):
    cost = parameter_cost(CASES["mixed"].create(), groups_of("mixed"))
    with pytest.raises(ValueError, match="share to keep"):
        Budget(cost, keep)
