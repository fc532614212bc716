"""The published network with half and a quarter of its backbone's operations: mechanics and speed.

  python -m benchmarks.compression.hisplat_full --output FILE.json

Weights are random, so this says nothing about quality. Every channel group of the backbone keeps
the same share of its channels; slim networks are saved, loaded back, checked against the subnet
they were cut out of, and timed beside the whole one in the same run.
"""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from hisplat_app.bench.subject import Case, create_network, photos
from hisplat_app.compression_speed import latencies
from hisplat_app.machine import machine
from hisplat_models.checkpoints import load_model, save_model
from hisplat_models.compression.baselines import uniform_sizes
from hisplat_models.compression.budgets import Budget
from hisplat_models.compression.groups import ChannelGroup
from hisplat_models.compression.hisplat import BACKBONE, channel_groups
from hisplat_models.compression.hisplat.costs import part_flops
from hisplat_models.compression.hisplat.layers import run_features
from hisplat_models.compression.hisplat.slim import slim_copy
from hisplat_models.compression.masks import subnet_of_sizes
from hisplat_models.compression.subnet import Subnet
from hisplat_models.network import HiSplat


@dataclass
class Measure:
    """What is measured, and how often."""

    output: Path
    """The result."""
    size: int = 256
    """Side of the photos, for operations and seconds."""
    keep: tuple[float, ...] = (0.5, 0.25)
    """Shares of the backbone's operations."""
    threads: tuple[int, ...] = (1, 2)
    """Of the CPU, one after the other."""
    repeats: int = 2
    """Of each network."""

    def run(self) -> None:
        """Writes the result after each number of threads."""
        size = (self.size, self.size)
        whole = create_network(Case("hisplat", *size))
        groups = channel_groups(whole, BACKBONE)
        flops = part_flops(whole, groups, BACKBONE, size)
        networks, rows = {"whole": whole}, {}
        with tempfile.TemporaryDirectory() as folder:
            for keep in self.keep:
                sizes = uniform_sizes(groups, Budget(flops, keep))
                subnet = subnet_of_sizes(whole, groups, sizes)
                path = Path(folder) / f"{keep:g}.safetensors"
                save_model(slim_copy(whole, groups, subnet), path)
                name = f"{keep:g}"
                networks[name] = load_model(path)
                rows[name] = {
                    "backbone_gflops": flops.of(subnet) / 1e9,
                    "parameters": _parameters(networks[name]),
                    "bytes": path.stat().st_size,
                    "difference_from_subnet": _difference(whole, groups, subnet, networks[name]),
                }
        rows["whole"] = {"backbone_gflops": flops.of() / 1e9, "parameters": _parameters(whole)}
        result = {"machine": machine(), "size": self.size, "networks": rows, "seconds": {}}
        for threads in self.threads:
            seconds = latencies(networks, size, threads, self.repeats)
            result["seconds"][f"{threads} threads"] = seconds
            self.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(table(result))


@torch.no_grad()
def _difference(whole: HiSplat, groups: list[ChannelGroup], subnet: Subnet, slim: HiSplat) -> float:
    """The largest difference between the multi-view features of both, over their deviation."""
    images, _ = photos(Case("hisplat", 64, 64))
    with subnet.active(whole, groups):
        _, expected = run_features(whole, images)
    _, features = run_features(slim, images)
    return float(f"{(features - expected).abs().max().item() / expected.std().item():.2g}")


def _parameters(network: HiSplat) -> int:
    return sum(p.numel() for p in network.parameters())


def table(result: dict[str, Any]) -> str:
    """Markdown: a line per network and number of threads."""
    lines = [
        "| backbone | GFLOP | parameters | threads | backbone, s | faster | CPU s | faster | "
        "network, CPU s | faster |",
        "|---" * 10 + "|",
    ]
    for threads, seconds in result["seconds"].items():
        for name, values in seconds.items():
            row = result["networks"][name]
            kinds = ("features", "cpu features", "cpu network")
            ratios = [seconds["whole"][kind] / values[kind] for kind in kinds]
            lines.append(
                f"| {name} | {row['backbone_gflops']:.1f} | {row['parameters'] / 1e6:.1f} M | "
                f"{threads[0]} | {values['features']:.2f} | {ratios[0]:.2f} | "
                f"{values['cpu features']:.2f} | {ratios[1]:.2f} | "
                f"{values['cpu network']:.2f} | {ratios[2]:.2f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    tyro.cli(Measure).run()
