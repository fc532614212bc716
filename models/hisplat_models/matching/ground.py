"""Ground without texture: lawn, sand, paving or floor that no match was found for.

What is seen below everything else in a photo is mostly ground, and where it has no texture it is
placed far too deep: it matches itself anywhere. Two things tell where it must be. Nothing lies
below the ground, so of all planes with one inclination it is the highest one that what was matched
still stands on; and of the inclinations that is the right one which lays the photos over each
other in like colours. A plane is believed only if much of a photo would lie below it and if its
inclination is told clearly; most scenes have none.
"""

import math
import statistics
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from ..cameras import Cameras
from .prior import CANDIDATE_NAMES, EVIDENCE_NAMES, MatchingPrior


@dataclass(frozen=True)
class GroundSettings:
    """How ground is looked for; colours on a 0-1 scale."""

    cell: int = 4
    """Pixels to a side of the cells in which planes are compared."""
    steepest_degrees: float = 24.0
    """Largest angle between the photos' own upright direction and the ground's normal."""
    mistaken_shares: tuple[float, ...] = (0.02, 0.06)
    """Shares of the trusted points that lie below the ground because they are mistaken: tried one
    by one, for a plane even a little too high has the wrong slope."""
    margin_px: float = 4.0
    """Distance in another photo between a pixel's own choice and the ground to count as below."""
    least_share: float = 0.06
    """Share of the photos without a match and below the plane that makes the search worthwhile."""
    least_seen: float = 0.01
    """Share of each photo that must be so and be shown by another one for its colours to tell."""
    color_limit: float = 0.3
    """Difference of colours beyond which all count alike."""
    most_difference: float = 0.12
    """Mean difference of colours at which a plane is not believed."""
    contrast: float = 0.75
    """Nor is it if its difference is more than this share of the median inclination's."""
    upright: float = 0.0005
    """Difference of colours that an inclination must save for each degree: where colours hardly
    tell, photos are held upright."""
    no_worse: float = 0.01
    """A trusted pixel below the ground keeps its place if that place's colours fit better by more
    than this."""


@dataclass(frozen=True)
class Plane:
    """A plane in world coordinates: the points whose product with ``normal`` is ``level``."""

    normal: Float[Tensor, "3"]
    level: Float[Tensor, ""]

    def inverse_depths(
        self, cameras: Cameras, height: int, width: int
    ) -> Float[Tensor, "view height width"]:
        """1 / z-depth of the plane in each view; not positive above its horizon."""
        above = cameras.positions @ self.normal - self.level
        return -(cameras.rays(height, width) @ self.normal) / above[:, None, None]


_DEFAULT = GroundSettings()
_STEP_DEGREES = 1.5  # between the inclinations tried first
_FINEST_DEGREES = 0.2  # where looking between them ends


def with_ground(
    prior: MatchingPrior,
    photos: Float[Tensor, "batch view 3 height width"],
    cameras: Cameras,
    settings: GroundSettings = _DEFAULT,
) -> tuple[MatchingPrior, Bool[Tensor, "batch view height width"]]:
    """The prior with untextured ground on its plane, and the pixels that were moved there.

    Those pixels' depth and candidates change; that they are no longer trusted is left to the
    caller.

    Args:
        prior: What matching found.
        photos: RGB in [0, 1].
        cameras: (batch, view), held roughly upright: "up" is looked for around the mean of their
            vertical axes.
        settings: Constants.
    """
    moved = torch.zeros_like(prior.trusted)
    ground = prior.inverse_depth.clone()
    for scene in range(len(photos)):
        look = _Look(prior, photos[scene], cameras[scene], scene, settings)
        plane = look.ground()
        if plane is not None:
            ground[scene] = plane.inverse_depths(cameras[scene], *photos.shape[-2:])
            moved[scene] = look.enlarged(look.misplaced(plane))
    moved &= ground > prior.inverse_depth
    if not moved.any():
        return prior, moved
    candidates, evidence = prior.candidates.clone(), prior.evidence.clone()
    for name in ("choice", "second_pass", "fill", "background"):
        layer = candidates[:, :, CANDIDATE_NAMES.index(name)]
        layer.copy_(ground.where(moved, layer))
    evidence[:, :, EVIDENCE_NAMES.index("occluded")].masked_fill_(moved, 0.0)
    depth = ground.where(moved, prior.inverse_depth)
    return replace(prior, inverse_depth=depth, candidates=candidates, evidence=evidence), moved


