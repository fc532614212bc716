"""How good a network and all subnets of its depth space are after one training run."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from hisplat_models.compression.spaces import DepthSpace
from hisplat_models.compression.step import CompressionStep

from .loop import TrainingSettings, subnet_accuracy, train
from .networks import ResidualNet, depth_space
from .report import ResultFile, Run, table
from .tasks import Data, ImageBatch

COLUMNS = {
    "main": "whole network, %",
    "subnets": "mean of all subnets, %",
    "worst": "worst subnet, %",
    "gap": "gap",
    "sampled_gap": "gap within the trained space",
    "forwards": "forward passes a batch",
}
"""Of the tables; "gap" is the whole network's accuracy less the mean of all its subnets'."""


@dataclass(frozen=True)
class Mode:
    """One way to train.

    Attributes:
        method: Makes its step for a network and a seed.
        space: The depths that it trains, within all there are.
        forwards: Forward passes per batch.
        epochs: Times the experiment's, so that all modes may have equally many forward passes.
        settings: What the result file says of it.
    """

    method: Callable[[ResidualNet, DepthSpace, int], CompressionStep[ImageBatch]]
    space: Callable[[DepthSpace], DepthSpace] = lambda space: space
    forwards: int = 1
    epochs: int = 1
    settings: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Experiment:
    """Data, network and length of training that all modes share."""

    name: str
    data: Callable[[], Data]
    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    training: TrainingSettings
    modes: Mapping[str, Mode]

    def run(self, output: Path, seeds: Iterable[int]) -> ResultFile:
        """Adds the runs that the file lacks."""
        results = ResultFile(output, self.name, self._settings())
        missing = [
            (seed, name) for seed in seeds for name in self.modes if not results.has(name, seed)
        ]
        data = self.data() if missing else None
        for seed, name in missing:
            assert data is not None
            results.add({"mode": name, "seed": seed, **self._measured(data, name, seed)})
            print(table(results.runs, COLUMNS), flush=True)
        return results

    def _settings(self) -> dict[str, Any]:
        modes = {
            name: {"epochs": mode.epochs, "forwards": mode.forwards, **(mode.settings or {})}
            for name, mode in self.modes.items()
        }
        shared = {"widths": self.widths, "blocks": self.blocks, "training": asdict(self.training)}
        return {**shared, "modes": modes}

    def _measured(self, data: Data, name: str, seed: int) -> Run:
        mode = self.modes[name]
        torch.manual_seed(seed)
        network = ResidualNet(data.classes, self.widths, self.blocks)
        trained = mode.space(depth_space(network))
        settings = TrainingSettings(
            **{**asdict(self.training), "epochs": mode.epochs * self.training.epochs}
        )
        start = time.perf_counter()
        train(network, mode.method(network, trained, seed), data.train, settings, seed)
        seconds = time.perf_counter() - start
        measured = elastic_accuracy(network, trained, data)
        return {**measured, "forwards": mode.forwards, "seconds": round(seconds, 1)}


def elastic_accuracy(network: ResidualNet, trained: DepthSpace, data: Data) -> Run:
    """Percents of the whole network and of all subnets, each with its own statistics.

    Args:
        network: After training.
        trained: The space whose subnets were drawn in training.
        data: Both parts.
    """
    space = depth_space(network)
    found = {
        depths: subnet_accuracy(network, (), space.subnet(depths), data.train, data.test)
        for depths in space
    }
    main = found.pop(space.full)
    sampled = [percent for depths, percent in found.items() if depths in trained]
    mean = sum(found.values()) / len(found)
    return {
        "main": main,
        "subnets": mean,
        "worst": min(found.values()),
        "gap": main - mean,
        "sampled_gap": main - sum(sampled) / len(sampled),
        "by_depths": {" ".join(map(str, depths)): found[depths] for depths in found},
    }
