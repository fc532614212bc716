"""hisplat-small-fast beside hisplat-small: size, quality on photos, seconds, in one run.

Usage: python -m benchmarks.compression.small_fast --data-dir DIR
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro

from hisplat_app.compression_quality import quality_on_photos
from hisplat_app.compression_speed import latencies
from hisplat_app.machine import machine
from hisplat_models.checkpoints import load_model
from hisplat_models.compression.hisplat.costs import layer_flops
from hisplat_models.network import HiSplat


@dataclass(frozen=True)
class Options:
    """On what they are compared."""

    data_dir: Path
    """Posed folders of photos."""
    output: Path = Path("docs/benchmarks/compression_small_fast.json")
    """Where the numbers go."""
    weights: str = "hisplat-small-fast"
    """The smaller network: a bundled name or a file."""
    sizes: tuple[int, ...] = (256, 384)
    """Long sides of the photos."""
    latency_size: tuple[int, int] = (192, 256)
    """Height and width of the pair that is timed."""
    repeats: int = 5
    """Of each network; the least seconds count."""


def main(options: Options) -> None:
    """Measures and writes."""
    torch.set_num_threads(1)
    networks = {"whole": load_model("hisplat-small"), "fast": load_model(options.weights)}
    document: dict[str, Any] = {
        "machine": machine(),
        "size": {name: size(network, options.latency_size) for name, network in networks.items()},
        "seconds": {
            f"{threads} threads": latencies(
                networks, options.latency_size, threads, options.repeats
            )
            for threads in (1, 2)
        },
        "latency_size": options.latency_size,
        "photos": [quality_on_photos(networks, options.data_dir, side) for side in options.sizes],
    }
    options.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for part in document["photos"]:
        print(part["long_side"], {n: (m["psnr"], m["ssim"]) for n, m in part["means"].items()})
    for threads, seconds in document["seconds"].items():
        ratio = {k: round(seconds["whole"][k] / seconds["fast"][k], 2) for k in seconds["whole"]}
        print(threads, ratio)
    print(document["size"])


def size(network: HiSplat, latency_size: tuple[int, int]) -> dict[str, float]:
    """Operations of CNN, transformer and stages; parameters of everything."""
    return {
        "gflops": round(layer_flops(network, latency_size) / 1e9, 3),
        "parameters": sum(p.numel() for p in network.parameters()),
    }


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
