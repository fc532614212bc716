"""Procedural examples made on a device: planned by worker processes, cast and taken in batches."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hisplat_models.cameras import Cameras
from hisplat_models.example import Example

from ...datasets.cached import CachedDataset
from ..dataset import RANGE_FACTORS, RANGE_QUANTILES, ProceduralDataset
from ..plans import Plan, draw_plan
from ..settings import ProceduralSettings
from .cast import Views, Workload, cast
from .photos import ShotBatch, depth_ranges, take
from .scenes import SceneBatch, pack

logger = logging.getLogger(__name__)

MOST_SAMPLES, MOST_PIXELS = 32, 1 << 22
"""How many samples are made at a time at most, and pixels of all their pictures together."""


@dataclass(frozen=True)
class FrameBatch:
    """What the numbers of several examples are given in.

    Attributes:
        poses: Camera to world, photos as given and then targets, in each example's world.
        intrinsics: First row divided by the width, second by the height; in the same order.
        scales: Units of each example in a unit of its scene.
        range_factors: What the quantiles of the depth become near and far by.
    """

    poses: Float32[Tensor, "sample view 4 4"]
    intrinsics: Float32[Tensor, "sample view 3 3"]
    scales: Float32[Tensor, " sample"]
    range_factors: Float32[Tensor, "sample 2"]


@dataclass(frozen=True)
class PlanBatch:
    """Plans of several samples as tensors.

    Attributes:
        names: Of the examples.
        scenes: Their scenes.
        views: Their cameras, sample by sample, photos first.
        shots: How their photos are taken.
        frames: What their numbers are given in.
    """

    names: list[str]
    scenes: SceneBatch
    views: Views
    shots: ShotBatch
    frames: FrameBatch

    def pin_memory(self) -> "PlanBatch":
        """The large tables in memory that a GPU reads by itself; loaders call it by this name."""
        scenes, shots = self.scenes.pin_memory(), self.shots.pin_memory()
        return PlanBatch(self.names, scenes, self.views, shots, self.frames)


def pack_plans(names: Sequence[str], plans: Sequence[Plan]) -> PlanBatch:
    """Plans of one kind of settings as a batch on the CPU."""
    cameras = [(*plan.cameras.context, *plan.cameras.target) for plan in plans]
    given = [(*plan.frame.given, *plan.cameras.target) for plan in plans]
    numbers = [n for n, own in enumerate(cameras) for _ in own]
    return PlanBatch(
        names=list(names),
        scenes=pack([plan.scene for plan in plans]),
        views=Views.of([camera for own in cameras for camera in own], numbers),
        shots=ShotBatch.of([plan.shots for plan in plans]),
        frames=FrameBatch(
            poses=_floats([p.frame.poses(own) for p, own in zip(plans, given, strict=True)]),
            intrinsics=_floats([[camera.intrinsics for camera in own] for own in given]),
            scales=_floats([plan.frame.scale for plan in plans]),
            range_factors=_floats(
                [np.multiply(RANGE_FACTORS, plan.frame.margins) for plan in plans]
            ),
        ),
    )


def _floats(values: Sequence[object]) -> Float32[Tensor, "..."]:
    return torch.from_numpy(np.array(values, dtype=np.float32))


@torch.no_grad()
def make_batch(
    plans: PlanBatch,
    settings: ProceduralSettings,
    device: torch.device,
    workload: Workload | None = None,
) -> Example:
    """The examples of plans, with a leading batch axis, made on a device and left there."""
    height, width, photos = settings.height, settings.width, settings.context_views
    scenes, views = plans.scenes.to(device), plans.views.to(device)
    seen = cast(scenes, views, height, width, settings.samples_per_pixel, workload)
    shape = (len(plans.names), -1)
    light, depth = seen.radiance.unflatten(0, shape), seen.depth.unflatten(0, shape)
    is_sky = seen.is_sky.unflatten(0, shape)
    shots = plans.shots.to(device)
    context, target = take(shots, light[:, :photos], light[:, photos:])
    frames = FrameBatch(
        **{f.name: getattr(plans.frames, f.name).to(device) for f in fields(FrameBatch)}
    )
    ranges = depth_ranges(depth[:, :photos], is_sky[:, :photos], RANGE_QUANTILES)
    ranges = ranges * frames.range_factors * frames.scales[:, None]
    near, far = ranges[:, :, None].expand(-1, -1, depth.shape[1]).unbind(dim=1)
    cameras = Cameras(frames.poses, frames.intrinsics, near, far)
    depth = depth * frames.scales[:, None, None, None]
    return Example(
        name=plans.names,
        context_images=context.permute(0, 1, 4, 2, 3).contiguous(),
        context_cameras=cameras[:, :photos],
        target_images=target.permute(0, 1, 4, 2, 3).contiguous(),
        target_cameras=cameras[:, photos:],
        context_depth=depth[:, :photos],
        target_depth=depth[:, photos:],
    )


class _Plans(Dataset[tuple[str, Plan]]):
    """The plans of some items of a dataset, in the order given."""

    def __init__(self, dataset: ProceduralDataset, indices: Sequence[int]):
        self.dataset, self.indices = dataset, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, number: int) -> tuple[str, Plan]:
        index = self.indices[number]
        plan = draw_plan(self.dataset.random(index), self.dataset.settings)
        return self.dataset.name(index), plan


def _packed(named: list[tuple[str, Plan]]) -> PlanBatch:
    names, plans = zip(*named, strict=True)
    return pack_plans(names, plans)


def batch_size(settings: ProceduralSettings) -> int:
    """Samples made at a time: fewer of large pictures."""
    views = settings.context_views + settings.target_views
    pixels = views * settings.height * settings.width
    return min(max(MOST_PIXELS // pixels, 1), MOST_SAMPLES)


def plan_batches(
    dataset: ProceduralDataset, indices: Sequence[int], workers: int, pinned: bool = False
) -> Iterator[PlanBatch]:
    """Plans of items of a dataset in batches, drawn by ``workers`` processes (0: by this one)."""
    yield from DataLoader(
        _Plans(dataset, indices),
        batch_size=batch_size(dataset.settings),
        num_workers=workers,
        collate_fn=_packed,
        pin_memory=pinned,
        # Forked even after CUDA has started: planning never touches it.
        multiprocessing_context="fork" if workers else None,
        prefetch_factor=2 if workers else None,
    )


def make_examples(
    dataset: ProceduralDataset, indices: Sequence[int], device: torch.device, workers: int
) -> Iterator[Example]:
    """Items of a dataset, one after the other in the order given, made on a device.

    Args:
        dataset: What items to make.
        indices: Which of them.
        device: Where to cast rays and take photos; the examples come back to the CPU.
        workers: Processes that plan scenes; one plans about ten a second.
    """
    pinned = device.type == "cuda"
    for plans in plan_batches(dataset, indices, workers, pinned):
        yield from _split(make_batch(plans, dataset.settings, device))


def _split(examples: Example) -> Iterator[Example]:
    """The examples of a batch on the CPU."""
    here: dict[str, Any] = {f.name: _on_cpu(getattr(examples, f.name)) for f in fields(Example)}
    for n in range(len(examples.name)):
        yield Example(**{key: value[n] for key, value in here.items()})


def _on_cpu(value: Any) -> Any:
    """A tensor, or cameras, on the CPU; names as they are."""
    if isinstance(value, Cameras):
        return Cameras(*(getattr(value, f.name).cpu() for f in fields(Cameras)))
    return value.cpu() if isinstance(value, Tensor) else value


def fill_cache(
    cache: CachedDataset, device: torch.device, workers: int, rank: int = 0, world_size: int = 1
) -> int:
    """Makes what a cache of procedural examples lacks on a device; gives the number made.

    Args:
        cache: Of a ``ProceduralDataset``.
        device: See ``make_examples``.
        workers: Likewise.
        rank: This process; of ``world_size`` of them each makes its share.
        world_size: Processes that fill the cache at the same time.
    """
    assert isinstance(cache.dataset, ProceduralDataset)
    # By index and not by place: another process may have begun.
    lacking = [index for index in cache.missing() if index % world_size == rank]
    examples = make_examples(cache.dataset, lacking, device, workers)
    for done, (index, example) in enumerate(zip(lacking, examples, strict=True), 1):
        cache.keep(index, example)
        if done % 1000 == 0 or done == len(lacking):
            logger.info("Made %d of %d scenes on %s.", done, len(lacking), device)
    return len(lacking)
