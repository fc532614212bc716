"""How good networks are beside each other: on made-up pairs, and on photos with known cameras."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from hisplat_data_tools.datasets import PosedFolderDataset
from hisplat_models.metrics import psnr, ssim
from hisplat_models.network import HiSplat
from hisplat_models.training.feed import ExampleDataset, SampleKey, TrainingSamples

from .evaluation.folders import find_folders
from .evaluation.methods import Method
from .evaluation.networks import NetworkScene
from .evaluation.scenes import PairRunner
from .evaluation.statistics import mean_scores, scene_means

SCORES = ("psnr", "gain_corrected_psnr", "ssim")


@torch.no_grad()
def quality_on_examples(
    networks: Mapping[str, HiSplat], examples: ExampleDataset
) -> dict[str, dict[str, float]]:
    """Mean PSNR (dB) and SSIM of each network over the targets of held-back examples."""
    totals: dict[str, list[tuple[float, float]]] = {name: [] for name in networks}
    with_prior = any(network.config.matching_prior for network in networks.values())
    samples = TrainingSamples(examples, with_prior, seed=0, augment="none")
    for index in range(len(samples)):
        sample = samples[SampleKey(0, index)]
        for name, network in networks.items():
            device = next(network.parameters()).device
            part = sample.to(device)
            example, target = part.example, part.example.target_images
            output = network(example.context_images, example.context_cameras, prior=part.prior)
            renderer = network.create_renderer(device)
            size = (target.shape[-2], target.shape[-1])
            color = renderer(output.gaussians, example.target_cameras, size).color.clamp(0, 1)
            scores = (psnr(color, target).mean().item(), ssim(color, target).mean().item())
            totals[name].append(scores)
    return {
        name: {
            "psnr": round(sum(p for p, _ in scores) / len(scores), 3),
            "ssim": round(sum(s for _, s in scores) / len(scores), 4),
        }
        for name, scores in totals.items()
    }


def quality_on_photos(
    networks: Mapping[str, HiSplat],
    data: Path,
    long_side: int,
    pairs_per_scene: int | None = None,
) -> dict[str, Any]:
    """Each network on pairs of posed folders, by the code of ``hisplat evaluate``.

    Args:
        networks: By name.
        data: A posed folder, or a folder of such.
        long_side: Of photos and targets, pixels.
        pairs_per_scene: The first so many of each folder; None for all.

    Raises:
        ValueError: if there is no posed folder.
    """
    folders = find_folders(data, ())
    if not folders.posed:
        raise ValueError(f"Expected posed folders (photos and cameras.json) in {data}.")
    multiple = math.lcm(16, *(network.size_multiple for network in networks.values()))
    datasets = [PosedFolderDataset(path, long_side, multiple) for path in folders.posed]
    methods: dict[str, Method] = {
        name: NetworkScene(network, next(network.parameters()).device)
        for name, network in networks.items()
    }
    runner = PairRunner(methods, "given", "intrinsics", sheets=False)
    results = [
        runner(dataset, index)
        for dataset in datasets
        for index in range(len(dataset))[:pairs_per_scene]
    ]
    views = [view for result in results for view in result.views]
    means = {}
    for name in networks:
        by_scene = scene_means(views, name)
        scores = asdict(mean_scores(list(by_scene.values())))
        means[name] = {key: round(scores[key], 4) for key in SCORES}
        means[name]["scenes"] = {s: round(v.psnr, 3) for s, v in sorted(by_scene.items())}
    return {"long_side": long_side, "pairs": len(results), "means": means}
