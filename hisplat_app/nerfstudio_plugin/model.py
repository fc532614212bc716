"""Splatfacto's model for scenes that exist before the training, also on machines without a GPU."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from gsplat.strategy import DefaultStrategy
from nerfstudio.cameras.cameras import Cameras as NerfstudioCameras
from nerfstudio.model_components.lib_bilagrid import BilateralGrid
from nerfstudio.models.splatfacto import SplatfactoModel, SplatfactoModelConfig
from nerfstudio.utils.colors import get_color
from pytorch_msssim import SSIM
from torch import Tensor
from torchmetrics.image import PeakSignalNoiseRatio

if TYPE_CHECKING:
    from hisplat_models.gaussians import Gaussians

logger = logging.getLogger(__name__)

VIEWER_BACKGROUND = (0.149, 0.1647, 0.2157)
"""Of renders where the training's background is random: nerfstudio's viewer has this colour."""

SIGNED_SHARE = 0.25
"""Threshold for gradients whose signs cancel over the pixels of a Gaussian, over that for sums of
their absolute values: 0.0002 of 3DGS (Kerbl et al. 2023) against 0.0008 of AbsGS (Ye et al. 2024).
"""

LEAST_OPACITY, MOST_OPACITY = 1e-4, 1 - 1e-4


@dataclass
class HiSplatModelConfig(SplatfactoModelConfig):
    """Splatfacto's configuration with defaults for a scene that is nearly right at the start."""

    _target: type = field(default_factory=lambda: HiSplatModel)
    """target class to instantiate"""
    num_downscales: int = 0
    """at the beginning, resolution is 1/2^d, where d is this number; a scene from the network has
    its details already, and would lose them in small pictures"""
    cull_alpha_thresh: float = 0.005
    """threshold of opacity for culling gaussians"""
    stop_split_at: int = 5000
    """stop splitting at this step"""


class LazyLpips:
    """The perceptual distance of torchmetrics, made when it is first asked for.

    Its AlexNet may have to be downloaded, which a training need not wait for. It is no part of the
    model, so checkpoints don't hold it.
    """

    def __init__(self) -> None:
        self._metric: torch.nn.Module | None = None
        self._missing = False

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        """LPIPS of images (1, 3, height, width) in [0, 1]; NaN, told once, if it cannot be had."""
        if self._metric is None and not self._missing:
            self._make(images.device)
        if self._metric is None:
            return images.new_tensor(float("nan"))
        return self._metric(images, targets)

    def _make(self, device: torch.device) -> None:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        try:
            self._metric = LearnedPerceptualImagePatchSimilarity(normalize=True).to(device)
        except OSError as error:  # no connection, no write access; urllib's errors are OSErrors
            self._missing = True
            logger.warning("LPIPS is left out (nan): AlexNet's weights cannot be had: %s", error)


