"""STP: a search that keeps its promises, and dropped weights that stay alive."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.compression.loop import TrainingSettings, train
from benchmarks.compression.networks import ResidualNet, depth_space
from hisplat_models.compression.baselines import (
    GroupLasso,
    SelfDistillation,
    largest_norms,
    uniform_sizes,
)
from hisplat_models.compression.budgets import Budget, flop_cost, parameter_cost
from hisplat_models.compression.slimming import slimmed
from hisplat_models.compression.step import CompressionStep
from hisplat_models.compression.stp import STP, STPSettings
from hisplat_models.compression.width_search import SearchSettings, WidthSearch, ladder_steps
from tests.models.compression import small_residual as small
from tests.models.compression.narrow_nets import CASES, groups_of

GROUPS = groups_of("batch norm")
NETWORK = CASES["batch norm"].create()
INPUTS = (torch.zeros(1, 1, 12, 12),)
COST = flop_cost(NETWORK, GROUPS, INPUTS)
NARROWEST = SearchSettings(warm_up=0.0, minimum_share=0.1)


def network() -> ResidualNet:
    net = copy.deepcopy(NETWORK).train()
    assert isinstance(net, ResidualNet)
    return net


def stp(
    net: ResidualNet,
    keep: float = 0.3,
    steps: int = 40,
    settings: STPSettings | None = None,
    seed: int = 0,
) -> STP:
    settings = settings or STPSettings(NARROWEST)
    budgets = [Budget(COST, keep)]
    return STP(net, GROUPS, small.Watched(), budgets, steps, depth_space(net), settings, seed)


def search(keep: float = 0.3, settings: SearchSettings = NARROWEST) -> WidthSearch:
    depths = [frozenset(), frozenset({"stages.1.2"})]
    generator = torch.Generator().manual_seed(0)
    return WidthSearch(GROUPS, [Budget(COST, keep)], depths, settings, generator)


def test_the_step_keeps_the_contract():
    net = network()
    method = stp(net)
    assert isinstance(method, CompressionStep)
    losses = method.step(small.batch())
    assert losses["task"] > 0
    assert losses["expansion"] >= 0
    assert all(parameter.grad is not None for parameter in net.parameters())
    method.after_step()
    assert list(method.extra_parameters()) == []


def test_the_task_reaches_weights_that_are_left_out_and_the_distance_does_not():
    net = network()
    method = stp(net, settings=STPSettings(NARROWEST, expansion=False))
    task_only = copy.deepcopy(net)
    batch = small.batch()
    method.task.task_loss(method.task.predict(task_only, batch), batch).backward()
    for candidate in method.search.pool:
        candidate.sizes = dict.fromkeys(candidate.sizes, 1)
    method.step(batch)
    wanted, found = small.gradients(task_only), small.gradients(net)
    name = "stages.1.1.conv1.weight"
    kept = method.result().kept["stages.1.1.conv1"]
    gone = torch.ones(8, dtype=torch.bool)
    gone[kept] = False
    assert found[name][gone].any()
    torch.testing.assert_close(found[name][gone], wanted[name][gone])


def test_expansions_lie_between_the_candidate_and_the_whole_network():
    net = network()
    method, space = stp(net), depth_space(net)
    sizes = {group.name: 2 for group in GROUPS}
    skipped = space.subnet((1, 1)).skipped
    seen = set()
    for _ in range(50):
        larger, fewer = method.expanded(sizes, skipped)
        assert all(sizes[group.name] <= larger[group.name] <= group.channels for group in GROUPS)
        assert fewer <= skipped
        depths = tuple(len(set(names) - fewer) for names in space.blocks)
        assert space.subnet(depths).skipped == fewer
        seen.add((tuple(larger.values()), fewer))
    assert len(seen) > 40


def test_steps_of_all_groups_save_about_as_much_as_the_dearest_channel():
    found = search(settings=SearchSettings(warm_up=0.0, minimum_share=0.1, step_share=0.01))
    candidate = found.pool[0]
    saved = {
        name: COST.of() - COST.hard({name: found.narrower(candidate, name)}) for name in found.steps
    }
    dearest = max(COST.of() - COST.hard({g.name: g.channels - 1}) for g in GROUPS)
    assert max(saved.values()) < 1.5 * dearest
    assert min(saved.values()) > 0.5 * dearest
    assert found.steps["stem.0"] == 1 < found.steps["stages.1.1.conv1"]


def test_steps_save_the_wanted_share_where_channels_are_cheap_enough():
    steps = ladder_steps(GROUPS, Budget(COST, 0.5), 0.2)
    for group in GROUPS:
        saved = COST.of() - COST.hard({group.name: group.channels - steps[group.name]})
        assert 0.13 < saved / COST.of() < 0.27


def test_proposals_go_round_all_groups_one_step_narrower_each():
    found = search()
    candidate = found.pool[0]
    tried = []
    for _ in found.narrowable(candidate):
        sizes, group = found.proposed(candidate)
        assert group is not None
        assert {name for name in sizes if sizes[name] != candidate.sizes[name]} == {group}
        found.note(candidate, group, loss=1.0)
        tried.append(group)
    assert sorted(tried) == sorted(found.narrowable(candidate))
    assert found.proposed(candidate) == (candidate.sizes, None)


def test_the_group_that_costs_the_least_knowledge_is_narrowed_first():
    found = search()
    candidate = found.pool[0]
    candidate.tries = {name: float(index) for index, name in enumerate(reversed(found.steps))}
    cheapest = min(candidate.tries, key=lambda name: candidate.tries[name])
    whole = dict(candidate.sizes)
    found.advance(0.01)
    narrowed = [name for name in whole if candidate.sizes[name] < whole[name]]
    assert narrowed == [cheapest]


def test_groups_of_skipped_blocks_are_not_narrowed():
    found = search()
    assert "stages.1.2.conv1" in found.narrowable(found.pool[0])
    assert "stages.1.2.conv1" not in found.narrowable(found.pool[1])


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9])
def test_widths_only_fall_and_meet_the_budget_in_time_from_above(keep: float):
    found = search(keep)
    before = {candidate.skipped: dict(candidate.sizes) for candidate in found.pool}
    for step in range(100):
        candidate = found.drawn()
        _, group = found.proposed(candidate)
        found.note(candidate, group, loss=torch.rand(()).item())
        found.advance((step + 1) / 200)
        for candidate in found.pool:
            sizes = before[candidate.skipped]
            assert all(candidate.sizes[name] <= sizes[name] for name in sizes)
            assert all(candidate.sizes[name] >= found.minimum[name] for name in sizes)
        before = {candidate.skipped: dict(candidate.sizes) for candidate in found.pool}
    for candidate in found.pool:
        # No more than one step below what is allowed, a step being a ninth of the whole here.
        assert keep - 0.13 < found.shares(candidate)[0] <= keep + 0.01


def test_the_pool_thins_out_to_the_candidate_of_the_lowest_loss():
    found = search()
    found.pool[0].loss, found.pool[1].loss = 2.0, 1.0
    found.advance(0.6)
    assert len(found.pool) == 2
    found.advance(0.8)
    assert [candidate.loss for candidate in found.pool] == [1.0]
    assert found.best() is found.pool[0]


def test_budgets_out_of_reach_are_refused():
    with pytest.raises(ValueError, match="lower minimum_share"):
        search(0.1, SearchSettings(minimum_share=0.5))


def test_an_order_of_events_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="warm_up < budget_by"):
        SearchSettings(warm_up=0.6)


@pytest.mark.parametrize("second", ["flops", "parameters"])
def test_training_ends_with_a_network_of_the_costs_that_the_search_knew(second: str):
    net = network()
    budgets = [Budget(COST, 0.35)]
    if second == "parameters":
        budgets.append(Budget(parameter_cost(net, GROUPS), 0.3))
    settings = STPSettings(NARROWEST, pool_size=2)
    method = STP(net, GROUPS, small.Watched(), budgets, 8, depth_space(net), settings)
    train(net, method, small.batch(16), TrainingSettings(epochs=4, batch_size=8), seed=0)
    best = method.search.best()
    slim = slimmed(net, GROUPS, method.result())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        slim(*INPUTS)
    assert counter.get_total_flops() == COST.hard(best.sizes, best.skipped)
    assert counter.get_total_flops() <= 0.36 * COST.of()
    if second == "parameters":
        parameters = sum(parameter.numel() for parameter in slim.parameters())
        assert parameters <= 0.31 * sum(parameter.numel() for parameter in net.parameters())


def test_a_resumed_run_goes_on_as_if_it_had_not_stopped():
    images, settings = small.batch(16), TrainingSettings(epochs=1, batch_size=8, shift_px=0)

    def after(stops: bool) -> tuple[nn.Module, STP]:
        net = network()
        method = stp(net, steps=6)
        train(net, method, images, settings, seed=0)
        if stops:
            again = stp(net, steps=6, seed=5)
            again.load_state_dict(copy.deepcopy(method.state_dict()))
            method = again
        train(net, method, images, settings, seed=1)
        train(net, method, images, settings, seed=2)
        return net, method

    (one, method), (other, again) = after(False), after(True)
    assert method.search.best().sizes == again.search.best().sizes
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


def test_baselines_keep_the_contract_and_the_budget():
    budget = Budget(COST, 0.3)
    net = network()
    for method in (
        GroupLasso(net, GROUPS, small.Watched(), budget, 1e-3),
        SelfDistillation(net, GROUPS, small.Watched(), uniform_sizes(GROUPS, budget)),
    ):
        assert isinstance(method, CompressionStep)
        assert method.step(small.batch())["task"] > 0
        assert COST.of(method.result()) <= 0.3 * COST.of()


def test_the_lasso_keeps_the_channels_of_the_largest_norms():
    net = network()
    with torch.no_grad():
        weight = net.get_parameter("stages.1.1.conv1.weight")
        weight.mul_(torch.tensor([0, 1, 0, 1, 1, 0, 0, 1.0])[:, None, None, None])
    subnet = largest_norms(net, GROUPS, Budget(COST, 0.8))
    assert subnet.kept["stages.1.1.conv1"].tolist() == [1, 3, 4, 7]


def test_a_budget_that_no_width_meets_is_refused():
    with pytest.raises(ValueError, match="No width"):
        uniform_sizes(GROUPS, Budget(COST, 0.001))
    with pytest.raises(ValueError, match="No width"):
        largest_norms(network(), GROUPS, Budget(COST, 0.001))
