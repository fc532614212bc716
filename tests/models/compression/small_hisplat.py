"""Networks of both presets' structure, small but wide enough to be made narrower."""

from dataclasses import replace

import torch
from torch import nn

from hisplat_models.channels_last import GroupNorm
from hisplat_models.config import HiSplatConfig, ViTConfig
from hisplat_models.network import HiSplat
from tests.models.training_runs import TINY, TINY_PUBLISHED


def _wider(config: HiSplatConfig) -> HiSplatConfig:
    return replace(
        config,
        stages=tuple(replace(stage, refine_channels=16) for stage in config.stages),
        cnn_widths=(8, 8, 16),
        transformer_layers=2,
        corr_channels=16,
    )


BUNDLED_KIND = _wider(TINY)
PUBLISHED_KIND = replace(_wider(TINY_PUBLISHED), vit=ViTConfig(width=24, depth=6, heads=3))
KINDS = {"hisplat-small": BUNDLED_KIND, "hisplat": PUBLISHED_KIND}


def create(config: HiSplatConfig, seed: int = 0) -> HiSplat:
    """Random weights that leave no branch at zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = HiSplat(config).eval()
        for module in network.modules():
            if isinstance(module, GroupNorm):
                nn.init.normal_(module.weight, 1.0, 0.1)
        for module in network.stages.modules():
            if isinstance(module, nn.Conv2d) and not module.weight.any():
                nn.init.normal_(module.weight, 0, 0.1)
    return network
