"""The methods that nerfstudio finds through this project's entry points."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanagerConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.plugins.types import MethodSpecification

from .model import HiSplatModelConfig
from .pipeline import HiSplatPipelineConfig
from .schedules import DecayConfig

ITERATIONS = 7000

LEARNING_RATES = {
    "means": 1.6e-4,
    "features_dc": 2.5e-3,
    "features_rest": 1.25e-4,
    "opacities": 0.05,
    "scales": 5e-3,
    "quats": 1e-3,
    "camera_opt": 1e-4,
    "bilateral_grid": 2e-3,
}
"""Those of splatfacto, for its parameter groups."""

FINAL_RATES = {"means": 1.6e-6, "camera_opt": 5e-7, "bilateral_grid": 1e-4}
"""Groups whose rate decays to this over the training."""


def _optimizers(factor: float, iterations: int) -> dict[str, Any]:
    """An optimiser for each parameter group, rates times ``factor``."""
    return {
        group: {
            "optimizer": AdamOptimizerConfig(lr=factor * rate, eps=1e-15),
            "scheduler": DecayConfig(lr_final=factor * FINAL_RATES[group], max_steps=iterations)
            if group in FINAL_RATES and factor
            else None,
        }
        for group, rate in LEARNING_RATES.items()
    }


_refined = TrainerConfig(
    method_name="hisplat",
    steps_per_eval_batch=0,
    steps_per_eval_image=100,
    steps_per_eval_all_images=1000,
    steps_per_save=2000,
    max_num_iterations=ITERATIONS,
    mixed_precision=False,
    pipeline=HiSplatPipelineConfig(
        datamanager=FullImageDatamanagerConfig(
            dataparser=NerfstudioDataParserConfig(load_3D_points=True),
            cache_images_type="uint8",
        ),
        model=HiSplatModelConfig(),
    ),
    optimizers=_optimizers(1.0, ITERATIONS),
    viewer=ViewerConfig(num_rays_per_chunk=1 << 15),
    vis="viewer",
)

hisplat = MethodSpecification(
    config=_refined,
    description="Feed-forward Gaussians from pairs of photos (HiSplat), refined like splatfacto's.",
)

hisplat_init = MethodSpecification(
    # Rates of zero: the one iteration that a training needs leaves the scene as it is.
    config=replace(
        deepcopy(_refined),
        method_name="hisplat-init",
        max_num_iterations=1,
        optimizers=_optimizers(0.0, 1),
    ),
    description="Feed-forward Gaussians from pairs of photos (HiSplat), without any refinement.",
)
