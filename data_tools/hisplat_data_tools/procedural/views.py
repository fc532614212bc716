"""Where pictures are taken from: pairs that overlap, and targets between and beside them."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from .raycast import BOX, CONE, CYLINDER, ELLIPSOID, HALF_SIZES, KIND
from .render import Camera, render_depth
from .scene import Rotation, Scene, Vector, random_rotation, rotation_about, turn

PROBE_WIDTH = 40


@dataclass(frozen=True)
class SampledCameras:
    """Cameras of one sample in the scene's frame.

    Attributes:
        context: The views to reconstruct from.
        target: The views to compare with.
        covisibility: Share of each further context view that the first one sees as well, and the
            other way round, whichever is less; the least over views.
        baseline: Distance from the first to the second view over the first's median depth.
    """

    context: tuple[Camera, ...]
    target: tuple[Camera, ...]
    covisibility: float
    baseline: float


def covisible(
    depth: Float32[np.ndarray, "height width"],
    camera: Camera,
    other_depth: Float32[np.ndarray, "height width"],
    other: Camera,
    tolerance: float = 0.03,
) -> np.ndarray:
    """Which pixels of ``camera`` the other view sees too: inside its frame and not hidden.

    A surface counts as the same if the depths there agree to ``tolerance``, relatively.
    """
    height, width = depth.shape
    grid = np.stack(
        [
            *np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height),
            np.ones((height, width)),
        ],
        axis=-1,
    )
    points = (grid @ np.linalg.inv(camera.intrinsics).T) * depth[..., None]
    world = points @ camera.camera_to_world[:3, :3].T + camera.camera_to_world[:3, 3]
    local = (world - other.camera_to_world[:3, 3]) @ other.camera_to_world[:3, :3]
    image = local @ other.intrinsics.T
    z = np.maximum(image[..., 2], 1e-9)
    x, y = image[..., 0] / z * width, image[..., 1] / z * height
    inside = (local[..., 2] > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    column = np.clip(x, 0, width - 1).astype(int)
    row = np.clip(y, 0, height - 1).astype(int)
    return inside & (np.abs(other_depth[row, column] - z) < tolerance * z)


def look_at(eye: Vector, point: Vector, roll: float = 0.0) -> Float64[np.ndarray, "4 4"]:
    """Pose of a camera that looks at a point with +z up in its picture, then rolled."""
    forward = (point - eye) / np.linalg.norm(point - eye)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    if np.linalg.norm(right) < 1e-3:
        right = np.array([1.0, 0.0, 0.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1) @ turn(2, roll)
    pose[:3, 3] = eye
    return pose


def _rotation_vector(rotation: Rotation) -> Vector:
    angle = math.acos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))
    if angle < 1e-9:
        return np.zeros(3)
    skew = np.array(
        [
            rotation[2, 1] - rotation[1, 2],
            rotation[0, 2] - rotation[2, 0],
            rotation[1, 0] - rotation[0, 1],
        ]
    )
    return angle * skew / (2 * math.sin(angle))


def _between(first: Camera, second: Camera, share: float) -> Camera:
    """The camera that far along the way from the first to the second."""
    turn_by = _rotation_vector(first.camera_to_world[:3, :3].T @ second.camera_to_world[:3, :3])
    angle = float(np.linalg.norm(turn_by))
    pose = first.camera_to_world.copy()
    if angle > 0:
        pose[:3, :3] = pose[:3, :3] @ rotation_about(turn_by / angle, share * angle)
    pose[:3, 3] += share * (second.camera_to_world[:3, 3] - pose[:3, 3])
    inner = min(max(share, 0.0), 1.0)
    intrinsics = (1 - inner) * first.intrinsics + inner * second.intrinsics
    return Camera(pose, intrinsics)


def _intrinsics(focal: float, aspect: float, centre: np.ndarray) -> Float64[np.ndarray, "3 3"]:
    """Normalised intrinsics; ``focal`` is over the width, ``aspect`` is width over height."""
    return np.array([[focal, 0, centre[0]], [0, focal * aspect, centre[1]], [0, 0, 1.0]])


def _is_inside_solid(scene: Scene, point: Vector) -> bool:
    """Whether a camera there would stand inside a solid (a box around everything is none)."""
    shapes = scene.geometry.shapes
    local = np.abs(shapes[:, :12].reshape(-1, 3, 4) @ np.append(point, 1.0))
    radius = np.hypot(local[:, 0], local[:, 1])
    kinds = shapes[:, KIND]
    is_small = shapes[:, HALF_SIZES : HALF_SIZES + 3].max(axis=1) < 4
    inside = (local.max(axis=1) < 1) & (kinds == BOX) & is_small
    inside |= (np.linalg.norm(local, axis=1) < 1) & (kinds == ELLIPSOID)
    inside |= (radius < 1) & (local[:, 2] < 1) & ((kinds == CYLINDER) | (kinds == CONE))
    return bool(inside.any())


def _motion(rng: np.random.Generator, distance: float, depth: float) -> tuple[Vector, Rotation]:
    """Step in the first camera's frame and rotation of the second against it."""
    style = rng.choice(["sideways", "forward", "diagonal", "orbit"], p=[0.35, 0.15, 0.2, 0.3])
    sign = rng.choice([-1.0, 1.0])
    if style == "forward":
        direction = np.array([0.25 * rng.normal(), 0.15 * rng.normal(), sign])
    elif style == "diagonal":
        direction = rng.normal(size=3) * [1.0, 0.6, 0.8]
    else:
        direction = np.array([sign, 0.15 * rng.normal(), 0.15 * rng.normal()])
    step = distance * direction / np.linalg.norm(direction)
    rotation = np.eye(3)
    if style == "orbit" or rng.random() < 0.4:
        # Turns so that the same point stays in the middle, wholly or in part.
        share = 1.0 if style == "orbit" else rng.uniform(0, 1)
        rotation = turn(1, -share * math.atan2(step[0], depth - step[2]))
        rotation = rotation @ turn(0, share * math.atan2(step[1], depth - step[2]))
    wobble = min(abs(rng.normal(0, math.radians(6))), math.radians(25))
    return step, rotation @ random_rotation(rng, wobble)