class HiSplatModel(SplatfactoModel):
    """Splatfacto's model: on CUDA as it is, on the CPU drawn by this project's renderer.

    Its parameters are those of a single Gaussian until ``put`` or a checkpoint brings a scene.
    """

    config: HiSplatModelConfig

    def populate_modules(self) -> None:
        """What splatfacto has; nothing that needs a GPU or a download."""
        config = self.config
        bands = (config.sh_degree + 1) ** 2
        shapes = {
            "means": (3,),
            "scales": (3,),
            "quats": (4,),
            "features_dc": (3,),
            "features_rest": (bands - 1, 3),
            "opacities": (1,),
        }
        self.gauss_params = torch.nn.ParameterDict(
            {name: torch.nn.Parameter(torch.zeros(1, *shape)) for name, shape in shapes.items()}
        )
        self.camera_optimizer = config.camera_optimizer.setup(
            num_cameras=self.num_train_data, device="cpu"
        )
        self.psnr = PeakSignalNoiseRatio(data_range=1.0)
        self.ssim = SSIM(data_range=1.0, size_average=True, channel=3)
        self.lpips = LazyLpips()
        self.step = 0
        self.crop_box = None
        self.background_color = (
            torch.tensor(VIEWER_BACKGROUND)
            if config.background_color == "random"
            else get_color(config.background_color)
        )
        if config.use_bilateral_grid:
            width, height, guide = config.grid_shape
            self.bil_grids = BilateralGrid(
                num=self.num_train_data, grid_X=width, grid_Y=height, grid_W=guide
            )
        self._set_strategy(absolute_gradients=config.use_absgrad)

    def _set_strategy(self, absolute_gradients: bool) -> None:
        """Density control as splatfacto's; the CPU has signed gradients only."""
        config = self.config
        signed = config.use_absgrad and not absolute_gradients
        self.strategy = DefaultStrategy(
            prune_opa=config.cull_alpha_thresh,
            grow_grad2d=config.densify_grad_thresh * (SIGNED_SHARE if signed else 1.0),
            grow_scale3d=config.densify_size_thresh,
            grow_scale2d=config.split_screen_size,
            prune_scale3d=config.cull_scale_thresh,
            prune_scale2d=config.cull_screen_size,
            refine_scale2d_stop_iter=config.stop_screen_size_at,
            refine_start_iter=config.warmup_length,
            refine_stop_iter=config.stop_split_at,
            reset_every=config.reset_alpha_every * config.refine_every,
            refine_every=config.refine_every,
            pause_refine_after_reset=self.num_train_data + config.refine_every,
            absgrad=absolute_gradients,
            revised_opacity=False,
            verbose=True,
        )
        self.strategy_state = self.strategy.initialize_state(scene_scale=1.0)

    def put(self, gaussians: "Gaussians") -> None:
        """Makes these Gaussians, without leading axes, the scene.

        Harmonics above the model's degree are cut off, missing ones are zero. Optimisers that hold
        the parameters keep them; they must not have state yet.
        """
        bands = self.gauss_params["features_rest"].shape[1] + 1
        harmonics = torch.zeros(gaussians.count, bands, 3)
        known = min(bands, gaussians.harmonics.shape[1])
        harmonics[:, :known] = gaussians.harmonics[:, :known]
        opacities = gaussians.opacities.clamp(LEAST_OPACITY, MOST_OPACITY)
        colors = gaussians.base_colors.clamp(LEAST_OPACITY, MOST_OPACITY)
        values = {
            "means": gaussians.means,
            "scales": gaussians.scales.log(),
            "quats": gaussians.quaternions_wxyz,
            # Without bands that depend on the view, splatfacto optimises logits of colours.
            "features_dc": harmonics[:, 0] if self.config.sh_degree > 0 else colors.logit(),
            "features_rest": harmonics[:, 1:],
            "opacities": opacities.logit()[:, None],
        }
        for name, value in values.items():
            parameter = self.gauss_params[name]
            parameter.data = value.detach().clone().to(parameter)

    def load_state_dict(self, dict: Mapping[str, Any], **kwargs: Any) -> None:
        """Takes a checkpoint's scene of any size; optimisers keep the parameters that they hold.

        Splatfacto makes new parameters here, so that a training that goes on changes nothing until
        it next adds or removes Gaussians.
        """
        held = {name: self.gauss_params[name] for name in self.gauss_params}
        super().load_state_dict(dict, **kwargs)
        for name, parameter in held.items():
            parameter.data = self.gauss_params[name].data
            self.gauss_params[name] = parameter

    def get_outputs(self, camera: NerfstudioCameras) -> dict[str, Tensor | list]:
        """RGB, depth, accumulation and background of one camera."""
        if self.device.type == "cuda":
            return super().get_outputs(camera)
        from .cpu_drawing import draw

        if self.strategy.absgrad:
            self._set_strategy(absolute_gradients=False)
        return draw(self, camera)

    def step_post_backward(self, step: int) -> None:
        """Density control after an iteration, but not after the very first one.

        There the strategy would make every Gaussian nearly transparent, as it does now and then
        later on; splatfacto's own start is transparent anyway.
        """
        if step == 0:
            return
        if self.device.type != "cuda":
            from .cpu_drawing import set_screen_gradients

            set_screen_gradients(self)
        super().step_post_backward(step)
