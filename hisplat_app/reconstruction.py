"""From two or more photos to a scene: the whole way."""

import importlib.util
import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from hisplat_data_tools.atomic_write import write_atomically
from hisplat_data_tools.camera_files import write_camera_file
from hisplat_data_tools.cameras_json import CameraPair, ImageCamera
from hisplat_data_tools.distortion import RadialDistortion
from hisplat_data_tools.images import (
    Photo,
    load_photo,
)
from hisplat_data_tools.ply import write_ply
from hisplat_data_tools.scene_files import write_scene
from hisplat_models.cameras import Cameras
from hisplat_models.checkpoints import load_model
from hisplat_models.gaussians import Gaussians
from hisplat_models.inference import Precision, prepare
from hisplat_models.matching import EVIDENCE_NAMES
from hisplat_models.network import HiSplat, HiSplatOutput
from hisplat_models.refinement import refine as refined
from hisplat_models.rendering import create_renderer
from hisplat_models.smaller_networks import Depth

from .defaults import (
    DEFAULT_MODEL,
    DEFAULT_REFINE,
    DEFAULT_SIZE,
    MOST_PHOTOS,
    check_working_size,
)
from .freed_memory import between_steps
from .photo_cameras import at_working_size, find_photo_cameras, undistorted_photos
from .photo_overlap import without_repetition
from .self_check import Signs, signs_of
from .step_clock import Progress, StepClock, ignore_progress
from .verdict import Verdict, verdict_of

logger = logging.getLogger(__name__)

COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")
LEAST_OPACITY = 1 / 255
"""Fainter Gaussians change no pixel of an 8-bit image, so they are left out."""

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Preview:
    """The coarser levels of a scene whose finer ones are still being made.

    Attributes:
        gaussians: In the world frame, on the CPU, without leading axes.
        cameras: As of the finished ``Reconstruction``.
        photos: Likewise.
        levels: How many levels are there.
        levels_in_all: How many there will be.
    """

    gaussians: Gaussians
    cameras: Cameras
    photos: Float[Tensor, "photo 3 height width"]
    levels: int
    levels_in_all: int


@dataclass(frozen=True)
class PhotoBytes:
    """A photo that is not in a file."""

    name: str
    content: bytes


PhotoSource = str | os.PathLike[str] | bytes | PhotoBytes | Photo


@dataclass(frozen=True)
class Report:
    """How a scene came about.

    Attributes:
        photos: Names of the photos.
        working_size: (width, height) the photos were brought to, pixels.
        camera_source: Where the cameras come from, in words.
        camera_quality: Figures of the estimate; empty for given cameras.
        near: z-depth of the nearest surface expected, world units.
        far: z-depth of the farthest surface expected, world units.
        gaussians_per_level: How many each stage made, coarsest first, without the invisible ones.
        signs: What scene and photos tell about the scene's quality.
        verdict: What that means, in words.
        warnings: What the user should know.
        refinement_steps: How often the scene was fitted to the photos; 0 if it is as predicted.
        seconds: By step, in order.
        device: Where the network ran.
    """

    photos: tuple[str, ...]
    working_size: tuple[int, int]
    camera_source: str
    camera_quality: dict[str, float]
    near: float
    far: float
    gaussians_per_level: tuple[int, ...]
    signs: Signs
    verdict: Verdict
    warnings: tuple[str, ...]
    refinement_steps: int
    seconds: dict[str, float]
    device: str

    @property
    def confident_share(self) -> float | None:
        """Share of the photos' pixels whose depth two photos agree on.

        None if the network does not match photos that way.
        """
        return self.signs.agreed

    def summary(self) -> str:
        """What was made, in a few words."""
        width, height = self.working_size
        count = COUNTS[len(self.photos)] if len(self.photos) < len(COUNTS) else len(self.photos)
        facts = [
            f"{sum(self.gaussians_per_level):,} Gaussians from {count} photos at "
            f"{width}x{height} px "
            f"in {sum(self.seconds.values()):.1f} s.",
            f"Cameras {self.camera_source}.",
        ]
        if self.confident_share is not None:
            agree = "Both photos agree" if len(self.photos) == 2 else "The photos agree"
            facts.append(f"{agree} on the depth of {self.confident_share:.0%} of pixels.")
        if self.verdict.grade == "good":  # else it is among the warnings
            facts.append(str(self.verdict))
        return " ".join(facts)

    def to_json(self) -> str:
        """The report as a JSON document."""
        return json.dumps(asdict(self), indent=1) + "\n"


