"""A capture in files to a scene in files: a bound on the memory, the scene, and how it came about.

``capture_scene`` does the work; nerfstudio's methods call it with photos of their own.
"""

import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hisplat_data_tools.atomic_write import write_atomically
from hisplat_data_tools.camera_files import write_camera_file
from hisplat_data_tools.cameras_json import CameraPair, ImageCamera
from hisplat_data_tools.scene_files import write_scene
from hisplat_models.gaussians import Gaussians
from hisplat_models.network import HiSplat

from .capture_files import Capture
from .capture_scene import CaptureSettings, reconstruct_capture
from .step_clock import Progress, ignore_progress

PROGRAM_BYTES = 0.6e9
BYTES_OF_PAIR_PIXEL = 800
BYTES_OF_KEPT_PIXEL = 6
BYTES_OF_GAUSSIAN = 450
"""What the program takes, a pixel of the pair at work, a pixel of the depth maps of all pairs, and
a Gaussian of the scene while others are merged into it; rounded up from measured captures."""


@dataclass(frozen=True)
class CaptureReport:
    """How the scene of a capture came about.

    Attributes:
        photos: How many the capture has.
        pairs: Names of the photos that the network saw together.
        near: z-depth of the nearest surface expected in any view, world units.
        far: z-depth of the farthest one.
        gaussians_per_level: Coarsest first.
        gaussians_made: Before those of all pairs were fused.
        warnings: What the user should know.
        seconds: Reading of photos included.
        device: Where the network ran.
    """

    photos: int
    pairs: tuple[tuple[str, str], ...]
    near: float
    far: float
    gaussians_per_level: tuple[int, ...]
    gaussians_made: int
    warnings: tuple[str, ...]
    seconds: float
    device: str

    def summary(self) -> str:
        """What was made, in a few words."""
        pairs = "one pair" if len(self.pairs) == 1 else f"{len(self.pairs)} pairs"
        return (
            f"{sum(self.gaussians_per_level):,} Gaussians from {pairs} of {self.photos} photos "
            f"({self.gaussians_made:,} before they were fused) in {self.seconds:.1f} s."
        )

    def to_json(self) -> str:
        """The report as a JSON document."""
        return json.dumps(asdict(self), indent=1) + "\n"


@dataclass(frozen=True)
class CaptureReconstruction:
    """A scene of a whole capture.

    Attributes:
        gaussians: In the capture's world, on the CPU, without leading axes.
        views: The cameras of all photos, in pixels, with their ranges of depth.
        report: How it came about.
    """

    gaussians: Gaussians
    views: tuple[ImageCamera, ...]
    report: CaptureReport

    def write_scene(self, path: str | os.PathLike[str]) -> None:
        """Writes the scene in the format that the path's ending stands for."""
        write_scene(Path(path), self.gaussians)

    def write_cameras(self, path: str | os.PathLike[str]) -> None:
        """Writes the cameras of all photos, and the pairs where the format has a place for them."""
        pairs = [CameraPair(left, right) for left, right in self.report.pairs]
        near, far = self.report.near, self.report.far
        write_camera_file(Path(path), self.views, pairs, near, far, self.gaussians)

    def write_report(self, path: str | os.PathLike[str]) -> None:
        """Writes the report as JSON."""
        write_atomically(Path(path), self.report.to_json().encode())


def memory_bound(capture: Capture, settings: CaptureSettings) -> float:
    """About how many bytes the scene of a capture takes at most while it is made."""
    sides = [max(view.width, view.height) for view in capture.views]
    areas = [
        view.width * view.height * min(1.0, settings.size / side) ** 2
        for view, side in zip(capture.views, sides, strict=True)
    ]
    pair = 2 * max(areas)
    pairs = most_pairs(len(capture.views), settings)
    gaussians = min(settings.fusion.most, pairs * pair) + pair
    kept = pairs * pair * BYTES_OF_KEPT_PIXEL
    return PROGRAM_BYTES + pair * BYTES_OF_PAIR_PIXEL + kept + gaussians * BYTES_OF_GAUSSIAN


def most_pairs(photos: int, settings: CaptureSettings) -> int:
    """How many pairs so many photos are reconstructed in at most."""
    return min(settings.pairs.most, photos * (photos - 1) // 2)


def reconstruct_capture_files(
    capture: Capture,
    network: HiSplat,
    settings: CaptureSettings,
    progress: Progress = ignore_progress,
) -> CaptureReconstruction:
    """The scene of a capture that was read from files.

    Args:
        capture: See ``read_capture``.
        network: In evaluation mode; works where it is.
        settings: Size, pairs and fusion.
        progress: Told about each step; may raise to cancel.

    Raises:
        ValueError: if no two photos overlap, the range of depths cannot be found, or a photo cannot
            be read; says why.
    """
    begin = time.perf_counter()
    scene = reconstruct_capture(
        capture.photos, capture.cameras, network, settings, capture.points, progress
    )
    near, far = scene.cameras.near, scene.cameras.far
    views = tuple(
        replace(view, near=float(n), far=float(f))
        for view, n, f in zip(capture.views, near, far, strict=True)
    )
    warnings: list[str] = []
    if len(scene.pairs) == settings.pairs.most:
        warnings.append(
            f"All {settings.pairs.most} pairs that are allowed were used; --most-pairs "
            f"{2 * settings.pairs.most} may show more of the capture."
        )
    level = scene.gaussians.level
    report = CaptureReport(
        photos=len(views),
        pairs=tuple((views[i].file, views[j].file) for i, j in scene.pairs),
        near=near.min().item(),
        far=far.max().item(),
        gaussians_per_level=tuple(int((level == n).sum()) for n in range(len(network.stages))),
        gaussians_made=scene.made,
        warnings=tuple(warnings),
        seconds=time.perf_counter() - begin,
        device=str(next(network.parameters()).device),
    )
    return CaptureReconstruction(scene.gaussians, views, report)
