"""Training samples made on the fly: a random scene, cameras in it, photos and exact depth."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor
from torch.utils.data import Dataset

from hisplat_models.cameras import Cameras
from hisplat_models.example import Example

from .photo_effects import Exposure, develop, photograph
from .plans import Plan, draw_plan
from .render import Camera, Rendering, render
from .settings import ProceduralSettings

RANGE_QUANTILES, RANGE_FACTORS = (0.02, 0.98), (0.75, 1.5)
"""Near and far as triangulated matches would give them: quantiles of the depth, and factors."""


@dataclass(frozen=True)
class Sample:
    """One sample before it becomes tensors: everything exact, in the scene's frame.

    Attributes:
        plan: The scene, the cameras and all else that chance decided.
        context: What the context cameras see, in linear light.
        target: What the target cameras see, in linear light.
        context_images: Photos of the context views, with the faults of photos.
        target_images: Clean pictures with the first photo's exposure.
    """

    plan: Plan
    context: tuple[Rendering, ...]
    target: tuple[Rendering, ...]
    context_images: tuple[Float32[np.ndarray, "height width 3"], ...]
    target_images: tuple[Float32[np.ndarray, "height width 3"], ...]


def make_sample(rng: np.random.Generator, settings: ProceduralSettings) -> Sample:
    """A random scene with pictures of it."""
    plan = draw_plan(rng, settings)
    size = settings.height, settings.width, settings.samples_per_pixel
    context = tuple(render(plan.scene, camera, *size) for camera in plan.cameras.context)
    target = tuple(render(plan.scene, camera, *size) for camera in plan.cameras.target)
    shots = plan.shots
    first = shots.metering.exposure(context[0].radiance)
    photos = tuple(
        photograph(view.radiance, Exposure(first.gains * tint), faults)
        for view, tint, faults in zip(context, shots.tints, shots.faults, strict=True)
    )
    clean = tuple(develop(view.radiance, first) for view in target)
    return Sample(plan, context, target, photos, clean)


def _depth_range(plan: Plan, views: tuple[Rendering, ...]) -> tuple[float, float]:
    """Near and far as triangulated matches would give them, the sky left out; then widened."""
    seen = np.concatenate([view.depth[~view.is_sky] for view in views])
    near, far = np.quantile(seen, RANGE_QUANTILES) * RANGE_FACTORS
    margins = plan.frame.margins
    return float(near * margins[0]), float(far * margins[1])


def _to_cameras(
    plan: Plan, cameras: tuple[Camera, ...], depth_range: tuple[float, float]
) -> Cameras:
    """Tensors of the cameras in the example's world and unit."""
    near, far = depth_range
    scale, count = plan.frame.scale, len(cameras)
    intrinsics = np.array([camera.intrinsics for camera in cameras]).reshape(-1, 3, 3)
    return Cameras(
        camera_to_world=_floats(plan.frame.poses(cameras)),
        intrinsics=_floats(intrinsics),
        near=torch.full((count,), scale * near, dtype=torch.float32),
        far=torch.full((count,), scale * far, dtype=torch.float32),
    )


def _floats(values: Float64[np.ndarray, "..."]) -> Float32[Tensor, "..."]:
    return torch.from_numpy(values.astype(np.float32))


def _images(pictures: tuple[np.ndarray, ...], settings: ProceduralSettings) -> Tensor:
    stacked = np.array(pictures, np.float32).reshape(-1, settings.height, settings.width, 3)
    return torch.from_numpy(np.ascontiguousarray(stacked.transpose(0, 3, 1, 2)))


def _depths(plan: Plan, views: tuple[Rendering, ...], settings: ProceduralSettings) -> Tensor:
    depths = np.array([view.depth for view in views], np.float32)
    return torch.from_numpy(plan.frame.scale * depths.reshape(-1, settings.height, settings.width))


class ProceduralDataset(Dataset[Example]):
    """Random scenes as examples; item ``i`` depends on the settings, the seed and ``i`` alone."""

    def __init__(self, settings: ProceduralSettings, seed: int, length: int) -> None:
        """Makes nothing yet; items are rendered when asked for.

        Args:
            settings: What the samples are like.
            seed: Chooses the family of scenes, >= 0.
            length: Number of items; more cost nothing.
        """
        if seed < 0 or length < 0:
            raise ValueError(f"Expected seed and length >= 0, got {seed} and {length}")
        self.settings = settings
        self.seed = seed
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Example:
        settings = self.settings
        sample = make_sample(self.random(index), settings)
        plan = sample.plan
        depth_range = _depth_range(plan, sample.context)
        return Example(
            name=self.name(index),
            context_images=_images(sample.context_images, settings),
            context_cameras=_to_cameras(plan, plan.frame.given, depth_range),
            target_images=_images(sample.target_images, settings),
            target_cameras=_to_cameras(plan, plan.cameras.target, depth_range),
            context_depth=_depths(plan, sample.context, settings),
            target_depth=_depths(plan, sample.target, settings),
        )

    def random(self, index: int) -> np.random.Generator:
        """The source of all choices of an item.

        Raises:
            IndexError: if there is no such item.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"Item {index} of a dataset of {self.length}")
        return np.random.default_rng([self.seed, index])

    def name(self, index: int) -> str:
        """What an item is called."""
        return f"procedural/{self.seed}/{index}"