@dataclass(frozen=True)
class Reconstruction:
    """A scene made of two or more photos.

    Attributes:
        gaussians: In the world frame, on the CPU, without leading axes.
        cameras: Of ``photos``, shape (photo,), left first; the world is that of the given cameras,
            else the left camera.
        photos: RGB in [0, 1] as the network saw them: cropped alike, at the working size.
        image_cameras: The cameras of the whole photos, in pixels.
        report: How it came about.
        confidence: How closely the depths found from the photos agree where each Gaussian is: 1
            within a fraction of a pixel, 0 without agreement. None if the network does not match
            photos that way.
    """

    gaussians: Gaussians
    cameras: Cameras
    photos: Float[Tensor, "photo 3 height width"]
    image_cameras: tuple[ImageCamera, ...]
    report: Report
    confidence: Float[Tensor, "n"] | None = None

    def write_ply(self, path: str | os.PathLike[str]) -> None:
        """Writes the scene as 3DGS viewers read it, in the world frame."""
        write_ply(Path(path), self.gaussians)

    def write_scene(self, path: str | os.PathLike[str]) -> None:
        """Writes the scene in the format that the path's ending stands for.

        Raises:
            ValueError: for an unknown ending.
        """
        write_scene(Path(path), self.gaussians)

    def write_cameras(self, path: str | os.PathLike[str]) -> None:
        """Writes all cameras: a .json that ``reconstruct(cameras=...)`` takes, or for others.

        ``transforms*.json`` is nerfstudio's format, a path without ending a folder with COLMAP's
        text model.
        """
        near, far = self.report.near, self.report.far
        pairs = [
            CameraPair(left.file, right.file, near=near, far=far)
            for left, right in pairwise(self.image_cameras)
        ]
        write_camera_file(Path(path), self.image_cameras, pairs, near, far, self.gaussians)

    def write_report(self, path: str | os.PathLike[str]) -> None:
        """Writes the report as JSON."""
        write_atomically(Path(path), self.report.to_json().encode())

    def render(
        self, cameras: Cameras, size: tuple[int, int]
    ) -> Float[Tensor, "view 3 height width"]:
        """RGB in [0, 1] seen by cameras of shape (view,), black where nothing is.

        Args:
            cameras: In the world frame.
            size: (height, width) of the pictures.
        """
        with torch.no_grad():
            drawn = create_renderer("cpu")(self.gaussians[None], cameras[None].to("cpu"), size)
        return drawn.color[0].clamp(0, 1)


