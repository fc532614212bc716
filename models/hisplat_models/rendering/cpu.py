"""The renderer for machines without a GPU: compiled kernels over tiles, with gradients."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..cameras import Cameras
from ..gaussians import Gaussians
from ._binning import (
    TILE_HEIGHT,
    TILE_PIXELS,
    TILE_WIDTH,
    bin_pairs,
    gradient_slots,
    sorted_by_depth,
    visible_indices,
)
from ._blending import blend, blend_gradients
from ._checks import check_inputs
from ._depth_order import sorting_depths
from ._frustum import projection_px
from ._projection import RECORD, SLOT, project
from ._projection_gradients import project_gradients
from ._threads import for_ranges
from .base import Rendering
from .settings import DEFAULT, RasterizationSettings

# Work handed to a thread at once; fixed, so that sums don't depend on the number of threads.
GAUSSIANS_AT_ONCE = 4096
TILES_AT_ONCE = 4

Array = np.ndarray


@dataclass(frozen=True)
class CpuRenderer:
    """Draws on the CPU in float32, or in float64 where the Gaussians are.

    Uses as many threads as ``torch.get_num_threads()``. Values and gradients are the same for
    any number of threads. Skew in the intrinsics is ignored.
    """

    settings: RasterizationSettings = DEFAULT

    def __call__(
        self,
        gaussians: Gaussians,
        cameras: Cameras,
        image_size: tuple[int, int],
        background: Float[Tensor, "3"] | None = None,
    ) -> Rendering:
        """Renders at ``image_size`` = (height, width); ``background`` is black by default."""
        check_inputs(gaussians, cameras, image_size)
        shared = shared_by_views(self.settings, gaussians, cameras, image_size, background)
        differentiable = [
            gaussians.means,
            gaussians.scales,
            gaussians.quaternions_wxyz,
            gaussians.opacities,
            gaussians.harmonics,
            cameras.camera_to_world,
        ]
        inputs = [x.to(shared.dtype).contiguous() for x in differentiable]
        if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
            return Rendering(*_Draw.apply(shared, *inputs))
        images, _ = _draw_all([x.detach().numpy() for x in inputs], shared, keep=False)
        return Rendering(*(torch.from_numpy(image) for image in images))


def _constants(settings: RasterizationSettings) -> tuple[float, ...]:
    """The settings that are numbers, in the order in which the kernels take them apart."""
    return (
        settings.dilation_px2,
        settings.alpha_max,
        settings.alpha_min,
        settings.transmittance_min,
        settings.near_plane,
        settings.frustum_margin,
    )


class _Draw(torch.autograd.Function):
    """All views as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, shared: "Shared", *inputs: Tensor) -> tuple[Tensor, ...]:
        """Colour, depth and alpha."""
        images, ctx.views = _draw_all([x.numpy() for x in inputs], shared, keep=True)
        ctx.shared = shared
        ctx.save_for_backward(*inputs)
        return tuple(torch.from_numpy(image) for image in images)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *images: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Gradients of the inputs that need them."""
        inputs = [x.numpy() for x in ctx.saved_tensors]
        d_images = [x.contiguous().numpy() for x in images]
        wanted = ctx.needs_input_grad[1:]
        gradients = _gradients_of_all(inputs, ctx.views, d_images, ctx.shared, wanted)
        return None, *(
            torch.from_numpy(g) if needed else None
            for g, needed in zip(gradients, wanted, strict=True)
        )


@dataclass(frozen=True)
class Shared:
    """What all views have in common, and the intrinsics and any sorting depths of each."""

    dtype: torch.dtype
    intrinsics: Array
    height: int
    width: int
    background: Array
    settings: tuple[float, ...]
    within_tiles: bool
    sorting_depths: Array | None

    @property
    def tiles_x(self) -> int:
        """Tiles in a row."""
        return -(-self.width // TILE_WIDTH)

    @property
    def tiles_y(self) -> int:
        """Rows of tiles."""
        return -(-self.height // TILE_HEIGHT)

    def focal_and_center(self, b: int, v: int) -> tuple[float, float, float, float]:
        """One camera's intrinsics, pixels."""
        k = self.intrinsics[b, v]
        return float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])


def shared_by_views(
    settings: RasterizationSettings,
    gaussians: Gaussians,
    cameras: Cameras,
    image_size: tuple[int, int],
    background: Float[Tensor, "3"] | None = None,
) -> Shared:
    """What drawing them needs besides the Gaussians themselves.

    Raises:
        ValueError: for Gaussians that are not on the CPU.
    """
    if gaussians.means.device.type != "cpu":
        raise ValueError(f"Expected Gaussians on the CPU, got {gaussians.means.device}.")
    order = sorting_depths(gaussians.means, cameras, settings)
    return Shared(
        dtype=torch.float64 if gaussians.means.dtype == torch.float64 else torch.float32,
        intrinsics=projection_px(cameras, image_size, settings).detach().double().numpy(),
        height=image_size[0],
        width=image_size[1],
        background=np.zeros(3) if background is None else background.detach().double().numpy(),
        settings=_constants(settings),
        within_tiles=settings.extent == "three_sigma_tiles",
        sorting_depths=None if order is None else order.contiguous().numpy(),
    )


@dataclass(frozen=True)
class DrawnView:
    """What the gradients of one view need again."""

    records: Array
    starts: Array
    gaussian_of: Array
    rects: Array
    state: Array


