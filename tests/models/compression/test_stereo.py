"""The stereo pairs of experiment E5 are pairs, and its work obeys the contract of tasks."""

import pytest
import torch

from benchmarks.compression.depth_distillation import MODES, StereoDepth, pruned, subnet_error
from benchmarks.compression.stereo import (
    CANDIDATES,
    StereoNet,
    StereoPairs,
    correlation,
    stereo_pairs,
    stereo_space,
)
from hisplat_models.compression.distillation import detached
from hisplat_models.compression.st import Stimulative
from hisplat_models.compression.subnet import Subnet
from hisplat_models.compression.task import CompressionTask


@pytest.fixture(scope="module")
def pairs() -> StereoPairs:
    return stereo_pairs(32, seed=0)


@pytest.fixture
def network() -> StereoNet:
    torch.manual_seed(0)
    return StereoNet()


def test_the_right_picture_shows_the_left_one_at_its_disparity(pairs: StereoPairs):
    width = pairs.left.shape[-1]
    place = (torch.arange(width) - pairs.disparity).clamp(0, width - 1)
    before = place.floor().long()
    share = place - before
    right = pairs.right[:, 0]
    seen = (1 - share) * right.gather(2, before)
    seen += share * right.gather(2, (before + 1).clamp(max=width - 1))
    error = (seen - pairs.left[:, 0]).abs()[pairs.visible]
    unmoved = (right - pairs.left[:, 0]).abs()[pairs.visible]
    assert error.median() < 0.5 * unmoved.median()


def test_correlation_is_highest_at_the_disparity(pairs: StereoPairs):
    features = torch.randn(1, 16, 6, 20, generator=torch.Generator().manual_seed(0))
    right = features.roll(-3, dims=-1)
    found = correlation(features, right)[..., 3:-3].argmax(1)
    assert (found == 3).float().mean() > 0.9


def test_disparities_lie_among_the_candidates(pairs: StereoPairs):
    assert 0 <= pairs.disparity.min() < 1
    assert CANDIDATES - 2 < pairs.disparity.max() <= CANDIDATES - 1


def test_the_task_keeps_its_contract(pairs: StereoPairs, network: StereoNet):
    for _, task in MODES.values():
        assert isinstance(task, CompressionTask)
        knowledge = task.predict(network, pairs).knowledge
        assert task.distillation_loss(detached(knowledge), knowledge).abs() < 1e-5
        other = task.predict(StereoNet(), pairs).knowledge
        assert task.distillation_loss(detached(knowledge), other) > 0


def test_subnets_of_all_depths_run_and_learn(pairs: StereoPairs, network: StereoNet):
    step = Stimulative(network, stereo_space(network), StereoDepth())
    assert step.step(pairs)["subnets"] > 0
    assert all(values.grad is not None for values in network.parameters())
    space = stereo_space(network)
    errors = {subnet_error(network, (), space.subnet(depths), pairs, pairs) for depths in space}
    assert len(errors) == len(space) == 12


def test_what_is_cut_out_errs_as_the_subnet_does(pairs: StereoPairs, network: StereoNet):
    found = pruned(network, pairs, pairs)
    assert found["pruned_groups"] == 7
    assert found["pruned_parameters"] < 0.6 * found["parameters"]
    assert found["pruned_error"] == pytest.approx(found["active_subnet_error"], abs=1e-5)
    assert found["pruned_error"] != subnet_error(network, (), Subnet(), pairs, pairs)
