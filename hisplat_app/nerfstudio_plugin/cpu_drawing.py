"""Splatfacto's drawing without a GPU: our renderer, and what density control wants to know."""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras as NerfstudioCameras
from torch import Tensor

from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import SH_C0, Gaussians
from hisplat_models.rendering import CpuRenderer, RasterizationSettings

from .cameras import from_nerfstudio

if TYPE_CHECKING:
    from .model import HiSplatModel

RADIUS_IN_SIGMAS = 3.0


def draw(model: "HiSplatModel", camera: NerfstudioCameras) -> dict[str, Tensor | list]:
    """What ``SplatfactoModel.get_outputs`` gives for one camera.

    Raises:
        ValueError: for the rasterisation mode "antialiased", which the renderer does not have.
    """
    if model.config.rasterize_mode != "classic":
        raise ValueError(
            f"The rasterize-mode {model.config.rasterize_mode} needs a GPU: use classic."
        )
    gaussians = scene(model)
    if model.crop_box is not None and not model.training:
        gaussians = gaussians[model.crop_box.within(model.means).reshape(-1)]
    seen, (height, width) = _camera(model, camera)
    background = model._get_background_color()
    if not gaussians.count:
        return model.get_empty_outputs(width, height, background)
    drawn = CpuRenderer(RasterizationSettings())(
        gaussians[None], seen[None], (height, width), background.detach()
    )
    model.last_size = (height, width)
    if model.training:
        model.info = _screen_info(gaussians, seen, (height, width))
        model.strategy.step_pre_backward(
            model.gauss_params, model.optimizers, model.strategy_state, model.step, model.info
        )
    rgb = drawn.color[0, 0].permute(1, 2, 0).clamp(0, 1)
    if model.config.use_bilateral_grid and model.training and camera.metadata:
        rgb = model._apply_bilateral_grid(rgb[None], camera.metadata["cam_idx"], height, width)[0]
    alpha = drawn.alpha[0, 0][..., None]
    depth = None
    if model.config.output_depth_during_training or not model.training:
        mean = drawn.expected_depth()[0, 0][..., None]
        depth = torch.where(alpha > 0, mean, mean.detach().max())
    shown = background if model.training else background.expand(height, width, 3)
    return {"rgb": rgb, "depth": depth, "accumulation": alpha, "background": shown}  # pyright: ignore[reportReturnType]


def scene(model: "HiSplatModel") -> Gaussians:
    """The model's Gaussians with the bands of harmonics that its step has reached, with history."""
    if model.config.sh_degree > 0:
        degree = min(model.step // model.config.sh_degree_interval, model.config.sh_degree)
        rest = model.features_rest[:, : (degree + 1) ** 2 - 1]
        harmonics = torch.cat([model.features_dc[:, None], rest], dim=1)
    else:
        harmonics = (torch.sigmoid(model.features_dc)[:, None] - 0.5) / SH_C0
    return Gaussians(
        means=model.means,
        scales=model.scales.exp(),
        quaternions_wxyz=torch.nn.functional.normalize(model.quats, dim=-1),
        opacities=torch.sigmoid(model.opacities)[:, 0],
        harmonics=harmonics,
        level=torch.zeros(len(model.means), dtype=torch.long),
    )


def _camera(model: "HiSplatModel", camera: NerfstudioCameras) -> tuple[Cameras, tuple[int, int]]:
    """The camera, shape (1,), at the resolution that the training has reached."""
    poses = camera.camera_to_worlds
    if model.training:
        poses = model.camera_optimizer.apply_to_camera(camera)
    factor = model._get_downscale_factor()
    camera.rescale_output_resolution(1 / factor)
    seen, size = from_nerfstudio(camera, poses), (int(camera.height), int(camera.width))
    camera.rescale_output_resolution(factor)
    return seen, size


def _screen_info(gaussians: Gaussians, seen: Cameras, size: tuple[int, int]) -> dict[str, object]:
    """What gsplat's rasteriser would tell the strategy; gradients come after the backward pass."""
    height, width = size
    with torch.no_grad():
        x, y, depth = seen[0].project(gaussians.means).unbind(dim=-1)
        focal = seen.intrinsics[0, 0, 0] * width
        sigma = gaussians.scales.amax(dim=-1) * focal / depth.clamp_min(1e-6)
        radius = (RADIUS_IN_SIGMAS * (sigma.square() + 0.3).sqrt()).ceil()
        inside = (x * width + radius > 0) & (x * width - radius < width)
        inside &= (y * height + radius > 0) & (y * height - radius < height)
        radii = torch.where(inside & (depth > 0.01), radius, 0.0)
    return {
        "width": width,
        "height": height,
        "n_cameras": 1,
        "radii": radii[None],
        "gaussian_ids": None,
        "means2d": torch.zeros(1, gaussians.count, 2, requires_grad=True),
        "pixels_per_length": (focal / depth.clamp_min(1e-6)).detach(),
        "world_to_camera": seen.world_to_camera[0, :3, :3].detach(),
    }


def set_screen_gradients(model: "HiSplatModel") -> None:
    """Puts the gradients of the Gaussians' places in the picture where the strategy looks.

    The renderer has gradients of places in the world: moved by dx in the camera's plane, a Gaussian
    moves by dx focal / depth pixels, so the one is the other times focal / depth.
    """
    gradient = model.means.grad
    info = model.info
    if gradient is None or len(gradient) != len(info["pixels_per_length"]):
        return
    in_camera: Float[Tensor, "n 3"] = gradient @ info["world_to_camera"].mT
    info["means2d"].grad = (in_camera[:, :2] / info["pixels_per_length"][:, None])[None]
