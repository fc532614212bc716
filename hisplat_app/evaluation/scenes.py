"""Draws and scores every pair of the posed folders with every method."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from hisplat_data_tools.datasets import PosedFolderDataset, pair_name
from hisplat_models.cameras import Cameras
from hisplat_models.example import Example

from .contact_sheet import PairSheet, draw_pair_sheet
from .estimated_cameras import AlignedEstimate, PairRefused, estimate_cameras
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
        seconds: Per method, from photos to all its views.
        views: Scores of all methods at all targets.
        sheet: Pictures of the pair; None unless asked for.
    """

    scene: str
    pair: str
    refused: str | None = None
    estimate: AlignedEstimate | None = None
    failures: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    views: list[ViewScore] = field(default_factory=list)
    sheet: PairSheet | None = None


@dataclass(frozen=True)
class PairRunner:
    """Evaluates pairs one by one.

    Attributes:
        methods: By name, in the order of the report.
        source: Whose cameras the methods get.
        true_focal: With estimated cameras: whether the estimator is told the focal length.
        sheets: Whether to draw contact sheets.
    """

    methods: Mapping[str, Method]
    source: CameraSource
    true_focal: bool
    sheets: bool

    def __call__(self, dataset: PosedFolderDataset, index: int) -> PairResult:
        """The result of one pair of a posed folder."""
        pair = dataset.pairs[index]
        result = PairResult(dataset.scene, pair_name(pair))
        example = dataset[index]
        cameras = example.context_cameras
        if self.source == "estimated":
            try:
                estimate = estimate_cameras(dataset, index, self.true_focal)
            except PairRefused as refusal:
                return replace(result, refused=str(refusal))
            result = replace(result, estimate=estimate)
            cameras = estimate.cameras
        middle = median_depth(example.context_images, cameras)
        context = Context(example.context_images, cameras, middle)
        drawn, seen = self._draw(context, example, result)
        for name, views in drawn.items():
            for i, target in enumerate(pair.targets):
                mask = None if seen is None else seen[i]
                scores = score_view(views.color[i], views.alpha[i], example.target_images[i], mask)
                result.views.append(ViewScore(dataset.scene, result.pair, target, name, scores))
        if not self.sheets:
            return result
        return replace(result, sheet=_sheet(example, pair.targets, drawn))

    def _draw(
        self, context: Context, example: Example, result: PairResult
    ) -> tuple[dict[str, Views], Bool[Tensor, "target height width"] | None]:
        """What each method shows, and which part the photos see; notes failures and seconds."""
        targets = example.target_cameras
        size = (example.target_images.shape[-2], example.target_images.shape[-1])
        drawn: dict[str, Views] = {}
        seen = None
        for name, method in self.methods.items():
            wanted = _joined(targets, context.cameras) if name == GEOMETRY else targets
            start = time.perf_counter()
            try:
                views = method(context, wanted, size)
            except MethodFailed as failure:
                result.failures[name] = str(failure)
                continue
            result.seconds[name] = time.perf_counter() - start
            count = len(example.target_images)
            if name == GEOMETRY and views.depth is not None:
                depth = views.depth
                seen = seen_by_a_photo(depth[:count], targets, depth[count:], context.cameras)
            drawn[name] = views[:count]
        return drawn, seen


def _joined(first: Cameras, second: Cameras) -> Cameras:
    return Cameras(
        *(torch.cat([getattr(first, f.name), getattr(second, f.name)]) for f in fields(Cameras))
    )


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
