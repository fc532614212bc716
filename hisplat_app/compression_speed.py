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

    By the clock, and under "cpu KIND" those of the processor, of all its cores together, which
    hardly change while other programs are running; kinds are
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
                _note(least[name], kind, lambda run=run, network=network: run(network), device)
    if prior is not None:
        matcher: dict[str, float] = {}
        for _ in range(2):
            _note(matcher, "matcher", lambda: match_views(images, cameras), device)
        for values in least.values():
            values.update(matcher)
    return {
        name: {kind: float(f"{s:.4g}") for kind, s in values.items()}
        for name, values in least.items()
    }


def _note(least: dict[str, float], kind: str, run: Callable[[], Any], device: torch.device) -> None:
    before = _clocks(device)
    run()
    for name, start, end in zip((kind, f"cpu {kind}"), before, _clocks(device), strict=True):
        least[name] = min(least.get(name, float("inf")), end - start)


def _clocks(device: torch.device) -> tuple[float, float]:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()
