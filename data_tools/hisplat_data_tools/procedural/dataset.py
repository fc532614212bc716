"""Training samples made on the fly: a random scene, cameras in it, photos and exact depth."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch.utils.data import Dataset

from hisplat_models.cameras import Cameras
from hisplat_models.example import Example

from .layouts import LAYOUTS, sample_layout, sample_scene
from .photo_effects import develop, photograph, sample_exposure, vary_exposure
from .render import Camera, Rendering, render
from .scene import Scene, random_rotation, rotation_about
from .views import SampledCameras, sample_cameras


@dataclass(frozen=True)
class ProceduralSettings:
    """What procedural samples are like."""

    height: int = 128
    """Rows of every picture."""
    width: int = 192
    """Columns of every picture."""
    context_views: int = 2
    """Photos to reconstruct from."""
    target_views: int = 3
    """Pictures to compare with: between the first two photos and slightly beyond."""
    samples_per_pixel: int = 4
    """Shaded rays a pixel; fewer are faster and rougher at edges."""
    baseline_range: tuple[float, float] = (0.03, 0.6)
    """Least and greatest distance of the photos, as a share of the first one's median depth."""
    least_covisibility: float = 0.4
    """Share of either photo that the other must see as well."""
    photo_effects: float = 1.0
    """Strength of exposure changes, noise, blur, vignetting and JPEG in the photos; 0 for none."""
    rotation_error_deg: float = 0.05
    """Greatest error of the rotation given between photos, as estimates have; 0 for exact."""
    translation_error_deg: float = 0.3
    """Greatest error of the direction given between photos; 0 for exact."""
    focal_error: float = 0.0
    """Greatest relative error of the given focal length, the same for all photos; 0 for exact."""
    layouts: tuple[str, ...] = tuple(LAYOUTS)
    """Kinds of scenes to choose from."""
    texture_size: int = 256
    """Side of the textures in texels, a power of two; larger for larger pictures."""

    def __post_init__(self) -> None:
        """Refuses what cannot be rendered.

        Raises:
            ValueError: for sizes, counts or ranges out of bounds, or unknown layouts.
        """
        if min(self.height, self.width) < 8:
            raise ValueError(f"Expected pictures of 8x8 or more, got {self.width}x{self.height}")
        if self.context_views < 1 or self.target_views < 0 or self.samples_per_pixel < 1:
            raise ValueError(
                "Expected at least one context view and one sample per pixel, got "
                f"{self.context_views} and {self.samples_per_pixel}"
            )
        low, high = self.baseline_range
        if not 0 < low <= high:
            raise ValueError(f"Expected 0 < low <= high in baseline_range, got {low}, {high}")
        if self.texture_size < 16 or self.texture_size & (self.texture_size - 1):
            raise ValueError(f"Expected a power of two >= 16 texels, got {self.texture_size}")
        unknown = set(self.layouts) - set(LAYOUTS)
        if unknown or not self.layouts:
            raise ValueError(f"Unknown layouts {sorted(unknown)}; choose from {sorted(LAYOUTS)}")


@dataclass(frozen=True)
class Sample:
    """One sample before it becomes tensors: everything exact, in the scene's frame.

    Attributes:
        scene: The scene.
        cameras: Where the pictures were taken.
        context: What the context cameras see, in linear light.
        target: What the target cameras see, in linear light.
        context_images: Photos of the context views, with the faults of photos.
        target_images: Clean pictures with the first photo's exposure.
    """

    scene: Scene
    cameras: SampledCameras
    context: tuple[Rendering, ...]
    target: tuple[Rendering, ...]
    context_images: tuple[Float32[np.ndarray, "height width 3"], ...]
    target_images: tuple[Float32[np.ndarray, "height width 3"], ...]


def make_sample(rng: np.random.Generator, settings: ProceduralSettings) -> Sample:
    """A random scene with pictures of it."""
    cameras, scene = None, None
    while cameras is None or scene is None:
        layout = sample_layout(rng, settings.layouts)
        scene = sample_scene(rng, layout, settings.texture_size)
        cameras = sample_cameras(
            rng,
            scene,
            settings.width / settings.height,
            settings.context_views,
            settings.target_views,
            settings.baseline_range,
            settings.least_covisibility,
        )
    size = settings.height, settings.width, settings.samples_per_pixel
    context = tuple(render(scene, camera, *size) for camera in cameras.context)
    target = tuple(render(scene, camera, *size) for camera in cameras.target)
    first = sample_exposure(rng, context[0].radiance)
    strength = settings.photo_effects
    exposures = [first] + [vary_exposure(rng, first, strength) for _ in context[1:]]
    photos = tuple(
        photograph(rng, view.radiance, exposure, strength)
        for view, exposure in zip(context, exposures, strict=True)
    )
    clean = tuple(develop(view.radiance, first) for view in target)
    return Sample(scene, cameras, context, target, photos, clean)


