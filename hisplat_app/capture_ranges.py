"""How deep a capture is: near and far of each view, from known points or from the photos."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hisplat_data_tools.depth_range import depth_range
from hisplat_data_tools.images import Photo
from hisplat_data_tools.known_cameras import scene_range_from_known_cameras
from hisplat_data_tools.two_view import TwoViewError
from hisplat_models.cameras import Cameras

logger = logging.getLogger(__name__)

FEWEST_POINTS = 20
"""A view with fewer known points takes the range of the others."""

PROBES = 10
"""Views at which depth is measured where no points are known; others take their nearest probes'."""

PROBES_OF_A_VIEW = 3
LEAST_PARALLAX = 0.03
"""Distance of two cameras over the median depth, below which their range is not trusted."""

SAME_DIRECTION = 0.8
"""Cosine of the angle between two viewing directions up to which photos are matched."""

PARTNERS = 6


@runtime_checkable
class CapturePhotos(Protocol):
    """The photos of a capture, which may be read when they are asked for: a list will do."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self, index: int, /) -> Photo:
        """One of them."""
        ...


def ranges_from_points(cameras: Cameras, points: Float[Tensor, "point 3"]) -> Cameras:
    """The cameras with near and far of the points that each has in frame, with margins.

    Args:
        cameras: Shape (view,); their own near and far are not used.
        points: World points on surfaces, such as those of structure from motion.

    Raises:
        ValueError: if no view has enough points in frame.
    """
    found: dict[int, tuple[float, float]] = {}
    for view in range(len(cameras.near)):
        x, y, depth = cameras[view].project(points).unbind(dim=-1)
        inside = (depth > 0) & (x >= 0) & (x <= 1) & (y >= 0) & (y <= 1)
        if inside.sum() >= FEWEST_POINTS:
            positions = torch.stack([x, y], dim=-1)[inside].double().cpu().numpy()
            found[view] = depth_range(positions, depth[inside].double().cpu().numpy()[None])
    if not found:
        raise ValueError(
            f"None of {len(cameras.near)} views has {FEWEST_POINTS} of the {len(points)} given "
            "points in frame: check that they belong to this capture."
        )
    return _with_ranges(cameras, found)


def ranges_from_photos(photos: CapturePhotos, cameras: Cameras) -> Cameras:
    """The cameras with near and far of matches between neighbouring photos, with margins.

    Args:
        photos: As many as cameras; only some of them are looked at.
        cameras: Shape (view,); their own near and far are not used.

    Raises:
        TwoViewError: if no two neighbours have enough matches that fit the cameras.
    """
    count = len(cameras.near)
    found: dict[int, tuple[float, float]] = {}
    for view in np.unique(np.linspace(0, count - 1, min(PROBES, count)).round().astype(int)):
        probed = _probe(photos, cameras, int(view))
        if probed is not None:
            found[int(view)] = probed
    if not found:
        raise TwoViewError(
            "The range of depths is unknown: no two neighbouring photos of the capture have enough "
            "matches that fit the given cameras. Check that the cameras belong to the photos."
        )
    return _with_ranges(cameras, found)


def pair_range(left: Photo, right: Photo, cameras: Cameras) -> tuple[float, float]:
    """Near and far of two photos' matches, else what the cameras of shape (2,) state."""
    try:
        found = scene_range_from_known_cameras(left.pixels, right.pixels, cameras)
    except TwoViewError as error:
        logger.info("Range of %s and %s: %s", left.name, right.name, error)
        return cameras.near.min().item(), cameras.far.max().item()
    return found.near, found.far


def _probe(photos: CapturePhotos, cameras: Cameras, view: int) -> tuple[float, float] | None:
    """Near and far around a view by the first of its neighbours that tells."""
    for partner in _neighbours(cameras, view):
        pair = _any_range(cameras[[view, partner]])
        try:
            found = scene_range_from_known_cameras(
                photos[view].pixels, photos[partner].pixels, pair
            )
        except TwoViewError as error:
            logger.info("Range of %s: %s", photos[view].name, error)
            continue
        baseline = (pair.positions[0] - pair.positions[1]).norm().item()
        if baseline >= LEAST_PARALLAX * found.median_depth:
            return found.near, found.far
    return None


def _neighbours(cameras: Cameras, view: int) -> Iterator[int]:
    """Other views that look the same way, nearest first, at steps that grow."""
    distance = (cameras.positions - cameras.positions[view]).norm(dim=-1)
    forward = cameras.camera_to_world[:, :3, 2]
    usable = (forward @ forward[view] > SAME_DIRECTION) & (distance > 0)
    nearest = [int(i) for i in distance.argsort() if usable[i]]
    step = 0
    for _ in range(PARTNERS):
        if step >= len(nearest):
            return
        yield nearest[step]
        step = 2 * step + 1


def _any_range(cameras: Cameras) -> Cameras:
    ones = torch.ones_like(cameras.near)
    return replace(cameras, near=ones, far=2 * ones)


def _with_ranges(cameras: Cameras, found: dict[int, tuple[float, float]]) -> Cameras:
    """Each view with its own range, or that which its nearest views with one span."""
    known = torch.tensor(sorted(found))
    ranges = torch.tensor([found[int(view)] for view in known], dtype=cameras.near.dtype)
    distance = torch.cdist(cameras.positions, cameras.positions[known])
    nearest = distance.topk(min(PROBES_OF_A_VIEW, len(known)), largest=False).indices.cpu()
    near, far = ranges[nearest, 0].amin(dim=1), ranges[nearest, 1].amax(dim=1)
    near[known], far[known] = ranges[:, 0], ranges[:, 1]
    return replace(cameras, near=near.to(cameras.near), far=far.to(cameras.far))