def _probe_shape(aspect: float) -> tuple[int, int]:
    return max(round(PROBE_WIDTH / aspect), 8), PROBE_WIDTH


def _has_clear_view(scene: Scene, camera: Camera, aspect: float, least: float) -> bool:
    """Whether nothing stands closer than ``least`` and the camera is in free space."""
    if _is_inside_solid(scene, camera.camera_to_world[:3, 3]):
        return False
    depth, is_sky = render_depth(scene, camera, *_probe_shape(aspect))
    return float(np.quantile(depth, 0.01)) > least and float(is_sky.mean()) < 0.6


def _sample_first(rng: np.random.Generator, scene: Scene, aspect: float) -> tuple[Camera, float]:
    """A camera with a clear view, and its median depth."""
    for _ in range(200):
        eye, point = rng.uniform(*scene.eyes), rng.uniform(*scene.focus)
        roll = math.radians(rng.normal(0, 4) if rng.random() < 0.8 else rng.uniform(-25, 25))
        focal = float(np.exp(rng.uniform(math.log(0.7), math.log(1.6))))
        intrinsics = _intrinsics(focal, aspect, 0.5 + rng.normal(0, 0.01, 2).clip(-0.03, 0.03))
        camera = Camera(look_at(eye, point, roll), intrinsics)
        depth, is_sky = render_depth(scene, camera, *_probe_shape(aspect))
        if is_sky.mean() > 0.5:
            continue
        median = float(np.median(depth[~is_sky]))
        if _has_clear_view(scene, camera, aspect, 0.12 * median):
            return camera, median
    raise RuntimeError(f"Found no free place for a camera in a scene of layout {scene.layout}")


