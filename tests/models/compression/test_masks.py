"""Soft and hard masks: monotone, straight through, and where they must act."""

import math

import pytest
import torch
from torch import Tensor

from hisplat_models.compression.groups import ChannelGroup, GroupMember
from hisplat_models.compression.masks import (
    SizeMasks,
    hard_size,
    importance_order,
    in_channel_order,
    masked,
    subnet_of_sizes,
)
from tests.models.compression.narrow_nets import CASES, groups_of
from tests.models.compression.test_subnets import outputs


def group(channels: int, divisor: int) -> ChannelGroup:
    positions = torch.arange(channels)[:, None]
    return ChannelGroup(
        "g",
        channels,
        divisor,
        (GroupMember("a", 0, positions, "produced"), GroupMember("b", 1, positions, "consumed")),
    )


def random_masks(channels: int, divisor: int, seed: int = 0) -> SizeMasks:
    masks = SizeMasks([group(channels, divisor)])
    generator = torch.Generator().manual_seed(seed)
    torch.nn.init.normal_(masks.logits[0], std=2.0, generator=generator)
    return masks


SIZES = [(8, 1), (8, 4), (10, 4), (5, 5)]


@pytest.mark.parametrize(("channels", "divisor"), SIZES)
def test_masks_never_rise_begin_with_one_and_add_up_to_the_expected_size(
    channels: int, divisor: int
):
    masks = random_masks(channels, divisor)
    weights = masks.by_rank()["g"]
    assert weights.shape == (channels,)
    assert weights[0] == 1
    assert (weights.diff() <= 0).all()
    assert (weights > 0).all()
    # E = sum_k p_k n_k = sum over ranks of the probability of a size that includes the rank
    torch.testing.assert_close(weights.sum(), masks.expected_sizes()["g"])


def test_a_constant_added_to_the_logits_changes_nothing():
    masks = random_masks(8, 1)
    before = masks.by_rank()["g"]
    with torch.no_grad():
        masks.logits[0] += 3.0
    torch.testing.assert_close(masks.by_rank()["g"], before)
    masks.centre()
    assert masks.logits[0].mean().abs() < 1e-6
    torch.testing.assert_close(masks.by_rank()["g"], before)


@pytest.mark.parametrize(("channels", "divisor"), SIZES)
@pytest.mark.parametrize("seed", range(3))
def test_hard_sizes_are_multiples_and_pass_the_expected_sizes_gradient(
    channels: int, divisor: int, seed: int
):
    masks = random_masks(channels, divisor, seed)
    expected = masks.expected_sizes()["g"]
    (wanted,) = torch.autograd.grad(expected, [masks.logits[0]])
    size = masks.straight_through_sizes()["g"]
    (found,) = torch.autograd.grad(size, [masks.logits[0]])
    assert torch.equal(found, wanted)
    assert size.item() == masks.hard_sizes()["g"]
    assert size.item() % divisor == 0 or size.item() == channels
    assert expected.item() - 1e-3 <= size.item() < expected.item() + divisor


@pytest.mark.parametrize(
    ("expected", "size"), [(0.2, 4), (4.0, 4), (4.0001, 4), (4.1, 8), (9.0, 10), (10.0, 10)]
)
def test_expected_sizes_are_rounded_up_to_what_a_group_may_have(expected: float, size: int):
    assert hard_size(expected, group(10, 4)) == size


@pytest.mark.parametrize(("channels", "divisor"), [(8, 1), (12, 4)])
def test_masks_begin_with_nearly_all_channels(channels: int, divisor: int):
    masks = SizeMasks([group(channels, divisor)])
    assert masks.hard_sizes()["g"] == channels
    last = masks.by_rank()["g"][-1].item()
    assert last == pytest.approx((channels - divisor) / channels, abs=1e-5)


