"""Gaussians in their places before cameras, drawn on the CPU; see `places`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..cameras import Cameras
from ..gaussians import Gaussians
from ._binning import gradient_slots, sorted_by_depth
from ._blending_changes import blend_changes
from ._checks import check_finite, check_inputs
from ._placing import CHANGE, PLACE, PLACE_DEPTH, fill_gradients, fill_places, fill_records
from ._projection import RECORD
from ._threads import for_ranges
from .cpu import (
    GAUSSIANS_AT_ONCE,
    TILES_AT_ONCE,
    Array,
    DrawnView,
    Shared,
    blended,
    shared_by_views,
)
from .settings import RasterizationSettings


@dataclass(frozen=True)
class CpuPlaces:
    """Gaussians (batch, n) in their places before cameras (batch, view)."""

    views: list[list["_View"]]

    @staticmethod
    def of(
        settings: RasterizationSettings,
        gaussians: Gaussians,
        cameras: Cameras,
        image_size: tuple[int, int],
        chosen: Bool[Tensor, "n"] | None,
    ) -> "CpuPlaces":
        """The places of all or the chosen Gaussians."""
        check_inputs(gaussians, cameras, image_size)
        shared = shared_by_views(settings, gaussians, cameras, image_size)
        batch, views = cameras.batch_shape
        which = torch.arange(gaussians.count) if chosen is None else chosen.nonzero()[:, 0]
        index = which.numpy().astype(np.uint32)
        return CpuPlaces(
            [
                [_placed(gaussians[b], index, cameras, shared, b, v) for v in range(views)]
                for b in range(batch)
            ]
        )

    def color(
        self,
        opacities: Float[Tensor, "batch n"],
        sizes: Float[Tensor, "batch n"],
        colors: Float[Tensor, "batch n 3"],
    ) -> Float[Tensor, "batch view 3 height width"]:
        """What the cameras see."""
        for name, values in (("opacities", opacities), ("sizes", sizes), ("colors", colors)):
            check_finite(name, values)
        inputs = [x.contiguous() for x in (opacities, sizes, colors)]
        if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
            return _Draw.apply(self, *inputs)
        return _draw_all(self, *(x.detach().numpy() for x in inputs), keep=False)[0]


@dataclass(frozen=True)
class _View:
    """The places that one camera sees."""

    shared: Shared
    index: Array
    places: Array
    bands: Array
    order: Array


def _placed(
    scene: Gaussians, index: Array, cameras: Cameras, shared: Shared, b: int, v: int
) -> _View:
    fields = (scene.means, scene.scales, scene.quaternions_wxyz, scene.harmonics)
    arrays = [x.detach().to(shared.dtype).contiguous().numpy() for x in fields]
    dtype = arrays[0].dtype
    places = np.empty((len(index), PLACE), dtype)
    bands = np.empty((len(index) if scene.sh_degree > 0 else 0, 3), dtype)
    pose = cameras.camera_to_world[b, v].detach().to(shared.dtype).double().numpy()
    intrinsics = shared.focal_and_center(b, v)

    def place_range(start: int, stop: int) -> None:
        fill_places(
            start, stop, index, *arrays, pose, intrinsics, float(shared.height),
            float(shared.width), shared.settings, places, bands,
        )  # fmt: skip

    for_ranges(len(index), GAUSSIANS_AT_ONCE, place_range)
    depths = np.ascontiguousarray(places[:, PLACE_DEPTH])
    order = np.flatnonzero(depths).astype(np.uint32)
    if shared.sorting_depths is not None:
        depths = shared.sorting_depths[b, v][index]
    return _View(shared, index, places, bands, sorted_by_depth(order, depths))


class _Draw(torch.autograd.Function):
    """All views as one node of the graph."""

    @staticmethod
    def forward(ctx: Any, places: CpuPlaces, *inputs: Tensor) -> Tensor:
        """Colours."""
        images, ctx.drawn = _draw_all(places, *(x.numpy() for x in inputs), keep=True)
        ctx.places = places
        ctx.save_for_backward(*inputs)
        return images

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, d_images: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Gradients of opacities, sizes and colours."""
        inputs = [x.numpy() for x in ctx.saved_tensors]
        gradients = [np.zeros_like(x) for x in inputs]
        d_images_ = d_images.contiguous().numpy()
        for b, views in enumerate(ctx.places.views):
            for v, view in enumerate(views):
                looks, totals = [x[b] for x in inputs], [g[b] for g in gradients]
                _add_gradients(view, ctx.drawn[b][v], looks, d_images_[b, v], totals)
        return None, *(torch.from_numpy(g) for g in gradients)


def _draw_all(
    places: CpuPlaces, opacities: Array, sizes: Array, colors: Array, keep: bool
) -> tuple[Tensor, list[list[DrawnView]]]:
    """Colours of all views and, to ``keep``, what their gradients need."""
    shared = places.views[0][0].shared
    shape = (len(places.views), len(places.views[0]), 3, shared.height, shared.width)
    images = np.empty(shape, opacities.dtype)
    drawn = []
    for b, views in enumerate(places.views):
        drawn.append([])
        for v, view in enumerate(views):
            found = _draw(view, (opacities[b], sizes[b], colors[b]), images[b, v], keep)
            if keep:
                drawn[b].append(found)
    return torch.from_numpy(images), drawn


def _draw(view: _View, looks: tuple[Array, ...], color: Array, keep: bool) -> DrawnView:
    """Shapes, bins and blends one view into ``color``."""
    shared, count, dtype = view.shared, len(view.index), color.dtype
    records = np.empty((count, RECORD), dtype)
    rects = np.empty((count, 4), np.int32)

    def shape_range(start: int, stop: int) -> None:
        fill_records(
            start, stop, view.index, view.places, view.bands, *looks, float(shared.height),
            float(shared.width), shared.settings, shared.within_tiles, records, rects,
        )  # fmt: skip

    for_ranges(count, GAUSSIANS_AT_ONCE, shape_range)
    depth, alpha = (np.empty(color.shape[1:], dtype) for _ in range(2))
    return blended(records, rects, view.order, shared, (color, depth, alpha), keep)


def _add_gradients(
    view: _View, drawn: DrawnView, looks: list[Array], d_color: Array, totals: list[Array]
) -> None:
    """Adds the gradients of one view's colours to opacities, sizes and colours."""
    shared = view.shared
    slot_of, first_slot = gradient_slots(
        drawn.starts, drawn.gaussian_of, drawn.rects, shared.tiles_x
    )
    slots = np.empty((len(slot_of), CHANGE), d_color.dtype)

    def blend_range(first: int, last: int) -> None:
        blend_changes(
            first, last, drawn.records, drawn.starts, drawn.gaussian_of, slot_of,
            shared.tiles_x, shared.settings, d_color, drawn.state, slots,
        )  # fmt: skip

    for_ranges(shared.tiles_x * shared.tiles_y, TILES_AT_ONCE, blend_range)

    def change_range(start: int, stop: int) -> None:
        fill_gradients(
            start, stop, view.index, first_slot, slots, view.bands, *looks, *totals
        )  # fmt: skip

    for_ranges(len(view.index), GAUSSIANS_AT_ONCE, change_range)