class _Look:
    """One scene in cells of a few pixels: what was matched, and how well planes fit."""

    def __init__(
        self,
        prior: MatchingPrior,
        photos: Float[Tensor, "view 3 height width"],
        cameras: Cameras,
        scene: int,
        settings: GroundSettings,
    ) -> None:
        self.settings = settings
        self.cameras = cameras
        self.photos = avg_pool2d(photos, settings.cell)
        self.size_px = photos.new_tensor([photos.shape[-1], photos.shape[-2]])
        centre = slice(settings.cell // 2, None, settings.cell)
        self.depth = prior.inverse_depth[scene, :, centre, centre]
        self.trusted = prior.trusted[scene, :, centre, centre]
        self.height, self.width = self.depth.shape[-2:]
        self.rays = cameras.rays(self.height, self.width)
        self.choices = [self._seen_from(other, self.depth) for other in range(len(photos))]
        points = cameras.positions[:, None, None] + self.rays / self.depth[..., None]
        self.points = points[self.trusted]
        axes = cameras.camera_to_world[:, :3, :3].mean(0)
        self.up = -axes[:, 1] / axes[:, 1].norm()
        back = torch.linalg.cross(axes[:, 0], self.up)
        self.back = back / back.norm()

    def ground(self) -> Plane | None:
        """The ground's plane, if there is one that is told clearly."""
        steepest, most = self.settings.steepest_degrees, max(self.settings.mistaken_shares)
        few = (-steepest, -steepest / 2, 0.0, steepest / 2, steepest)
        if all(self._unmatched_below(self._highest(angle, most)) is None for angle in few):
            return None
        differences: dict[tuple[float, float], float] = {}
        for share in self.settings.mistaken_shares:
            for angle in np.arange(-steepest, steepest + 1, _STEP_DEGREES).tolist():
                self._note(angle, share, differences)
        if not differences:
            return None
        limit = self.settings.contrast * statistics.median(differences.values())
        step = _STEP_DEGREES
        while step > _FINEST_DEGREES:
            step /= 2
            angle, share = min(differences, key=differences.__getitem__)
            self._note(angle - step, share, differences)
            self._note(angle + step, share, differences)
        best = min(differences, key=differences.__getitem__)
        told = differences[best] <= min(self.settings.most_difference, limit)
        return self._highest(*best) if told else None

    def _note(
        self, angle: float, share: float, differences: dict[tuple[float, float], float]
    ) -> None:
        """Adds the difference of colours on a plane, where it can be told."""
        difference = self._difference(self._highest(angle, share))
        if difference is not None:
            differences[angle, share] = difference + self.settings.upright * abs(angle)

    def _unmatched_below(self, plane: Plane | None) -> Bool[Tensor, "view height width"] | None:
        """Cells without a match below a plane; None if they are too few to be worthwhile."""
        if plane is None:
            return None
        cells = self._below(plane) & ~self.trusted
        return cells if float(cells.float().mean()) >= self.settings.least_share else None

    def _highest(self, degrees: float, mistaken: float) -> Plane | None:
        """The highest plane of an inclination, forth or back, that the trusted points stand on.

        All but a share of them that counts as mistaken. None if a camera would be below it.
        """
        normal = self.up + math.tan(math.radians(degrees)) * self.back
        normal = normal / normal.norm()
        heights = self.points @ normal
        if not len(heights):
            return None
        rank = max(1, round(mistaken * len(heights)))
        level = heights.kthvalue(rank).values
        return Plane(normal, level) if (self.cameras.positions @ normal > level).all() else None

    def _below(self, plane: Plane) -> Bool[Tensor, "view height width"]:
        """Cells whose choice lies below the plane, clearly so in some other view."""
        ground = plane.inverse_depths(self.cameras, self.height, self.width)
        deeper = (ground > 1 / self.cameras.far[:, None, None]) & (self.depth < ground)
        distances = torch.zeros_like(ground)
        for other, (choice, _) in enumerate(self.choices):
            there, _ = self._seen_from(other, ground)
            distances = distances.maximum(((there - choice) * self.size_px).norm(dim=-1))
        return deeper & (distances > self.settings.margin_px)

    def _seen_from(
        self, other: int, inverse_depth: Float[Tensor, "view height width"]
    ) -> tuple[Float[Tensor, "view height width 2"], Bool[Tensor, "view height width"]]:
        """Where each view's cells are in another view, in [0, 1], and whether they are inside."""
        depth = 1 / inverse_depth.clamp_min(1e-6)
        points = self.cameras.positions[:, None, None] + depth[..., None] * self.rays
        seen = self.cameras[other].project(points.flatten(0, 2)).view_as(points)
        place = seen[..., :2].nan_to_num(-1.0).clamp(-8, 8)
        inside = (seen[..., 2] > 0) & (place > 0).all(-1) & (place < 1).all(-1)
        inside[other] = False
        return place, inside

    def _color_difference(
        self, inverse_depth: Float[Tensor, "view height width"]
    ) -> Float[Tensor, "view height width"]:
        """Mean absolute difference to the photo that fits best; infinite where none shows it."""
        lowest = torch.full_like(inverse_depth, torch.inf)
        for other in range(len(inverse_depth)):
            place, inside = self._seen_from(other, inverse_depth)
            photo = self.photos[other].expand_as(self.photos)
            color = grid_sample(photo, 2 * place - 1, padding_mode="border", align_corners=False)
            difference = (color - self.photos).abs().mean(1).clamp(max=self.settings.color_limit)
            lowest = lowest.minimum(difference.where(inside, torch.inf))
        return lowest

    def _difference(self, plane: Plane | None) -> float | None:
        """Mean over views of what the colours of unmatched cells below a plane differ by on it.

        None if there are too few, or if in some view too few that another one shows.
        """
        cells = self._unmatched_below(plane)
        if plane is None or cells is None:
            return None
        difference = self._color_difference(
            plane.inverse_depths(self.cameras, self.height, self.width)
        )
        cells &= difference.isfinite()
        counts = cells.sum((1, 2))
        if (counts < self.settings.least_seen * self.height * self.width).any():
            return None
        return float((difference.where(cells, 0.0).sum((1, 2)) / counts).mean())

    def misplaced(self, plane: Plane) -> Bool[Tensor, "view height width"]:
        """Cells below the ground, but for trusted ones whose colours fit it clearly worse."""
        ground = plane.inverse_depths(self.cameras, self.height, self.width)
        worse = self._color_difference(ground) > (
            self._color_difference(self.depth) + self.settings.no_worse
        )
        return self._below(plane) & ~(self.trusted & worse)

    def enlarged(
        self, cells: Bool[Tensor, "view height width"]
    ) -> Bool[Tensor, "view height_px width_px"]:
        """The same for every pixel."""
        cell = self.settings.cell
        return cells.repeat_interleave(cell, 1).repeat_interleave(cell, 2)