def _disturbed(
    rng: np.random.Generator, cameras: tuple[Camera, ...], settings: ProceduralSettings
) -> tuple[Camera, ...]:
    """The cameras as an estimate would give them; the first pose is the frame, so it is exact."""
    first = cameras[0].camera_to_world
    zoom = 1 + settings.focal_error * rng.uniform(-1, 1)
    scale = np.array([[zoom, 1, 1], [1, zoom, 1], [1, 1, 1]])
    disturbed = []
    for index, camera in enumerate(cameras):
        pose = camera.camera_to_world.copy()
        if index > 0:
            step = pose[:3, 3] - first[:3, 3]
            error = random_rotation(rng, math.radians(settings.translation_error_deg))
            pose[:3, 3] = first[:3, 3] + error @ step
            error = random_rotation(rng, math.radians(settings.rotation_error_deg))
            pose[:3, :3] = error @ pose[:3, :3]
        disturbed.append(Camera(pose, camera.intrinsics * scale))
    return tuple(disturbed)


def _depth_range(rng: np.random.Generator, views: tuple[Rendering, ...]) -> tuple[float, float]:
    """Near and far as triangulated matches would give them, the sky left out; then jittered."""
    seen = np.concatenate([view.depth[~view.is_sky] for view in views])
    near, far = np.quantile(seen, [0.02, 0.98]) * [0.75, 1.5]
    return float(near * rng.uniform(0.8, 1.0)), float(far * rng.uniform(1.0, 1.3))


def _to_cameras(
    cameras: tuple[Camera, ...],
    scale: float,
    world: Float64[np.ndarray, "4 4"],
    near: float,
    far: float,
) -> Cameras:
    """Tensors of the cameras in a scaled and moved world."""
    poses = np.stack([camera.camera_to_world for camera in cameras])
    poses[:, :3, 3] *= scale
    count = len(cameras)
    return Cameras(
        camera_to_world=torch.from_numpy((world @ poses).astype(np.float32)),
        intrinsics=torch.from_numpy(
            np.stack([camera.intrinsics for camera in cameras]).astype(np.float32)
        ),
        near=torch.full((count,), scale * near, dtype=torch.float32),
        far=torch.full((count,), scale * far, dtype=torch.float32),
    )


def _images(pictures: tuple[np.ndarray, ...], settings: ProceduralSettings) -> torch.Tensor:
    empty = np.zeros((0, settings.height, settings.width, 3), dtype=np.float32)
    stacked = np.stack(pictures) if pictures else empty
    return torch.from_numpy(np.ascontiguousarray(stacked.transpose(0, 3, 1, 2)))


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
        if not 0 <= index < self.length:
            raise IndexError(f"Item {index} of a dataset of {self.length}")
        rng = np.random.default_rng([self.seed, index])
        settings = self.settings
        sample = make_sample(rng, settings)
        near, far = _depth_range(rng, sample.context)
        # A world frame and unit of its own, so that nothing can depend on them.
        scale = float(np.exp(rng.uniform(math.log(0.2), math.log(5.0))))
        world = np.eye(4)
        axis = rng.standard_normal(3)
        world[:3, :3] = rotation_about(axis / np.linalg.norm(axis), rng.uniform(0, math.pi))
        world[:3, 3] = rng.normal(0, 2 * scale, 3)
        given = _disturbed(rng, sample.cameras.context, settings)
        return Example(
            name=f"procedural/{self.seed}/{index}",
            context_images=_images(sample.context_images, settings),
            context_cameras=_to_cameras(given, scale, world, near, far),
            target_images=_images(sample.target_images, settings),
            target_cameras=_to_cameras(sample.cameras.target, scale, world, near, far),
            context_depth=torch.from_numpy(scale * np.stack([v.depth for v in sample.context])),
            target_depth=torch.from_numpy(scale * np.stack([v.depth for v in sample.target])),
        )
