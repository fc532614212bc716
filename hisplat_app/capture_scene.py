"""A scene of a whole capture: the network pair by pair, the pairs' scenes fused into one."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from hisplat_data_tools.images import Photo
from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import Gaussians
from hisplat_models.network import HiSplat

from .capture_fusion import (
    Fragment,
    FusionSettings,
    Surface,
    agreement,
    chosen,
    fused,
    joined,
    known,
    merged,
)
from .capture_pairs import Pair, PairSettings, choose_pairs
from .capture_ranges import CapturePhotos, pair_range, ranges_from_photos, ranges_from_points
from .defaults import DEFAULT_SIZE, check_working_size
from .photo_cameras import at_working_size
from .stage_depths import footprints, stage_depths, without_padding
from .step_clock import Progress, ignore_progress

LEAST_OPACITY = 1 / 255

PAIRS_BEGIN, PAIRS_END = 0.1, 0.9
"""Shares of the work between which the network goes from pair to pair."""


@dataclass(frozen=True)
class CaptureSettings:
    """How a capture becomes a scene."""

    size: int = DEFAULT_SIZE
    """Long side in pixels at which the network sees the photos; they are never enlarged."""
    pairs: PairSettings = field(default_factory=PairSettings)
    """Which pairs are chosen."""
    fusion: FusionSettings = field(default_factory=FusionSettings)
    """How their scenes are fused."""

    def __post_init__(self) -> None:
        check_working_size(self.size)


@dataclass(frozen=True)
class CaptureScene:
    """A scene of many photos.

    Attributes:
        gaussians: In the world of the cameras, on the CPU, without leading axes.
        pairs: The views it was made of, in the order in which they were chosen.
        cameras: All views with their ranges of depth.
        made: How many Gaussians the pairs' scenes had before they were fused.
    """

    gaussians: Gaussians
    pairs: tuple[Pair, ...]
    cameras: Cameras
    made: int


DEFAULT = CaptureSettings()


def reconstruct_capture(
    photos: CapturePhotos,
    cameras: Cameras,
    network: HiSplat,
    settings: CaptureSettings = DEFAULT,
    points: Float[Tensor, "point 3"] | None = None,
    progress: Progress = ignore_progress,
) -> CaptureScene:
    """The scene of posed photos, of which there may be hundreds.

    Memory holds one pair's scene at its full number of Gaussians, the scene fused so far, and the
    depth maps of all pairs at half precision.

    Args:
        photos: As many as cameras; may be loaded when they are asked for.
        cameras: Shape (view,), on the CPU; near and far are found here.
        network: In evaluation mode; works where it is.
        settings: See there.
        points: World points on surfaces, if there are any. They give near and far; otherwise
            matches between the photos do.
        progress: Told about each step; may raise to cancel.

    Raises:
        ValueError: if no two photos overlap, or the range of depths cannot be found; says why.
    """
    if len(photos) != len(cameras.near) or len(photos) < 2:
        raise ValueError(
            f"Expected a camera for each of two photos or more, got {len(photos)} photos and "
            f"{len(cameras.near)} cameras."
        )
    progress("finding the range of depths", 0.0)
    if points is not None and len(points):
        cameras = ranges_from_points(cameras, points)
    else:
        cameras = ranges_from_photos(photos, cameras)
    progress("choosing pairs", PAIRS_BEGIN)
    pairs = choose_pairs(cameras, settings.pairs)
    scene: Fragment | None = None
    surfaces: list[Surface] = []
    made = 0
    for done, pair in enumerate(pairs):
        share = PAIRS_BEGIN + (PAIRS_END - PAIRS_BEGIN) * done / len(pairs)
        progress(f"pair {done + 1} of {len(pairs)}", share)
        fragment, views = _of_pair(
            [photos[v] for v in pair], cameras[list(pair)], network, settings
        )
        made += fragment.gaussians.count
        fragment = chosen(fragment, ~known(fragment, surfaces, settings.fusion))
        surfaces += views
        parts = [fragment] if scene is None else [scene, fragment]
        scene = merged(joined(parts), settings.fusion)
    assert scene is not None
    progress("fusing the pairs", PAIRS_END)
    return CaptureScene(fused([scene], surfaces, settings.fusion).gaussians, pairs, cameras, made)


def _of_pair(
    photos: Sequence[Photo], cameras: Cameras, network: HiSplat, settings: CaptureSettings
) -> tuple[Fragment, list[Surface]]:
    """The Gaussians of one pair, and the surfaces of its two views."""
    near, far = pair_range(photos[0], photos[1], cameras)
    cameras = replace(
        cameras, near=torch.full_like(cameras.near, near), far=torch.full_like(cameras.far, far)
    )
    size = min(settings.size, max(max(photo.width, photo.height) for photo in photos))
    images, seen = at_working_size(photos, cameras, size, network.size_multiple)
    where = next(network.parameters()).device
    with torch.no_grad():
        output = network(images[None].to(where), seen[None].to(where))
    depths = [stage_depths(stage, seen) for stage in output.stages]
    surfaces = _surfaces(depths[-1], images, seen, output.stages[-1].padding, settings)
    enlargement = max(photo.width for photo in photos) / images.shape[-1]
    gaussians = _widened(
        output.gaussians.to("cpu")[0],
        torch.cat(
            [
                footprints(depth, stage, seen)
                for depth, stage in zip(depths, output.stages, strict=True)
            ]
        ),
        enlargement,
        network.rasterization.dilation_px2,
    )
    visible = gaussians.gaussians.opacities >= LEAST_OPACITY
    return chosen(gaussians, visible), surfaces


def _surfaces(
    depth: Float[Tensor, "2 rows columns"],
    images: Float[Tensor, "2 3 height width"],
    cameras: Cameras,
    padding: int,
    settings: CaptureSettings,
) -> list[Surface]:
    """What the two views show, from the finest stage's depths."""
    inverse = 1 / without_padding(depth, padding)
    agreed = agreement(inverse, cameras, settings.fusion)
    colors = F.adaptive_avg_pool2d(images, (inverse.shape[-2], inverse.shape[-1]))
    return [
        Surface(
            cameras[view],
            inverse[view].half(),
            agreed[view],
            (colors[view] * 255).round().to(torch.uint8),
        )
        for view in range(2)
    ]


def _widened(
    gaussians: Gaussians, footprint: Float[Tensor, "n"], enlargement: float, dilation_px2: float
) -> Fragment:
    """The Gaussians for photos ``enlargement`` times as wide as the network saw.

    Renderers widen every Gaussian by a constant in pixels. Where a scene is drawn in finer pixels
    than the network thought of, that is less on its surfaces; the finest level, which relies on it,
    gets the difference as its own width.
    """
    lost = dilation_px2 * max(0.0, 1 - enlargement**-2)
    finest = gaussians.level == gaussians.level.max()
    added = torch.where(finest, lost * footprint.square(), 0.0)
    scales = (gaussians.scales.square() + added[:, None]).sqrt()
    return Fragment(replace(gaussians, scales=scales), footprint)
