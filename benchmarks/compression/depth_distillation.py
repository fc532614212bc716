"""E5: what a network with a cost volume should teach its subnets: end-point errors of all of them.

Random-dot stereo (``stereo.py``), 3 + 4 residual blocks, all 12 subnets measured; then half of the
inner channels are cut out of every trained network, without further training.

Usage: python -m benchmarks.compression.depth_distillation \
    --output docs/benchmarks/compression_e5.json
"""

import copy
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
import tyro
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from hisplat_models.compression.common import CommonTraining
from hisplat_models.compression.dependency import find_groups
from hisplat_models.compression.distillation import (
    at_size_of,
    depth_distribution_kl,
    feature_cosine,
    log_disparity,
    weighted_sum,
)
from hisplat_models.compression.groups import ChannelGroup
from hisplat_models.compression.masks import subnet_of_sizes
from hisplat_models.compression.slimming import slimmed
from hisplat_models.compression.st import ST, Stimulative, StimulativeSettings
from hisplat_models.compression.statistics import reestimated_statistics
from hisplat_models.compression.step import CompressionStep
from hisplat_models.compression.subnet import Subnet
from hisplat_models.compression.task import Knowledge

from .loop import TrainingSettings, train
from .report import ExperimentOptions, ResultFile, Run, table
from .stereo import StereoNet, StereoPairs, StereoPrediction, stereo_pairs, stereo_space

TRAINING = TrainingSettings(epochs=12, batch_size=8, learning_rate=0.03, shift_px=0)
PAIRS = 256
AMPLITUDE = 3.0
"""Of logits in KL-: peaks of 3-5 candidates stay as sharp as they are."""
COLUMNS = {
    "main": "whole network, px",
    "subnets": "mean of all subnets, px",
    "worst": "worst subnet, px",
    "pruned_error": "inner channels halved, px",
}


@dataclass(frozen=True)
class StereoDepth:
    """Disparity from two pictures; what is distilled has a weight each, what has none is not."""

    weights: Mapping[str, float] = field(default_factory=lambda: {"depth KL": 1.0})
    """Of "depth KL", "depth KL-", "disparity" and "features"."""

    def predict(self, network: nn.Module, batch: StereoPairs) -> StereoPrediction:
        """Disparities of the left pictures."""
        return network(batch.left, batch.right)

    def task_loss(self, prediction: StereoPrediction, batch: StereoPairs) -> Float[Tensor, ""]:
        """Smooth L1 in pixels, mean over pixels that lie in both pictures."""
        error = functional.smooth_l1_loss(prediction.disparity, batch.disparity, reduction="none")
        return error[batch.visible].mean()

    def distillation_loss(self, teacher: Knowledge, student: Knowledge) -> Float[Tensor, ""]:
        """Weighted sum of the chosen distances."""
        depth = at_size_of(teacher["depth"], student["depth"]), student["depth"]
        distances = {
            "depth KL": lambda: depth_distribution_kl(*depth),
            "depth KL-": lambda: depth_distribution_kl(*depth, amplitude=AMPLITUDE),
            "disparity": lambda: log_disparity(teacher["disparity"], student["disparity"]),
            "features": lambda: feature_cosine(teacher["features"], student["features"]),
        }
        losses = {name: distances[name]() for name in self.weights}
        return weighted_sum(losses, self.weights)

    def resized(self, batch: StereoPairs, share: float) -> StereoPairs:
        """Raises: disparities in pixels would change with the size."""
        raise NotImplementedError("Stereo pairs are not resized: set smallest_input to 1")


MODES: dict[str, tuple[StimulativeSettings | None, StereoDepth]] = {
    "common training": (None, StereoDepth()),
    "subnets with labels": (replace(ST, target="labels"), StereoDepth()),
    "depth KL": (ST, StereoDepth({"depth KL": 1.0})),
    "depth KL-": (ST, StereoDepth({"depth KL-": 1.0})),
    "depth KL- and disparity": (ST, StereoDepth({"depth KL-": 1.0, "disparity": 1.0})),
    "depth KL and features": (ST, StereoDepth({"depth KL": 1.0, "features": 0.1})),
}


