"""The published network with fewer channels: the same tensors by name, fifty times smaller."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from types import MappingProxyType

import torch

from hisplat_models.checkpoints import create_skeleton
from hisplat_models.config import PRESETS, HiSplatConfig, ViTConfig
from hisplat_models.network import HiSplat
from hisplat_models.published_checkpoints import PREFIX, to_published
from tests.models.parity import rule_tensor

_PUBLISHED = PRESETS["hisplat"]
SMALL = replace(
    _PUBLISHED,
    stages=tuple(
        replace(stage, refine_channels=32, head_channels=8) for stage in _PUBLISHED.stages
    ),
    cnn_widths=(8, 16, 32),
    depth_candidates=8,
    corr_channels=32,
    vit=ViTConfig(width=24, heads=2),
)


@cache
def published_state(config: HiSplatConfig = SMALL) -> Mapping[str, torch.Tensor]:
    """Weights by the fill rule, as the released code's checkpoints hold them."""
    shapes = to_published(create_skeleton(config).state_dict())
    return MappingProxyType(
        {k: rule_tensor(k.removeprefix(PREFIX), tuple(v.shape)) for k, v in shapes.items()}
    )


def training_state(state: Mapping[str, torch.Tensor]) -> dict[str, object]:
    """What Lightning 2 with PyTorch 2.1 saves beside the weights: loops, callbacks, Adam."""
    learned = [key for key in state if ".dino.vit." not in key and "running_" not in key]
    adam = {
        index: {
            "step": torch.tensor(300_001.0),
            "exp_avg": torch.zeros_like(state[key]),
            "exp_avg_sq": torch.zeros_like(state[key]),
        }
        for index, key in enumerate(learned)
        if state[key].is_floating_point()
    }
    return {
        "epoch": 12,
        "global_step": 300_001,
        "pytorch-lightning_version": "2.2.0",
        "state_dict": dict(state),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"current": {"ready": 13}}}},
        "callbacks": {
            "ModelCheckpoint{'monitor': 'info/global_step'}": {
                "best_model_score": torch.tensor(300_001.0),
                "best_model_path": "checkpoints/epoch_12-step_300001.ckpt",
                "best_k_models": {"checkpoints/epoch_12.ckpt": torch.tensor(3.0)},
            }
        },
        "optimizer_states": [
            {"state": adam, "param_groups": [{"lr": 2e-4, "betas": (0.9, 0.999)}]}
        ],
        # PyTorch stored the function itself until 2.4.
        "lr_schedulers": [
            {
                "total_steps": 300_011,
                "anneal_func": torch.optim.lr_scheduler.OneCycleLR._annealing_cos,
                "_last_lr": [8e-10],
            }
        ],
    }


def create_small() -> HiSplat:
    """The network at random, without touching the global generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return HiSplat(SMALL)
