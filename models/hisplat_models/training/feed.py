"""Examples on their way into the network: order, augmentation, matching prior, batches.

Everything is a pure function of (seed, position), so that a resumed run and a run on several
processes see exactly the samples that one uninterrupted process would.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d
from torch.utils.data import DataLoader, Dataset, Sampler

from ..cameras import Cameras
from ..example import Example, collate
from ..matching import MatchingPrior, match_views


@runtime_checkable
class ExampleDataset(Protocol):
    """Anything that yields examples by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


@runtime_checkable
class ScheduledDataset(ExampleDataset, Protocol):
    """A dataset whose examples differ from time to time and may change over the training."""

    def example(self, index: int, *, seed: int, step: int) -> Example:
        """The example at a step of the training, a pure function of its arguments."""
        ...


@runtime_checkable
class OrderedDataset(ExampleDataset, Protocol):
    """A dataset that knows in which order it is fast to read."""

    def epoch_order(self, seed: int, epoch: int) -> Sequence[int]:
        """A permutation of all indices, a pure function of its arguments."""
        ...


@dataclass(frozen=True)
class SampleKey:
    """Which example a sample is made of.

    Attributes:
        epoch: How often the dataset has been gone through before.
        index: In the dataset.
        step: Of the training; None for an example as it is, for evaluation.
    """

    epoch: int
    index: int
    step: int | None = None


@dataclass(frozen=True)
class Sample:
    """A batch as the training step takes it."""

    example: Example
    prior: MatchingPrior | None

    def to(self, device: torch.device) -> "Sample":
        """All tensors moved to a device."""
        example = Example(
            **{f.name: _moved(getattr(self.example, f.name), device) for f in fields(Example)}
        )
        prior = self.prior
        if prior is not None:
            prior = MatchingPrior(
                **{f.name: getattr(prior, f.name).to(device) for f in fields(MatchingPrior)}
            )
        return Sample(example, prior)


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor | Cameras) else value


Order = Callable[[int], Sequence[int]]
"""The order of a dataset's indices in an epoch."""


class BatchOrder(Sampler[list[SampleKey]]):
    """Batches of keys from a given step on; every epoch has an order of its own.

    Args:
        length: Examples in the dataset.
        batch_size: Of all processes together.
        first_step: Where to begin (resume).
        last_step: Where to end (exclusive).
        order: Of each epoch.
        rank: This process; it gets its share of every batch.
        world_size: Number of processes.
        micro_batches: Parts in which each share comes, one after the other.

    Raises:
        ValueError: if the batch cannot be shared evenly.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        first_step: int,
        last_step: int,
        order: Order,
        rank: int = 0,
        world_size: int = 1,
        micro_batches: int = 1,
    ):
        if batch_size % (world_size * micro_batches):
            raise ValueError(
                f"Expected a batch size that {world_size} processes can share in {micro_batches} "
                f"parts each, got {batch_size}."
            )
        self.length, self.batch_size, self.order = length, batch_size, order
        self.first_step, self.last_step = first_step, last_step
        part = batch_size // (world_size * micro_batches)
        first = rank * micro_batches * part
        self.parts = [slice(first + i * part, first + (i + 1) * part) for i in range(micro_batches)]

    def __len__(self) -> int:
        return (self.last_step - self.first_step) * len(self.parts)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        epoch, order = -1, []
        for step in range(self.first_step, self.last_step):
            batch = []
            for position in range(step * self.batch_size, (step + 1) * self.batch_size):
                if position // self.length != epoch:
                    epoch = position // self.length
                    order = self.order(epoch)
                batch.append(SampleKey(epoch, int(order[position % self.length]), step))
            for part in self.parts:
                yield batch[part]


def epoch_orders(dataset: ExampleDataset, seed: int) -> Order:
    """The dataset's own order, if it has one, else a random permutation."""
    if isinstance(dataset, OrderedDataset):
        return lambda epoch: dataset.epoch_order(seed, epoch)

    def permutation(epoch: int) -> Sequence[int]:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        return torch.randperm(len(dataset), generator=generator).tolist()

    return permutation


