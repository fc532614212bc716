"""S2HPruner: which loss moves what, budgets from both sides, and a gap that stays closed."""

import copy

import pytest
import torch
from torch import Tensor, nn

from benchmarks.compression.loop import TrainingSettings, optimizer_of, train
from benchmarks.compression.tasks import Classification
from hisplat_models.compression.budgets import Budget, flop_cost, parameter_cost
from hisplat_models.compression.s2h import S2HPruner, S2HSettings
from hisplat_models.compression.slimming import slimmed
from hisplat_models.compression.step import CompressionStep
from tests.models.compression import small_residual as small
from tests.models.compression.narrow_nets import CASES, groups_of

GROUPS = groups_of("batch norm")
NETWORK = CASES["batch norm"].create()
COST = flop_cost(NETWORK, GROUPS, (torch.zeros(1, 1, 12, 12),))


PUBLISHED = S2HSettings()


def pruner(network: nn.Module, settings: S2HSettings = PUBLISHED, keep: float = 0.3) -> S2HPruner:
    return S2HPruner(network, GROUPS, small.Watched(), [Budget(COST, keep)], settings)


def watched(method: S2HPruner) -> small.Watched:
    assert isinstance(method.task, small.Watched)
    return method.task


def network() -> nn.Module:
    return copy.deepcopy(NETWORK).train()


def narrowed(method: S2HPruner, size: int = 2) -> None:
    """Masks whose expected size is near this, with some of all others."""
    with torch.no_grad():
        for logits in method.masks.logits:
            logits.zero_()
            logits[size - 1] = 4.0


def test_the_step_keeps_the_contract():
    net = network()
    method = pruner(net)
    assert isinstance(method, CompressionStep)
    losses = method.step(small.batch())
    assert losses["task"] > 0
    assert losses["keep_0"] == 1
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert all(logits.grad is not None and logits.grad.any() for logits in method.masks.logits)
    method.after_step()
    assert not method.result().skipped


def test_the_gap_moves_weights_through_the_hard_network_only_and_masks_not_at_all():
    net = network()
    method = pruner(net, S2HSettings(gap="one_way"))
    narrowed(method)
    batch = small.batch()
    method.masks.zero_grad()
    soft = method.soft_prediction(batch)
    gap, of_gap = method._gap_pass(batch, soft)
    assert gap > 0
    assert not any(gradient.any() for gradient in of_gap)
    assert all(logits.grad is None for logits in method.masks.logits)
    inside = method.result().kept
    gradient = net.get_parameter("stages.1.1.conv1.weight").grad
    assert gradient is not None
    kept, gone = inside["stages.1.1.conv1"], torch.ones(8, dtype=torch.bool)
    gone[kept] = False
    assert gradient[kept].any()
    assert not gradient[gone].any()


def test_the_gap_moves_masks_through_the_soft_network_and_leaves_weights_alone():
    batch = small.batch()
    found = {}
    for gap in ("one_way", "decoupled"):
        net = network()
        method = pruner(net, S2HSettings(gap=gap))
        narrowed(method)
        _, of_gap = method._gap_pass(batch, method.soft_prediction(batch))
        found[gap] = small.gradients(net)
        has_gradient = [bool(gradient.any()) for gradient in of_gap]
        assert all(has_gradient) if gap == "decoupled" else not any(has_gradient)
    for name, gradient in found["decoupled"].items():
        assert torch.equal(gradient, found["one_way"][name])


def test_not_decoupled_the_gap_moves_weights_through_the_soft_network_too():
    batch = small.batch()
    found = {}
    for gap in ("one_way", "coupled"):
        net = network()
        method = pruner(net, S2HSettings(gap=gap))
        narrowed(method)
        method._gap_pass(batch, method.soft_prediction(batch))
        found[gap] = small.gradients(net)["stages.1.1.conv1.weight"]
    gone = ~found["one_way"].flatten(1).any(1)
    assert gone.any()
    assert found["coupled"][gone].any()


def test_without_a_gap_there_is_no_hard_network_in_training():
    method = pruner(network(), S2HSettings(gap="none"))
    losses = method.step(small.batch())
    assert losses["gap"] == 0
    assert watched(method).taught == []
    assert len(watched(method).seen) == 1


def test_targets_of_the_distance_carry_no_graph_on_the_side_that_is_not_moved():
    method = pruner(network())
    method.step(small.batch())
    (soft_a, hard_a), (soft_b, hard_b) = watched(method).taught
    assert (soft_a.requires_grad, hard_a.requires_grad) == (False, True)
    assert (soft_b.requires_grad, hard_b.requires_grad) == (True, False)