def _overlap(scene: Scene, first: Camera, second: Camera, aspect: float) -> float:
    shape = _probe_shape(aspect)
    depths = [render_depth(scene, camera, *shape)[0] for camera in (first, second)]
    # The probe is coarse, so neighbouring pixels on slanted surfaces differ in depth.
    there = covisible(depths[0], first, depths[1], second, 0.08).mean()
    back = covisible(depths[1], second, depths[0], first, 0.08).mean()
    return float(min(there, back))


def _sample_further(
    rng: np.random.Generator,
    scene: Scene,
    first: Camera,
    median: float,
    aspect: float,
    baseline_range: tuple[float, float],
    least_covisibility: float,
) -> tuple[Camera, float, float] | None:
    """Another context camera with its overlap and relative baseline; None after many failures."""
    for _ in range(25):
        low, high = np.log(baseline_range)
        baseline = float(np.exp(rng.uniform(low, high)))
        step, rotation = _motion(rng, baseline * median, median)
        pose = first.camera_to_world.copy()
        pose[:3, 3] += pose[:3, :3] @ step
        pose[:3, :3] = pose[:3, :3] @ rotation
        zoom = rng.uniform(0.92, 1.08) if rng.random() < 0.25 else 1.0
        camera = Camera(pose, first.intrinsics * np.array([[zoom, 1, 1], [1, zoom, 1], [1, 1, 1]]))
        if not _has_clear_view(scene, camera, aspect, 0.1 * median):
            continue
        overlap = _overlap(scene, first, camera, aspect)
        if overlap >= least_covisibility:
            return camera, overlap, baseline
    return None


def _sample_target(
    rng: np.random.Generator,
    scene: Scene,
    first: Camera,
    second: Camera,
    share: float,
    aspect: float,
) -> Camera:
    """A camera on the way from the first to the second, a little off it, with a clear view."""
    baseline = np.linalg.norm(second.camera_to_world[:3, 3] - first.camera_to_world[:3, 3])
    camera = _between(first, second, share)
    for _ in range(10):
        pose = camera.camera_to_world.copy()
        pose[:3, 3] += rng.normal(0, 0.05 * baseline, 3)
        pose[:3, :3] = pose[:3, :3] @ random_rotation(rng, math.radians(1.5))
        moved = Camera(pose, camera.intrinsics)
        if _has_clear_view(scene, moved, aspect, 0.05):
            return moved
    return first if share < 0.5 else second


def sample_cameras(
    rng: np.random.Generator,
    scene: Scene,
    aspect: float,
    context_views: int = 2,
    target_views: int = 3,
    baseline_range: tuple[float, float] = (0.03, 0.6),
    least_covisibility: float = 0.4,
) -> SampledCameras | None:
    """Cameras for one sample; None if the scene leaves no room for such views.

    Args:
        rng: Source of all choices.
        scene: What they look at.
        aspect: Width over height of the pictures.
        context_views: Views to reconstruct from; the further ones each overlap the first.
        target_views: Views between the first two and up to 15 % of the way beyond them.
        baseline_range: Distance of further context views over the first's median depth.
        least_covisibility: Share of the picture that the first and a further view must share.
    """
    first, median = _sample_first(rng, scene, aspect)
    context, overlaps, baselines = [first], [1.0], [0.0]
    while len(context) < context_views:
        found = _sample_further(
            rng, scene, first, median, aspect, baseline_range, least_covisibility
        )
        if found is None:
            return None
        context.append(found[0])
        overlaps.append(found[1])
        baselines.append(found[2])
    last = context[1] if context_views > 1 else first
    shares = rng.uniform(-0.15, 1.15, target_views)
    if target_views:
        shares[0] = rng.uniform(0.3, 0.7)
    target = tuple(_sample_target(rng, scene, first, last, s, aspect) for s in shares)
    baseline = baselines[1] if context_views > 1 else 0.0
    return SampledCameras(tuple(context), target, min(overlaps), baseline)