def settings() -> dict[str, Any]:
    """What the result file says of all runs."""
    modes = {
        name: {"method": method and asdict(method), "weights": dict(task.weights)}
        for name, (method, task) in MODES.items()
    }
    return {"training": asdict(TRAINING), "pairs": PAIRS, "amplitude": AMPLITUDE, "modes": modes}


def measured(mode: str, seed: int) -> Run:
    """Trains once and measures all subnets, and the network with half of its inner channels."""
    method, task = MODES[mode]
    train_pairs, test_pairs = stereo_pairs(PAIRS, seed=1), stereo_pairs(PAIRS, seed=2)
    torch.manual_seed(seed)
    network = StereoNet()
    step: CompressionStep[StereoPairs] = (
        CommonTraining(network, task)
        if method is None
        else Stimulative(network, stereo_space(network), task, method, seed)
    )
    start = time.perf_counter()
    train(network, step, train_pairs, TRAINING, seed)
    seconds = time.perf_counter() - start
    return {
        "mode": mode,
        "seed": seed,
        **elastic_errors(network, train_pairs, test_pairs),
        "seconds": round(seconds, 1),
        **pruned(network, train_pairs, test_pairs),
    }


def elastic_errors(network: StereoNet, train_pairs: StereoPairs, test_pairs: StereoPairs) -> Run:
    """End-point errors in pixels of the network and of all its subnets."""
    space = stereo_space(network)
    found = {
        depths: subnet_error(network, (), space.subnet(depths), train_pairs, test_pairs)
        for depths in space
    }
    main = found.pop(space.full)
    return {
        "main": main,
        "subnets": sum(found.values()) / len(found),
        "worst": max(found.values()),
        "by_depths": {" ".join(map(str, depths)): found[depths] for depths in found},
    }


def pruned(network: StereoNet, train_pairs: StereoPairs, test_pairs: StereoPairs) -> Run:
    """Half of each block's inner channels cut out by their L1 norms, without further training."""
    example = (train_pairs.left[:1], train_pairs.right[:1])
    groups = [group for group in find_groups(network, example) if group.name.endswith("conv1")]
    sizes = {group.name: group.channels // 2 for group in groups}
    subnet = subnet_of_sizes(network, groups, sizes)
    slim = slimmed(network, groups, subnet)
    return {
        "pruned_groups": len(groups),
        "pruned_parameters": sum(values.numel() for values in slim.parameters()),
        "parameters": sum(values.numel() for values in network.parameters()),
        "pruned_error": subnet_error(slim, (), Subnet(), train_pairs, test_pairs),
        "active_subnet_error": subnet_error(network, groups, subnet, train_pairs, test_pairs),
    }


def subnet_error(
    network: nn.Module,
    groups: tuple[ChannelGroup, ...] | list[ChannelGroup],
    subnet: Subnet,
    train_pairs: StereoPairs,
    test_pairs: StereoPairs,
) -> float:
    """Mean end-point error in pixels where both eyes look, with statistics of this subnet."""
    network, task = copy.deepcopy(network), StereoDepth()
    with subnet.active(network, groups), torch.no_grad():
        reestimated_statistics(network, [train_pairs], task.predict)
        predicted = task.predict(network.eval(), test_pairs).disparity
    return (predicted - test_pairs.disparity)[test_pairs.visible].abs().mean().item()


def main(options: ExperimentOptions) -> None:
    """Makes all runs that are missing."""
    torch.set_num_threads(1)
    results = ResultFile(options.output, "E5: distillation of depth, random-dot stereo", settings())
    for seed in options.seeds:
        for mode in MODES:
            if not results.has(mode, seed):
                results.add(measured(mode, seed))
                print(table(results.runs, COLUMNS, digits=3), flush=True)


if __name__ == "__main__":
    main(tyro.cli(ExperimentOptions))