def test_importance_is_the_mean_of_filter_norms_over_the_layers_of_a_group():
    network, groups = CASES["batch norm"].create(), groups_of("batch norm")
    weights = [
        network.get_parameter(f"stages.1.{name}.weight")
        for name in ("0.conv2", "0.shortcut.0", "1.conv2", "2.conv2")
    ]
    norms = torch.stack([weight.detach().abs().sum((1, 2, 3)) for weight in weights]).mean(0)
    order = importance_order(network, groups)["stages.1.0.conv2"]
    assert order.tolist() == norms.argsort(descending=True).tolist()


def one_hot(masks: SizeMasks, seed: int) -> None:
    """All probability on one random size of each group."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for logits in masks.logits:
            logits.zero_()
            logits[torch.randint(len(logits), (), generator=generator)] = 60.0


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", ["batch norm", "instance norm", "divisor", "u-net"])
@pytest.mark.parametrize("training", [False, True])
def test_soft_and_hard_network_agree_when_masks_are_certain(name: str, seed: int, training: bool):
    case, groups = CASES[name], groups_of(name)
    network = case.create().train(training)
    masks = SizeMasks(groups)
    one_hot(masks, seed)
    orders = importance_order(network, groups)
    with masked(network, groups, in_channel_order(masks.by_rank(), orders)):
        soft = outputs(network, case.inputs)
    with subnet_of_sizes(network, groups, masks.hard_sizes()).active(network, groups):
        hard = outputs(network, case.inputs)
    for one, other in zip(soft, hard, strict=True):
        assert (one - other).abs().max() <= 1e-5


def mask_gradient(name: str, masks_read: bool) -> float:
    """Norm of the gradient of an output for masks of one inner group."""
    case = CASES[name]
    network = case.create().train()
    inner = next(g for g in groups_of(name) if g.name == "stages.0.1.conv1")
    if not masks_read:  # the same factors on the filters themselves: before the norm
        turned = {"produced": "consumed", "consumed": "produced"}
        members = (
            GroupMember(m.tensor, m.axis, m.positions, turned[m.role])  # pyright: ignore
            for m in inner.members
            if not m.tensor.startswith("stages.0.1.norm1")
        )
        inner = ChannelGroup(inner.name, inner.channels, 1, tuple(members))
    mask = torch.full((inner.channels,), 0.5, requires_grad=True)
    with masked(network, [inner], {inner.name: mask}):
        network(*case.inputs)[:, 0].sum().backward()
    assert mask.grad is not None
    return mask.grad.norm().item()


@pytest.mark.parametrize("name", ["batch norm", "instance norm"])
def test_a_mask_before_a_norm_would_have_no_gradient(name: str):
    assert mask_gradient(name, masks_read=False) < 1e-2 * mask_gradient(name, masks_read=True)


def test_masks_leave_no_trace_and_refuse_to_pile_up():
    case, groups = CASES["batch norm"], groups_of("batch norm")
    network = case.create()
    expected = network(*case.inputs)
    halves = {g.name: torch.full((g.channels,), 0.5) for g in groups}
    with masked(network, groups, halves):
        assert not torch.allclose(network(*case.inputs), expected)
        with pytest.raises(RuntimeError, match="active"), masked(network, groups, halves):
            pass
    assert torch.equal(network(*case.inputs), expected)


def test_a_mask_that_would_change_nothing_is_refused():
    positions = torch.arange(3)[:, None]
    unread = ChannelGroup("g", 3, 1, (GroupMember("a", 0, positions, "produced"),))
    with pytest.raises(ValueError, match="group g"):
        SizeMasks([unread])


def test_masks_reach_both_weights_and_themselves_with_gradients():
    case, groups = CASES["u-net"], groups_of("u-net")
    network, masks = case.create(), SizeMasks(groups)
    orders = importance_order(network, groups)
    with masked(network, groups, in_channel_order(masks.by_rank(), orders)):
        torch.stack(
            [each.square().mean() for each in outputs(network, case.inputs)]
        ).sum().backward()
    for logits in masks.logits:
        assert isinstance(logits.grad, Tensor)
        assert math.isfinite(logits.grad.norm().item())
        assert logits.grad.any()
