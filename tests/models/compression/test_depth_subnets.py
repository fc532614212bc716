"""A network shortened from the ends of its stages is the chain of the blocks that are left."""

import pytest
import torch
from torch import Tensor, nn

from benchmarks.compression.networks import ResidualNet
from benchmarks.compression.tasks import Classification
from hisplat_models.compression.slimming import slimmed
from hisplat_models.compression.statistics import reestimated_statistics
from tests.models.compression import small_residual as small

TASK = Classification()
BLOCKS = (2, 3)
SPACE = small.space(BLOCKS)


def chained(net: ResidualNet, depths: tuple[int, ...], images: Tensor) -> Tensor:
    """The same blocks, called one after another."""
    x = net.stem(images)
    for stage, kept in zip(net.stages, depths, strict=True):
        assert isinstance(stage, nn.Sequential)
        x = stage[:kept](x)
    return net.head(x.mean(dim=(2, 3)))


@pytest.mark.parametrize("depths", list(SPACE))
@pytest.mark.parametrize("training", [True, False])
def test_a_subnet_is_the_chain_of_its_blocks(depths: tuple[int, ...], training: bool):
    net = small.network(blocks=BLOCKS).train(training)
    images = small.batch().images
    with SPACE.subnet(depths).active(net, ()):
        found = net(images)
    assert torch.equal(found, chained(net, depths, images))


def test_the_largest_subnet_is_the_network_bit_for_bit():
    net = small.network(blocks=BLOCKS).eval()
    images = small.batch().images
    expected = net(images)
    with SPACE.subnet(SPACE.full).active(net, ()):
        assert torch.equal(net(images), expected)


@pytest.mark.parametrize("depths", [(1, 1), (2, 2), (1, 3)])
def test_with_statistics_of_their_own_subnets_are_the_networks_cut_out(depths: tuple[int, ...]):
    net = small.network(blocks=BLOCKS)
    subnet = SPACE.subnet(depths)
    cut_out = slimmed(net, (), subnet)
    reestimated_statistics(cut_out, [small.batch()], TASK.predict)
    images = small.batch(seed=1).images
    with subnet.active(net, ()):
        reestimated_statistics(net, [small.batch()], TASK.predict)
        found = net.eval()(images)
    torch.testing.assert_close(found, cut_out.eval()(images), rtol=0, atol=1e-5)


def test_statistics_are_those_of_the_subnet_alone():
    net = small.network(blocks=BLOCKS)
    reestimated_statistics(net, [small.batch()], TASK.predict)
    images = small.batch().images
    with SPACE.subnet((1, 1)).active(net, ()):
        of_whole = net.eval()(images)
        reestimated_statistics(net, [small.batch()], TASK.predict)
        own = net.eval()(images)
        expected = net.train()(images)
    torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5)
    assert (of_whole - expected).abs().max() > 1e-3
