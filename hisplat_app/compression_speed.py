"""How long networks take beside each other, in one run."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from hisplat_models.compression.hisplat.layers import run_features, run_layers
from hisplat_models.matching import match_views
from hisplat_models.network import HiSplat

from .bench.subject import Case, photos


@torch.no_grad()
def latencies(
    networks: Mapping[str, HiSplat], size: tuple[int, int], threads: int, repeats: int
) -> dict[str, dict[str, float]]:
    """Seconds of each network, the least of all repetitions; networks take turns.

    "features": CNN, transformer, ViT branch; "layers": these and all layers of the stages, that
    is what compression counts; "network": from photos and what the matcher found to Gaussians,
    error renders included; "matcher": the same for all.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _measured(networks, size, repeats)
    finally:
        torch.set_num_threads(before)


def _measured(
    networks: Mapping[str, HiSplat], size: tuple[int, int], repeats: int
) -> dict[str, dict[str, float]]:
    first = next(iter(networks.values()))
    device = next(first.parameters()).device
    images, cameras = photos(Case("", *size, device=str(device)))
    prior = match_views(images, cameras) if first.config.matching_prior else None
    kinds: dict[str, Callable[[HiSplat], Any]] = {
        "features": lambda network: run_features(network, images),
        "layers": lambda network: run_layers(network, images),
        "network": lambda network: network(images, cameras, prior=prior),
    }
    least: dict[str, dict[str, float]] = {name: {} for name in networks}
    for _ in range(repeats + 1):  # the first one warms up
        for kind, run in kinds.items():
            for name, network in networks.items():
                seconds = _seconds(lambda run=run, network=network: run(network), device)
                least[name][kind] = min(least[name].get(kind, seconds), seconds)
    if prior is not None:
        matcher = min(_seconds(lambda: match_views(images, cameras), device) for _ in range(2))
        for values in least.values():
            values["matcher"] = matcher
    return {
        name: {kind: float(f"{s:.4g}") for kind, s in values.items()}
        for name, values in least.items()
    }


def _seconds(run: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start
