"""Draws and scores every pair of the posed folders with every method."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import accumulate
from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from hisplat_data_tools.cameras_json import CameraPair
from hisplat_data_tools.datasets import PosedFolderDataset, pair_name
from hisplat_models.cameras import Cameras
from hisplat_models.example import Example

from .contact_sheet import PairSheet, draw_pair_sheet
from .estimated_cameras import AlignedEstimate, KnownLens, PairRefused, estimate_cameras
from .methods import Context, Method, MethodFailed, Views
from .pair_range import median_depth
from .statistics import ViewScore, score_view
from .visibility import seen_by_a_photo

GEOMETRY = "untrained"
"""The method whose surfaces decide which part of a target the photos see, the same for all."""

CameraSource = Literal["given", "estimated"]


@dataclass(frozen=True)
class PairResult:
    """What happened to one pair.

    Attributes:
        scene: Name of its folder.
        pair: Name of the pair in it.
        refused: Why no camera could be estimated, None if it could (or was given).
        estimate: How far the estimated cameras are from the stated ones; None with given ones.
        failures: Methods that could not handle the pair, with the reason.
        seconds: Per method, from photos to all its views, as if it were the only one.
        views: Scores of all methods at all targets.
        left_aligned: Likewise with the estimated scene laid over the stated one by the left camera
            alone; empty with given cameras.
        closer: Likewise of larger targets drawn from the same scene; empty unless asked for.
        sheet: Pictures of the pair; None unless asked for.
    """

    scene: str
    pair: str
    refused: str | None = None
    estimate: AlignedEstimate | None = None
    failures: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    views: list[ViewScore] = field(default_factory=list)
    left_aligned: list[ViewScore] = field(default_factory=list)
    closer: list[ViewScore] = field(default_factory=list)
    sheet: PairSheet | None = None


@dataclass(frozen=True)
class PairRunner:
    """Evaluates pairs one by one.

    Attributes:
        methods: By name, in the order of the report.
        source: Whose cameras the methods get.
        known_lens: With estimated cameras: what the estimator is told of the stated ones.
        sheets: Whether to draw contact sheets.
        scale: Also draw and score targets this many times as large; None for not.
    """

    methods: Mapping[str, Method]
    source: CameraSource
    known_lens: KnownLens
    sheets: bool
    scale: float | None = None

    def __call__(self, dataset: PosedFolderDataset, index: int) -> PairResult:
        """The result of one pair of a posed folder."""
        pair = dataset.pairs[index]
        result = PairResult(dataset.scene, pair_name(pair))
        example = dataset[index]
        cameras = example.context_cameras
        if self.source == "estimated":
            try:
                estimate = estimate_cameras(dataset, index, self.known_lens)
            except PairRefused as refusal:
                return replace(result, refused=str(refusal))
            result = replace(result, estimate=estimate)
            cameras = estimate.cameras
        middle = median_depth(example.context_images, cameras)
        context = Context(example.context_images, cameras, middle)
        wanted = {"targets": example.target_cameras}
        if result.estimate is not None:
            moved = result.estimate.from_left.of_cameras(example.target_cameras)
            wanted["left_aligned"] = moved
        drawn = self._draw(context, wanted, example, result)
        seen = _seen(drawn.get(GEOMETRY, {}), context.cameras, example.target_cameras)
        for name, views in drawn.items():
            result.views.extend(_scored(dataset.scene, pair, name, views["targets"], example, seen))
            if "left_aligned" in views:
                result.left_aligned.extend(
                    _scored(dataset.scene, pair, name, views["left_aligned"], example)
                )
        if self.scale is not None:
            self._draw_closer(context, dataset, index, result)
        if not self.sheets:
            return result
        shown = {name: views["targets"] for name, views in drawn.items()}
        return replace(result, sheet=_sheet(example, pair.targets, shown))

    def _draw(
        self, context: Context, wanted: Mapping[str, Cameras], example: Example, result: PairResult
    ) -> dict[str, dict[str, Views]]:
        """What each method shows at each of the wanted cameras; notes failures and seconds.

        GEOMETRY is drawn at the photos' cameras too.
        """
        size = (example.target_images.shape[-2], example.target_images.shape[-1])
        drawn: dict[str, dict[str, Views]] = {}
        for name, method in self.methods.items():
            parts = {**wanted, "photos": context.cameras} if name == GEOMETRY else wanted
            cameras = _joined(list(parts.values()))
            try:
                views, seconds = context.work.timed(partial(method, context, cameras, size))
            except MethodFailed as failure:
                result.failures[name] = str(failure)
                continue
            result.seconds[name] = seconds
            ends = list(accumulate(len(cameras.near) for cameras in parts.values()))
            spans = zip(parts, [0, *ends], ends, strict=False)
            drawn[name] = {part: views[first:end] for part, first, end in spans}
        return drawn

    def _draw_closer(
        self, context: Context, dataset: PosedFolderDataset, index: int, result: PairResult
    ) -> None:
        assert self.scale is not None
        side = round(self.scale * dataset.target_long_side)
        larger = PosedFolderDataset(dataset.path, dataset.long_side, dataset.size_multiple, side)
        example, pair = larger[index], larger.pairs[index]
        size = (example.target_images.shape[-2], example.target_images.shape[-1])
        for name, method in self.methods.items():
            if name not in result.failures:
                views = method(context, example.target_cameras, size)
                result.closer.extend(_scored(dataset.scene, pair, name, views, example))


def _seen(
    drawn: Mapping[str, Views], photos: Cameras, targets: Cameras
) -> Bool[Tensor, "target height width"] | None:
    """Which part of the targets the photos see, by what was drawn at both; None without depth."""
    if not drawn:
        return None
    there, here = drawn["targets"].depth, drawn["photos"].depth
    if there is None or here is None:
        return None
    return seen_by_a_photo(there, targets, here, photos)


def _scored(
    scene: str,
    pair: CameraPair,
    method: str,
    views: Views,
    example: Example,
    seen: Bool[Tensor, "target height width"] | None = None,
) -> list[ViewScore]:
    return [
        ViewScore(
            scene,
            pair_name(pair),
            target,
            method,
            score_view(
                views.color[i],
                views.alpha[i],
                example.target_images[i],
                None if seen is None else seen[i],
            ),
        )
        for i, target in enumerate(pair.targets)
    ]


def _joined(parts: Sequence[Cameras]) -> Cameras:
    return Cameras(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Cameras)))


def _sheet(example: Example, targets: tuple[str, ...], drawn: Mapping[str, Views]) -> PairSheet:
    """Pictures of the middle target."""
    middle = len(targets) // 2
    views = {name: views[middle : middle + 1] for name, views in drawn.items()}
    return draw_pair_sheet(
        f"{example.name}, target {targets[middle]}",
        example.context_images,
        example.target_images[middle],
        views,
    )
