"""What ST is for, at a small fraction of experiment E1: its subnets do not loaf."""

from collections.abc import Iterator

import pytest
import torch

from benchmarks.compression.digits import digits
from benchmarks.compression.elastic import elastic_accuracy
from benchmarks.compression.loop import TrainingSettings, train
from benchmarks.compression.networks import ResidualNet, depth_space
from benchmarks.compression.report import Run
from benchmarks.compression.tasks import Classification
from hisplat_models.compression.common import CommonTraining
from hisplat_models.compression.spaces import DepthSpace
from hisplat_models.compression.st import Stimulative
from hisplat_models.compression.step import CompressionStep

SEEDS = (0, 1)


def common(network: ResidualNet, space: DepthSpace, seed: int) -> CompressionStep:
    return CommonTraining(network, Classification())


def st(network: ResidualNet, space: DepthSpace, seed: int) -> CompressionStep:
    return Stimulative(network, space, Classification(), seed=seed)


def accuracies(method) -> list[Run]:
    data, runs = digits(), []
    for seed in SEEDS:
        torch.manual_seed(seed)
        network = ResidualNet(data.classes, widths=(8, 16), blocks=(3, 3))
        space = depth_space(network)
        train(network, method(network, space, seed), data.train, TrainingSettings(15), seed)
        runs.append(elastic_accuracy(network, space, data))
    return runs


@pytest.fixture(scope="module")
def runs() -> Iterator[dict[str, list[Run]]]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a second one costs such small networks more than it brings
    yield {"common": accuracies(common), "st": accuracies(st)}
    torch.set_num_threads(threads)


def mean(runs: list[Run], key: str) -> float:
    return sum(run[key] for run in runs) / len(runs)


def test_subnets_of_st_are_far_better_than_those_of_common_training(runs: dict[str, list[Run]]):
    assert mean(runs["st"], "subnets") > mean(runs["common"], "subnets") + 3
    assert mean(runs["st"], "worst") > mean(runs["common"], "worst") + 10


def test_the_gap_between_whole_network_and_subnets_closes(runs: dict[str, list[Run]]):
    assert mean(runs["st"], "gap") < 0.5 * mean(runs["common"], "gap")


def test_all_subnets_are_measured_and_the_network_can_do_its_work(runs: dict[str, list[Run]]):
    for run in (*runs["common"], *runs["st"]):
        assert len(run["by_depths"]) == 8
        assert run["main"] > 80