class TrainingSamples(Dataset[Sample]):
    """Augmented examples with their matching prior.

    Args:
        dataset: Where the examples come from.
        with_prior: Compute the matching prior (in the data-loading process).
        seed: Of the augmentation.
        augment: See ``TrainSettings.augment``; examples for evaluation are left as they are.
        half_size_steps: See ``TrainSettings.half_size_steps``; likewise.
    """

    def __init__(
        self,
        dataset: ExampleDataset,
        with_prior: bool,
        seed: int,
        augment: Literal["all", "mirror", "none"] = "all",
        half_size_steps: float = 0.0,
    ):
        self.dataset, self.with_prior = dataset, with_prior
        self.seed, self.augment = seed, augment
        self.half_size_steps = half_size_steps

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: SampleKey) -> Sample:
        seed = hash((self.seed, key.epoch, key.index)) % 2**63
        if key.step is None:
            example = self.dataset[key.index]
        else:
            example = self._example(key.index, key.step, seed)
            if self.augment != "none":
                generator = torch.Generator().manual_seed(seed)
                example = augmented(example, generator, mirror_only=self.augment == "mirror")
            if self._is_half_size(key.step):
                example = with_halved_photos(example)
        batch = collate([example])
        prior = None
        if self.with_prior:
            prior = match_views(batch.context_images, batch.context_cameras)
        return Sample(batch, prior)

    def _is_half_size(self, step: int) -> bool:
        """The same for all examples of a batch, whose photos must have one size."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        return bool(torch.rand((), generator=generator) < self.half_size_steps)

    def _example(self, index: int, step: int, seed: int) -> Example:
        if isinstance(self.dataset, ScheduledDataset):
            return self.dataset.example(index, seed=seed, step=step)
        return self.dataset[index]


def augmented(example: Example, generator: torch.Generator, mirror_only: bool = False) -> Example:
    """Half the time mirrored; views and colour channels in random order unless ``mirror_only``."""
    mirror = bool(torch.rand((), generator=generator) < 0.5)
    if mirror:
        example = mirrored(example)
    if mirror_only:
        return example
    views = torch.randperm(example.context_images.shape[0], generator=generator)
    channels = torch.randperm(3, generator=generator)
    depth = example.context_depth
    return replace(
        example,
        context_images=example.context_images[views][:, channels],
        context_cameras=example.context_cameras[views],
        context_depth=None if depth is None else depth[views],
        target_images=example.target_images[:, channels],
    )


def with_halved_photos(example: Example) -> Example:
    """The example with photos of half the size, whose target views stay as they are.

    Depth is taken at one of the four pixels that become one: their mean would lie between surfaces.
    """
    depth = example.context_depth
    return replace(
        example,
        context_images=avg_pool2d(example.context_images, 2),
        context_depth=None if depth is None else depth[..., ::2, ::2],
    )


def mirrored(example: Example) -> Example:
    """The example seen in a mirror: every image flipped left to right, poses E -> F E F."""

    def flipped(maps: Tensor | None) -> Tensor | None:
        return None if maps is None else maps.flip(-1)

    return replace(
        example,
        context_images=example.context_images.flip(-1),
        context_cameras=_mirrored_cameras(example.context_cameras),
        target_images=example.target_images.flip(-1),
        target_cameras=_mirrored_cameras(example.target_cameras),
        context_depth=flipped(example.context_depth),
        target_depth=flipped(example.target_depth),
    )


def _mirrored_cameras(cameras: Cameras) -> Cameras:
    flip = torch.diag(cameras.near.new_tensor([-1.0, 1.0, 1.0, 1.0]))
    intrinsics = cameras.intrinsics.clone()
    intrinsics[..., 0, 2] = 1 - intrinsics[..., 0, 2]
    return replace(
        cameras, camera_to_world=flip @ cameras.camera_to_world @ flip, intrinsics=intrinsics
    )


def collate_samples(samples: Sequence[Sample]) -> Sample:
    """Samples with a batch axis of one as one batch."""
    examples, priors = [s.example for s in samples], [s.prior for s in samples]
    joined = {f.name: _joined([getattr(e, f.name) for e in examples]) for f in fields(Example)}
    prior = None
    if all(p is not None for p in priors):
        prior = MatchingPrior(
            **{
                f.name: torch.cat([getattr(p, f.name) for p in priors])
                for f in fields(MatchingPrior)
            }
        )
    return Sample(Example(**joined), prior)


def _joined(values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(values)
    if isinstance(first, Cameras):
        return Cameras(*(torch.cat([getattr(c, f.name) for c in values]) for f in fields(Cameras)))
    return None if first is None else [name for names in values for name in names]


def batches(samples: TrainingSamples, order: BatchOrder, workers: int) -> DataLoader[Sample]:
    """A loader that computes samples in ``workers`` forked processes (0: in this one)."""
    return DataLoader(
        samples,
        batch_sampler=order,
        num_workers=workers,
        collate_fn=collate_samples,
        persistent_workers=False,
        worker_init_fn=_one_thread,
        prefetch_factor=4 if workers else None,
    )


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)
