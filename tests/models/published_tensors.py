"""Every tensor that the reference cases hold, read off one run of our network.

Names, orders of axes and layouts are the reference's: "(v b)" marks maps whose first axis runs
over the views first.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hisplat_models.cameras import Cameras
from hisplat_models.depth_heads import upsampled
from hisplat_models.features import imagenet_normalised
from hisplat_models.features.vit import resized_to_patches
from hisplat_models.fusion import mean_error
from hisplat_models.gaussian_head import HARMONICS_START, damped_by_band
from hisplat_models.gaussians import Gaussians, matrix_to_quaternion, multiply_quaternions
from hisplat_models.network import HiSplat, HiSplatOutput
from hisplat_models.published_colors import published_rotation
from hisplat_models.rendering import Renderer, Rendering
from hisplat_models.stage import StageOutput


@torch.no_grad()
def published_tensors(model: HiSplat, images: Tensor, cameras: Cameras) -> dict[str, Tensor]:
    """One run of the preset "hisplat": tensors under their published names."""
    size = (images.shape[-2], images.shape[-1])
    renderer = RecordingRenderer(model.create_renderer(images.device))
    with recorded_modules(model) as seen, renderer_of(model, renderer):
        output = model(images, cameras)
    final_render = model.create_renderer(images.device)(output.gaussians, cameras, size).color
    renders = [*renderer.colors, final_render]
    tensors = _features(images, seen)
    for index in range(len(output.stages)):
        tensors |= {
            f"stage{index}_{name}": tensor
            for name, tensor in {
                **_stage(output, index, cameras, seen),
                "render": renders[index],
                "final_opacities": output.accumulated[index].opacities,
            }.items()
        }
        if index > 0:
            error = (images - renders[index - 1]).abs()
            grids = [stage.raw.shape[-2:] for stage in output.stages[:index]]
            masks = [_rows(mean_error(error, *grid)).flatten(1, 2) for grid in grids]
            tensors |= {
                f"stage{index}_error_map": _view_first(error),
                f"stage{index}_mod_mask": torch.cat(masks, dim=1),
                f"stage{index}_mod_weight": seen["weights"][index - 1].sigmoid(),
            }
    harmonics = [tensors[f"stage{i}_new_harmonics"] for i in range(len(output.stages))]
    return tensors | {
        "final_means": output.gaussians.means,
        "final_covariances": output.gaussians.covariances(),
        "final_harmonics": torch.cat(harmonics, dim=1),
    }


@dataclass
class RecordingRenderer:
    """Keeps the colours of everything that it draws."""

    renderer: Renderer
    colors: list[Tensor] = field(default_factory=list)

    def __call__(
        self,
        gaussians: Gaussians,
        cameras: Cameras,
        image_size: tuple[int, int],
        background: Tensor | None = None,
    ) -> Rendering:
        rendering = self.renderer(gaussians, cameras, image_size, background)
        self.colors.append(rendering.color)
        return rendering


@contextmanager
def renderer_of(model: HiSplat, renderer: Renderer) -> Iterator[None]:
    """The model draws its errors with another renderer for a while."""
    before, model.renderer = model.renderer, renderer
    try:
        yield
    finally:
        model.renderer = before


@contextmanager
def recorded_modules(model: HiSplat) -> Iterator[dict[str, list[Any]]]:
    """Fills a dictionary with what parts of the model give while it runs, call after call."""
    seen: dict[str, list[Any]] = {}
    stage_modules = list(model.stages)
    surface = stage_modules[0].surface
    assert model.monocular is not None
    assert model.fusion is not None
    assert isinstance(surface, nn.Module)
    outputs: dict[str, nn.Module] = {
        "vit": model.monocular.vit,
        "monocular": model.monocular,
        "transformer": model.transformer,
        "logits": surface.get_submodule("logits"),
        "weights": model.fusion.weigh,
    }
    for index, stage in enumerate(stage_modules):
        outputs[f"full {index}"] = stage.get_submodule("full")
        outputs[f"refine {index}"] = stage.get_submodule("refine")
    inputs = {"matched": surface.get_submodule("stem"), "refined": surface.get_submodule("hidden")}

    def keep(name: str) -> Callable[..., None]:
        return lambda _, given, *made: seen.setdefault(name, []).append(made[0] if made else given)

    with ExitStack() as stack:
        for name, module in outputs.items():
            stack.callback(module.register_forward_hook(keep(name)).remove)
        for name, module in inputs.items():
            stack.callback(module.register_forward_pre_hook(keep(name)).remove)
        for name in ("encode", "decode"):
            stack.enter_context(_recorded_method(model.cnn, name, seen))
        yield seen


@contextmanager
def _recorded_method(module: nn.Module, name: str, seen: dict[str, list[Any]]) -> Iterator[None]:
    method = getattr(module, name)

    def recorded(*arguments: Any) -> Any:
        seen[name] = method(*arguments)
        return seen[name]

    setattr(module, name, recorded)
    try:
        yield
    finally:
        delattr(module, name)


def _features(images: Tensor, seen: dict[str, list[Any]]) -> dict[str, Tensor]:
    views = images.shape[:2]
    patches = resized_to_patches(imagenet_normalised(images).flatten(0, 1))
    (matched,), (refined,) = seen["matched"][0], seen["refined"][0]
    logits = seen["logits"][0]
    candidates = logits.shape[1]
    return {
        "vit_input": patches,
        **{f"vit_tokens_{i}": tokens for i, tokens in enumerate(seen["vit"][0])},
        "dino_fused": seen["monocular"][0],
        **{f"resunet_enc_{i}": maps for i, maps in enumerate(seen["encode"])},
        **{f"cnn_feature_{i}": maps for i, maps in enumerate(seen["decode"])},
        "trans_feature": seen["transformer"][0],
        "cost_volume": _view_first(matched[:, :candidates].unflatten(0, views)),
        "cost_volume_refined": _view_first(refined.unflatten(0, views)),
        "depth_logits": _view_first(logits.unflatten(0, views)),
    }


def _stage(
    output: HiSplatOutput, index: int, cameras: Cameras, seen: dict[str, list[Any]]
) -> dict[str, Tensor]:
    stage = output.stages[index]
    views = stage.raw.shape[:2]
    size = (stage.raw.shape[-2], stage.raw.shape[-1])
    coarse = upsampled(output.stages[index - 1].surface, *size) if index else stage.surface
    full = F.gelu(seen[f"full {index}"][0])
    return {
        "depths": (1 / _rows(stage.surface.inverse_depth))[..., None],
        "densities": _rows(stage.opacities[:, :, None])[..., None],
        "raw_gaussians": _rows(stage.raw),
        "coarse_disps": _view_first(coarse.inverse_depth),
        "pdf_max": _view_first(stage.surface.confidence),
        "fullres_feat": _view_first(full.unflatten(0, views)),
        "refine": _view_first(seen[f"refine {index}"][0]),
        "new_means": stage.gaussians.means,
        "new_covariances": stage.gaussians.covariances(),
        "new_harmonics": published_harmonics(stage, cameras),
        "new_opacities": stage.gaussians.opacities,
        "new_scales": stage.gaussians.scales,
        "new_rotations": published_quaternions(stage, cameras),
    }


def published_harmonics(stage: StageOutput, cameras: Cameras) -> Tensor:
    """(batch, n, 3, 25): what the published renderer takes, before it is turned into our basis."""
    raw = stage.raw[:, :, HARMONICS_START:].permute(0, 1, 3, 4, 2).unflatten(-1, (3, -1))
    turn = published_rotation(cameras.camera_to_world[..., :3, :3], 4)
    turned = torch.einsum("bvij,bvhwjc->bvhwci", turn, damped_by_band(raw.mT))
    return turned.flatten(1, 3)


def published_quaternions(stage: StageOutput, cameras: Cameras) -> Tensor:
    """(batch, n, 4): rotations in the view's own camera, real part last."""
    conjugate = torch.tensor([1.0, -1.0, -1.0, -1.0])
    to_camera = matrix_to_quaternion(cameras.camera_to_world[..., :3, :3]) * conjugate
    world = stage.gaussians.quaternions_wxyz.unflatten(1, (to_camera.shape[1], -1))
    local = multiply_quaternions(to_camera[:, :, None].expand_as(world), world)
    return local.roll(-1, dims=-1).flatten(1, 2)


def _view_first(maps: Tensor) -> Tensor:
    """(batch, view, ...) to the order (v b)."""
    return maps.transpose(0, 1).flatten(0, 1)


def _rows(maps: Tensor) -> Tensor:
    """(batch, view, channels, height, width) to (batch, view, height * width, channels)."""
    return maps.flatten(3).transpose(2, 3)
