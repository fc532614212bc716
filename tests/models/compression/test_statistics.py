"""Statistics taken again are those of the batches; nothing else of a network changes."""

import pytest
import torch
from torch import Tensor, nn

from hisplat_models.compression.statistics import reestimated_statistics


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(4, 3, 3),
        nn.BatchNorm2d(3),
    )  # fmt: skip


def norm_of(net: nn.Sequential, place: int) -> nn.BatchNorm2d:
    norm = net[place]
    assert isinstance(norm, nn.BatchNorm2d)
    return norm


def images(count: int = 8) -> Tensor:
    return torch.randn(count, 1, 9, 9, generator=torch.Generator().manual_seed(1)) + 2


def run(net: nn.Module, batch: Tensor) -> Tensor:
    return net(batch)


def test_one_batch_makes_evaluation_equal_to_training():
    net = network()
    net[3] = nn.Identity()
    expected = net.train()(images())
    assert reestimated_statistics(net, [images()], run) == 2
    torch.testing.assert_close(net.eval()(images()), expected)


def test_batches_count_by_their_size():
    whole, split = network(), network()
    norm = nn.Sequential(nn.BatchNorm2d(1))
    data = images()
    reestimated_statistics(norm, [data[:2], data[2:]], run)
    torch.testing.assert_close(norm[0].running_mean, data.mean(dim=(0, 2, 3)))
    variances = [part.var(correction=0) for part in (data[:2], data[2:])]
    torch.testing.assert_close(
        norm[0].running_var, torch.stack([0.25 * variances[0] + 0.75 * variances[1]])
    )
    reestimated_statistics(whole, [data, data], run)
    reestimated_statistics(split, [data], run)
    torch.testing.assert_close(whole[1].running_var, split[1].running_var)


def test_weights_modes_and_gradients_stay():
    net = network().train()
    net[4].eval()
    modes = [module.training for module in net.modules()]
    weights = {name: values.clone() for name, values in net.named_parameters()}
    reestimated_statistics(net, [images()], run)
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(values, weights[name]) for name, values in net.named_parameters())
    assert all(values.grad is None for values in net.parameters())
    assert not net[1]._forward_pre_hooks


def test_what_is_random_in_training_is_not_here():
    first, second = network(), network()
    for net in (first, second):
        reestimated_statistics(net, [images()], run)
    assert torch.equal(
        norm_of(first, 5).get_buffer("running_mean"), norm_of(second, 5).get_buffer("running_mean")
    )


def test_norms_that_are_not_reached_keep_their_statistics():
    net = network()
    assert reestimated_statistics(net, [images()], lambda _, batch: net[1](net[0](batch))) == 1
    assert torch.equal(norm_of(net, 5).get_buffer("running_mean"), torch.zeros(3))


def test_a_failing_prediction_leaves_modes_and_hooks_as_they_were():
    net = network().eval()
    with pytest.raises(RuntimeError):
        reestimated_statistics(net, [torch.zeros(1, 5, 9, 9)], run)
    assert not any(module.training for module in net.modules())
    assert not net[1]._forward_pre_hooks


def test_without_batches_it_is_refused():
    with pytest.raises(ValueError, match="at least one batch"):
        reestimated_statistics(network(), [], run)