def _draw_all(
    inputs: list[Array], shared: Shared, keep: bool
) -> tuple[tuple[Array, Array, Array], list[list[DrawnView]]]:
    """Colour, depth and alpha of all views; and, to ``keep``, what their gradients need."""
    *fields, poses = inputs
    batch, views = poses.shape[:2]
    size, dtype = (shared.height, shared.width), fields[0].dtype
    color = np.empty((batch, views, 3, *size), dtype)
    depth = np.empty((batch, views, *size), dtype)
    alpha = np.empty((batch, views, *size), dtype)
    kept = []
    for b in range(batch):
        scene = [field[b] for field in fields]
        kept.append([])
        for v in range(views):
            images = (color[b, v], depth[b, v], alpha[b, v])
            intrinsics = shared.focal_and_center(b, v)
            pose, order = poses[b, v].astype(np.float64), shared.sorting_depths
            sort_by = None if order is None else order[b, v]
            view = _draw(scene, pose, intrinsics, sort_by, shared, images, keep)
            if keep:
                kept[b].append(view)
    return (color, depth, alpha), kept


def _draw(
    scene: list[Array],
    pose: Array,
    intrinsics: tuple[float, ...],
    sort_by: Array | None,
    shared: Shared,
    images: tuple[Array, Array, Array],
    keep: bool,
) -> DrawnView:
    """Projects, sorts, bins and blends one view into ``images``."""
    count, dtype = len(scene[0]), scene[0].dtype
    records = np.empty((count, RECORD), dtype)
    depths = np.empty(count, dtype)
    rects = np.empty((count, 4), np.int32)

    def project_range(start: int, stop: int) -> None:
        project(
            start, stop, *scene, pose, intrinsics, float(shared.height), float(shared.width),
            shared.settings, shared.within_tiles, records, depths, rects,
        )  # fmt: skip

    for_ranges(count, GAUSSIANS_AT_ONCE, project_range)
    order = visible_indices(rects)
    depths = depths if sort_by is None else sort_by
    order = sorted_by_depth(order, depths)
    return blended(records, rects, order, shared, images, keep)


def blended(
    records: Array,
    rects: Array,
    order: Array,
    shared: Shared,
    images: tuple[Array, Array, Array],
    keep: bool,
) -> DrawnView:
    """Bins projected Gaussians and blends one view into ``images``: colour, depth and alpha.

    Args:
        records: As ``_projection`` fills them.
        rects: The tiles that each Gaussian reaches, likewise.
        order: Indices of the visible ones, nearest first.
        shared: What all views have in common.
        images: To fill.
        keep: Whether gradients will be asked for.
    """
    tiles_x, tiles = shared.tiles_x, shared.tiles_x * shared.tiles_y
    starts, gaussian_of = bin_pairs(order, rects, tiles_x, shared.tiles_y)
    state = np.empty((tiles if keep else 0, 2 * TILE_PIXELS), records.dtype)

    def blend_range(first: int, last: int) -> None:
        blend(
            first, last, records, starts, gaussian_of, tiles_x, shared.settings,
            shared.background, *images, state,
        )  # fmt: skip

    for_ranges(tiles, TILES_AT_ONCE, blend_range)
    return DrawnView(records, starts, gaussian_of, rects, state)


def _gradients_of_all(
    inputs: list[Array],
    kept: list[list[DrawnView]],
    d_images: list[Array],
    shared: Shared,
    wanted: tuple[bool, ...],
) -> list[Array]:
    """Gradients of the inputs, summed over views; those not ``wanted`` may be incomplete."""
    *fields, poses = inputs
    gradients = [np.zeros_like(x) for x in inputs]
    *d_fields, d_poses = gradients
    means, scales, quaternions, _, harmonics, pose = wanted
    directions = harmonics or (fields[4].shape[-2] > 1 and (means or pose))
    needs = (means or scales or quaternions or pose, directions)
    for b, v in np.ndindex(*poses.shape[:2]):
        d_poses[b, v, :3] = _gradients(
            [field[b] for field in fields],
            poses[b, v].astype(np.float64),
            shared.focal_and_center(b, v),
            shared,
            kept[b][v],
            [image[b, v] for image in d_images],
            needs,
            [field[b] for field in d_fields],
        )
    return gradients


def _gradients(
    scene: list[Array],
    pose: Array,
    intrinsics: tuple[float, ...],
    shared: Shared,
    view: DrawnView,
    d_images: list[Array],
    needs: tuple[bool, bool],
    d_scene: list[Array],
) -> Array:
    """Adds one view's gradients to ``d_scene`` and gives the pose's upper three rows."""
    slot_of, first_slot = gradient_slots(view.starts, view.gaussian_of, view.rects, shared.tiles_x)
    slots = np.empty((len(slot_of), SLOT), scene[0].dtype)

    def blend_range(first: int, last: int) -> None:
        blend_gradients(
            first, last, view.records, view.starts, view.gaussian_of, slot_of,
            shared.tiles_x, shared.settings, shared.background, *d_images, view.state, slots,
        )  # fmt: skip

    for_ranges(shared.tiles_x * shared.tiles_y, TILES_AT_ONCE, blend_range)
    count = len(view.records)
    d_poses = np.zeros((-(-count // GAUSSIANS_AT_ONCE), 3, 4))

    def project_range(start: int, stop: int) -> None:
        project_gradients(
            start, stop, first_slot, slots, needs, *scene, pose, intrinsics,
            float(shared.height), float(shared.width), shared.settings, *d_scene,
            d_poses[start // GAUSSIANS_AT_ONCE],
        )  # fmt: skip

    for_ranges(count, GAUSSIANS_AT_ONCE, project_range)
    return d_poses.sum(axis=0)
