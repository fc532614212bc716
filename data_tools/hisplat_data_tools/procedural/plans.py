"""Everything about a sample that chance decides: the scene, the cameras, the faults of its photos.

Drawing it takes no picture, so that whoever makes the pictures, and wherever, makes the same ones.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from .layouts import sample_layout, sample_scene
from .photo_effects import Faults, Metering, draw_faults, draw_metering, draw_tint
from .render import Camera
from .scene import Scene, random_rotation, rotation_about
from .settings import ProceduralSettings
from .views import SampledCameras, sample_cameras


@dataclass(frozen=True)
class Shots:
    """How the photos of a sample are taken.

    Attributes:
        metering: Of the first photo.
        tints: Factors per channel of each photo's exposure against the first one's.
        faults: Of each photo; None for clean ones.
    """

    metering: Metering
    tints: tuple[Float64[np.ndarray, "3"], ...]
    faults: tuple[Faults | None, ...]


@dataclass(frozen=True)
class Frame:
    """What an example's numbers are given in: a unit and a world frame of its own.

    Attributes:
        margins: Factors that widen the range of depths, near and far.
        scale: Units of the example in a unit of the scene.
        world: Rigid map from the scaled scene to the example's world.
        given: The cameras of the photos as an estimate would give them, in the scene's frame.
    """

    margins: tuple[float, float]
    scale: float
    world: Float64[np.ndarray, "4 4"]
    given: tuple[Camera, ...]

    def poses(self, cameras: tuple[Camera, ...]) -> Float64[np.ndarray, "view 4 4"]:
        """Poses in the example's world."""
        poses = np.array([camera.camera_to_world for camera in cameras]).reshape(-1, 4, 4)
        poses[:, :3, 3] *= self.scale
        return self.world @ poses


@dataclass(frozen=True)
class Plan:
    """A sample before any picture of it.

    Attributes:
        scene: The scene.
        cameras: Where the pictures will be taken.
        shots: How the photos will be taken.
        frame: What the example's numbers will be given in.
    """

    scene: Scene
    cameras: SampledCameras
    shots: Shots
    frame: Frame


def draw_plan(rng: np.random.Generator, settings: ProceduralSettings) -> Plan:
    """A random sample."""
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
    shots = _draw_shots(rng, settings)
    return Plan(scene, cameras, shots, _draw_frame(rng, cameras.context, settings))


def _draw_shots(rng: np.random.Generator, settings: ProceduralSettings) -> Shots:
    metering, strength = draw_metering(rng), settings.photo_effects
    tints = [np.ones(3)]
    tints += [draw_tint(rng, strength) for _ in range(settings.context_views - 1)]
    size = settings.height, settings.width
    faults = [
        draw_faults(rng, *size, strength) if strength else None
        for _ in range(settings.context_views)
    ]
    return Shots(metering, tuple(tints), tuple(faults))


def _draw_frame(
    rng: np.random.Generator, cameras: tuple[Camera, ...], settings: ProceduralSettings
) -> Frame:
    """A world frame and unit of its own, so that nothing can depend on them."""
    margins = rng.uniform(0.8, 1.0), rng.uniform(1.0, 1.3)
    scale = float(np.exp(rng.uniform(math.log(0.2), math.log(5.0))))
    world = np.eye(4)
    axis = rng.standard_normal(3)
    world[:3, :3] = rotation_about(axis / np.linalg.norm(axis), rng.uniform(0, math.pi))
    world[:3, 3] = rng.normal(0, 2 * scale, 3)
    return Frame(margins, scale, world, _disturbed(rng, cameras, settings))


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
