"""Disparity of rectified stereo pairs against the truth."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from hisplat_data_tools.datasets import StereoFolder
from hisplat_data_tools.images import working_size
from hisplat_models.metrics import DisparityErrors, disparity_errors

from .methods import MethodFailed
from .networks import NetworkScene
from .pair_range import disparity_range
from .sgbm import match_both_ways, to_bytes


@runtime_checkable
class DisparityMethod(Protocol):
    """Estimates the disparity of a left photo."""

    def __call__(
        self, pair: StereoFolder, lowest: float, highest: float
    ) -> Float[Tensor, "height width"]:
        """Dense disparity in pixels of the stored photos; the range is an expectation."""
        ...


@dataclass(frozen=True)
class DisparityResult:
    """Errors of each method on one stereo pair, and the range all of them searched (pixels)."""

    name: str
    lowest: float
    highest: float
    errors: dict[str, DisparityErrors] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def evaluate_disparity(
    pair: StereoFolder, methods: Mapping[str, DisparityMethod]
) -> DisparityResult:
    """Runs all methods on one pair; the search range comes from its matches, not from the truth."""
    lowest, highest = disparity_range(pair)
    result = DisparityResult(pair.name, lowest, highest)
    for name, method in methods.items():
        try:
            found = method(pair, lowest, highest)
        except MethodFailed as failure:
            result.failures[name] = str(failure)
            continue
        result.errors[name] = disparity_errors(found, pair.disparity)
    return result


def sgbm_disparity(
    pair: StereoFolder, lowest: float, highest: float
) -> Float[Tensor, "height width"]:
    """StereoSGBM both ways, disagreeing pixels filled from the farther neighbour in the row."""
    photos = to_bytes(pair.images)
    whole = np.ones(photos.shape[:3], dtype=bool)
    found = match_both_ways(photos, whole, lowest, highest)
    return torch.from_numpy(found.maps[0]).float()


@dataclass(frozen=True)
class NetworkDisparity:
    """Depth of a network's finest Gaussians, one a pixel, at the stored resolution.

    Sides are stretched to the network's multiple and the result is stretched back.
    """

    scene: NetworkScene

    def __call__(
        self, pair: StereoFolder, lowest: float, highest: float
    ) -> Float[Tensor, "height width"]:
        """Disparity of the left photo in pixels of the stored photos."""
        height, width = pair.size
        multiple = self.scene.model.size_multiple
        size = working_size(width, height, max(pair.size), multiple)
        images = interpolate(
            pair.images, size, mode="bilinear", antialias=True, align_corners=False
        ).clamp(0, 1)
        cameras = pair.cameras(pair.depth_of_disparity(highest), pair.depth_of_disparity(lowest))
        disparity = pair.disparity_of_depth(self.scene.surface(images, cameras)[0])
        stretched = interpolate(disparity[None, None], pair.size, mode="nearest-exact")
        return stretched[0, 0]