@pytest.mark.parametrize("start", ["whole", "narrow"])
def test_budgets_alone_bring_the_cost_to_the_wanted_share_from_either_side(start: str):
    method = pruner(network(), keep=0.4)
    if start == "narrow":
        narrowed(method, 1)
    before = method.shares()[0]
    assert before > 0.6 if start == "whole" else before < 0.2
    optimizer = torch.optim.SGD(method.masks.parameters(), 0.1)
    for _ in range(150):
        method._set_mask_gradients(method._zeros(), method._zeros())
        optimizer.step()
        method.masks.centre()
    # One channel of the network's widest stage is 4 % of its operations.
    assert method.shares()[0] == pytest.approx(0.4, abs=0.04)


def test_of_several_budgets_the_tightest_is_used_up_and_none_exceeded():
    budgets = [Budget(COST, 0.5), Budget(parameter_cost(NETWORK, GROUPS), 0.25)]
    method = S2HPruner(network(), GROUPS, Classification(), budgets)
    optimizer = torch.optim.SGD(method.masks.parameters(), 0.1)
    for _ in range(150):
        method._set_mask_gradients(method._zeros(), method._zeros())
        optimizer.step()
    flops, parameters = method.shares()
    assert parameters == pytest.approx(0.25, abs=0.04)
    assert flops < 0.5


def test_the_pull_of_budgets_fades_within_the_tolerance():
    method = pruner(network(), S2HSettings(tolerance=10.0))
    method._set_mask_gradients(method._zeros(), method._zeros())
    excess, _ = method.budget_gradients()
    for logits in method.masks.logits:
        assert logits.grad is not None
        assert logits.grad.norm().item() == pytest.approx(3.0 * excess / 100, rel=1e-3)


def test_the_hard_pass_is_the_slimmed_network():
    net = network()
    method = pruner(net)
    narrowed(method)
    subnet, images = method.result(), small.batch().images
    slim = slimmed(net, GROUPS, subnet)
    with torch.no_grad(), subnet.active(net, GROUPS):
        hard = net(images)
    with torch.no_grad():
        assert (slim(images) - hard).abs().max() <= 1e-5


def test_coupled_layers_keep_the_same_channels():
    method = pruner(network())
    narrowed(method)
    cut = method.result().cut(NETWORK, GROUPS)
    stream = ("0.conv2", "0.shortcut.0", "1.conv2", "2.conv2")
    kept = [cut.entries[f"stages.1.{name}.weight"][0].tolist() for name in stream]
    assert kept[0] == kept[1] == kept[2] == kept[3]
    assert cut.entries["head.weight"][1].tolist() == kept[0]


def test_masks_get_no_weight_decay():
    net = network()
    method = pruner(net)
    optimizer = optimizer_of(net, method, TrainingSettings())
    masks = {id(logits) for logits in method.masks.logits}
    for group in optimizer.param_groups:
        ours = {id(parameter) for parameter in group["params"]} & masks
        assert not ours or (len(ours) == len(masks) and group["weight_decay"] == 0)


def test_warm_up_is_common_training():
    net = network()
    method = pruner(net, S2HSettings(warm_up_steps=1))
    method.step(small.batch())
    assert all(logits.grad is None for logits in method.masks.logits)
    method.after_step()
    method.step(small.batch())
    assert all(logits.grad is not None for logits in method.masks.logits)


def test_the_whole_network_may_teach_the_soft_one():
    method = pruner(network(), S2HSettings(full_teacher=True))
    method.step(small.batch())
    teacher, student = watched(method).taught[0]
    assert not teacher.requires_grad
    assert student.requires_grad
    assert len(watched(method).seen) == 3


def test_a_resumed_run_goes_on_as_if_it_had_not_stopped():
    images = small.batch(16)
    settings = TrainingSettings(epochs=1, batch_size=8, shift_px=0)

    def masks_after(stops: bool) -> list[Tensor]:
        net = network()
        method = pruner(net)
        train(net, method, images, settings, seed=0)
        if stops:
            again = pruner(net)
            again.load_state_dict(copy.deepcopy(method.state_dict()))
            method = again
        train(net, method, images, settings, seed=1)
        return [logits.detach() for logits in method.masks.logits]

    for one, other in zip(masks_after(False), masks_after(True), strict=True):
        assert torch.equal(one, other)