def reconstruct(
    left: PhotoSource,
    right: PhotoSource,
    *more: PhotoSource,
    cameras: str | os.PathLike[str] | Cameras | None = None,
    focal_px: float | None = None,
    fov_degrees: float | None = None,
    principal_point: tuple[float, float] | None = None,
    distortion: RadialDistortion | None = None,
    model: str | Path | HiSplat = DEFAULT_MODEL,
    depth: Depth = "full",
    device: Device = "auto",
    size: int = DEFAULT_SIZE,
    precision: Precision = "fp32",
    compile: bool = False,
    refine: int = DEFAULT_REFINE,
    progress: Progress = ignore_progress,
    preview: Callable[[Preview], None] | None = None,
) -> Reconstruction:
    """The 3D scene of two to ``MOST_PHOTOS`` photos of one place.

    Args:
        left: First photo: path, file content, or decoded.
        right: Second photo.
        more: Further photos of the same place.
        cameras: A camera file (cameras.json, transforms.json), or the cameras of all photos,
            shape (photo,). By default they are estimated from the photos.
        focal_px: Focal length of all photos in their pixels, if cameras are estimated. By default
            from EXIF, else a guess that is warned about.
        fov_degrees: Horizontal field of view instead of ``focal_px``; of photos held the other way
            than the first one, it is the vertical one.
        principal_point: Of all photos, x and y in pixels of their files; by default the middle.
        distortion: Of the lens that took all photos; they are undistorted first, and all cameras
            are those of undistorted photos.
        model: A bundled name, a .safetensors file, or a network in evaluation mode.
        depth: Of the network to load, if it is elastic; see ``hisplat_models.smaller_networks``.
        device: Where to load the network ("auto": a GPU if there is one); a given one stays where
            it is.
        size: Long side in pixels that the photos are brought to.
        precision: Of the network to load; see ``hisplat_models.inference.prepare``.
        compile: Whether to compile the network to load.
        refine: Steps by which the scene is fitted to the photos, see ``hisplat_models.refinement``.
            The verdict is on the scene as predicted: photos it was fitted to cannot judge it.
        progress: Told about each step; may raise to cancel.
        preview: Told about each level of the scene as it is done, the last one only if the scene is
            refined then; may raise to cancel.

    Raises:
        ValueError: for photos or cameras that nothing can be made of, saying why; PhotoError,
            CameraFileError, TwoViewError and CheckpointError are such errors.
        OSError: if a file cannot be read.
    """
    clock = StepClock(between_steps(progress))
    clock.begin("reading the photos", 0.0)
    if len(more) > MOST_PHOTOS - 2:
        raise ValueError(f"Expected at most {MOST_PHOTOS} photos, got {len(more) + 2}.")
    photos = [_as_photo(source) for source in (left, right, *more)]
    check_working_size(size)
    if refine < 0:
        raise ValueError(f"Expected at least 0 refinement steps, got {refine}.")

    lens = focal_px, fov_degrees, principal_point
    if distortion is not None:
        photos = undistorted_photos(photos, distortion, cameras, *lens)

    clock.begin("finding the cameras", 0.05)
    found = find_photo_cameras(photos, cameras, *lens)

    clock.begin("loading the network", 0.2)
    network = model
    if not isinstance(network, HiSplat):
        network = load_model(network, choose_device(device), depth)
        network = prepare(network, precision, compile)
    images, seen = at_working_size(photos, found.cameras, size, network.size_multiple)

    def show_level(so_far: Gaussians) -> None:
        if preview is not None:
            there = int(so_far.level.max()) + 1
            coarse = _visible(so_far.to("cpu")[0])[0]
            preview(Preview(coarse, seen, images, there, len(network.stages)))

    where = next(network.parameters()).device
    predicted = 0.5 if refine else 0.95  # share of the work
    with torch.no_grad():
        output = network(
            images[None].to(where),
            seen[None].to(where),
            clock.part(0.25, predicted),
            on_level=show_level,
        )
        scene = without_repetition(output, images, seen)
        if refine:
            show_level(scene)
        clock.begin("checking the scene", predicted)
        renderer = network.create_renderer(where)
        signs = signs_of(output, images.to(where), seen.to(where), renderer)
        scene, levels, confidence = output.gaussians, len(output.stages), _confidence(output)
        del output  # many maps per pixel, as large as what refining takes
    scene = refined(
        scene,
        images[None].to(where),
        seen[None].to(where),
        renderer,
        refine,
        progress=clock.part(predicted, 0.98),
    )
    verdict = verdict_of(signs, found.quality, len(photos))
    clock.begin("collecting the Gaussians", 0.98)
    gaussians, visible = _visible(scene.to("cpu")[0])
    report = Report(
        photos=tuple(photo.name for photo in photos),
        working_size=(images.shape[-1], images.shape[-2]),
        camera_source=found.source,
        camera_quality=found.quality,
        near=found.cameras.near.min().item(),
        far=found.cameras.far.max().item(),
        gaussians_per_level=tuple(int((gaussians.level == level).sum()) for level in range(levels)),
        signs=signs,
        verdict=verdict,
        warnings=(
            *(w for photo in photos for w in photo.warnings),
            *found.warnings,
            *(() if verdict.grade == "good" else (str(verdict),)),
        ),
        refinement_steps=refine,
        seconds=clock.finish(),
        device=str(where),
    )
    return Reconstruction(
        gaussians,
        seen,
        images,
        found.image_cameras,
        report,
        None if confidence is None else confidence[visible],
    )


def choose_device(device: Device) -> torch.device:
    """The device meant; "auto" is a GPU where torch and gsplat can use one.

    Raises:
        ValueError: for "cuda" without a GPU.
    """
    if device == "auto":
        has_gpu = torch.cuda.is_available()
        has_gsplat = importlib.util.find_spec("gsplat") is not None
        if has_gpu and not has_gsplat:
            logger.warning('The GPU is left unused: pip install "hisplat-app[gpu]" to use it.')
        return torch.device("cuda" if has_gpu and has_gsplat else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("This torch sees no CUDA GPU; use --device cpu.")
    return torch.device(device)


def _as_photo(source: PhotoSource) -> Photo:
    if isinstance(source, Photo):
        return source
    if isinstance(source, PhotoBytes):
        return load_photo(source.content, source.name)
    return load_photo(source)


def _visible(gaussians: Gaussians) -> tuple[Gaussians, Bool[Tensor, "n"]]:
    """Those that change a picture, and which ones they were."""
    visible = gaussians.opacities >= LEAST_OPACITY
    return gaussians[visible], visible


def _confidence(output: HiSplatOutput) -> Float[Tensor, "n"] | None:
    """The matcher's left-right consistency at each Gaussian of the whole output, on the CPU."""
    if output.prior is None:
        return None
    channel = EVIDENCE_NAMES.index("consistency")
    maps = [
        F.pad(stage.evidence[0, :, channel].cpu(), (stage.padding,) * 4, mode="replicate")
        for stage in output.prior.stages
    ]
    return torch.cat([values.flatten() for values in maps])
