"""Refinement by rendering: a scene fitted to the very photos it was made from, for a few steps.

A network places the Gaussians of each photo by themselves; how those of all photos blend where they
lie over each other, it can only guess. Drawing the photos' own views and descending the differences
settles that: who hides whom (opacities), how far each reaches (scales) and how much drawing has
blurred it (colours). Positions stay.

Photos alone would soon be fitted at the cost of the views between them. So a camera somewhere
between the first two photos is drawn as well, once from the finest Gaussians of the one photo and
once from the other's: whatever it would have shown, both should agree. Further photos see the same
surfaces from elsewhere, through cameras that are never quite right, and count less: fitted to them
as to the first two, the views between these lost up to .6 dB. What each part gave: docs/quality.md.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .cameras import Cameras
from .gaussians import SH_C0, Gaussians, matrix_to_quaternion, quaternions_to_matrices
from .rendering import Appearance, Renderer, place
from .rendering.places import Draw

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class RefinementSettings:
    """What may change and how fast: Adam's steps, each at most about its rate.

    A rate of 0 leaves that part as it is, a weight of 0 leaves that term out.
    """

    opacity_rate: float = 0.4
    """Of opacities, as logits."""
    scale_rate: float = 0.03
    """Of scales, as natural logarithms."""
    color_rate: float = 0.004
    """Of colours, RGB in [0, 1]."""
    scale_limit: float = 2.0
    """Scales grow and shrink at most by this factor."""
    agreement_weight: float = 0.35
    """Of the difference between the first two photos' Gaussians seen from between, against these
    photos' own error."""
    further_weight: float = 0.25
    """Of the mean error of the photos after the first two, against that of these."""
    error_floor: float = 0.01
    """Errors well below it count squared, well above it by their absolute value, so that what only
    one photo shows does not decide."""
    seed: int = 0
    """Of the choice of cameras between photos."""

    def __post_init__(self):
        rates = ("opacity_rate", "scale_rate", "color_rate")
        for name in (*rates, "agreement_weight", "further_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"Expected {name} of at least 0, got {getattr(self, name)}.")
        if not any(getattr(self, name) > 0 for name in rates):
            raise ValueError(f"Nothing to refine: {', '.join(rates)} are all 0.")
        if self.scale_limit < 1:
            raise ValueError(f"Expected a scale_limit of at least 1, got {self.scale_limit}.")
        if self.error_floor <= 0:
            raise ValueError(f"Expected an error_floor above 0, got {self.error_floor}.")


DEFAULT = RefinementSettings()


def refine(
    gaussians: Gaussians,
    images: Float[Tensor, "batch view 3 height width"],
    cameras: Cameras,
    renderer: Renderer,
    steps: int,
    settings: RefinementSettings = DEFAULT,
    progress: Progress | None = None,
) -> Gaussians:
    """The Gaussians after ``steps`` steps of Adam on the error of the photos' own views.

    Number, order, levels, positions and rotations stay. Equal input gives equal output wherever
    the renderer's gradients do. Works inside ``torch.no_grad`` as well.

    Args:
        gaussians: A scene as predicted: in every level, those of the photos one after the other.
        images: The photos it was predicted from, RGB in [0, 1], two or more.
        cameras: Theirs, shape (batch, view).
        renderer: Draws with gradients, by the rules by which the scene will be seen.
        steps: How many; 0 gives back the input.
        settings: Rates, weights and limits.
        progress: Told how far it has come; may raise to cancel.

    Raises:
        ValueError: for a negative number of steps, fewer than two photos, cameras that do not match
            them, or a level that cannot come from so many.
    """
    _check(images, cameras, steps)
    if steps == 0:
        return gaussians
    scene = gaussians.detach()
    fit = _Fit(scene, images, cameras, renderer, settings)
    generator = torch.Generator().manual_seed(settings.seed)
    with torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
        changes = _Changes(scene, settings)
        optimizer = torch.optim.Adam(changes.parameter_groups(), betas=(0.9, 0.99))
        for step in range(steps):
            if progress is not None:
                progress("refining the scene", step / steps)
            optimizer.zero_grad()
            changes.accumulate(fit.errors(generator))
            optimizer.step()
    return changes.applied()


def _check(images: Tensor, cameras: Cameras, steps: int) -> None:
    if steps < 0:
        raise ValueError(f"Expected at least 0 refinement steps, got {steps}.")
    if cameras.batch_shape != images.shape[:2]:
        raise ValueError(
            f"Expected one camera per photo, {tuple(images.shape[:2])}, got cameras of shape "
            f"{tuple(cameras.batch_shape)}."
        )
    if images.shape[1] < 2:
        raise ValueError(f"Expected at least two photos, got {images.shape[1]}.")


Error = Callable[[Appearance], Float[Tensor, ""]]


class _Fit:
    """How far a scene is from its photos, and its first photos' Gaussians from each other.

    Args:
        scene: Where its Gaussians are; their appearance changes.
        images: (batch, view, 3, height, width).
        cameras: Of the photos, (batch, view).
        renderer: Draws with gradients.
        settings: Weight and form of the error.
    """

    def __init__(
        self,
        scene: Gaussians,
        images: Tensor,
        cameras: Cameras,
        renderer: Renderer,
        settings: RefinementSettings,
    ):
        self.scene, self.images, self.cameras = scene, images, cameras
        self.renderer, self.settings = renderer, settings
        self.size = (images.shape[-2], images.shape[-1])
        self.photo = photo_of_each(scene.level[0], images.shape[1])
        self.photos = [
            place(renderer, scene, cameras[:, v : v + 1], self.size) for v in range(images.shape[1])
        ]

    def errors(self, generator: torch.Generator) -> Iterator[Error]:
        """What sums up to the error, one by one; the place between photos is drawn at random."""
        for v in range(len(self.photos)):
            yield partial(self._of_photo, v)
        if self.settings.agreement_weight > 0:
            here, between = _random_place(self.cameras, generator)
            seen = self._seen(here, between), self._seen(1 - here, between)
            yield partial(self._disagreement, *seen)

    def _of_photo(self, v: int, looks: Appearance) -> Tensor:
        """One photo's share of the mean error of the first two, or of the further ones."""
        difference = self.photos[v](looks) - self.images[:, v : v + 1]
        share = 1 / 2 if v < 2 else self.settings.further_weight / (len(self.photos) - 2)
        return share * robust_error(difference, self.settings.error_floor)

    def _seen(self, photo: int, camera: Cameras) -> Draw:
        """The Gaussians that stand for one photo before a camera (batch, 1)."""
        shown = _shown_of_photo(self.scene, self.photo, photo)
        return place(self.renderer, self.scene, camera, self.size, shown)

    def _disagreement(self, first: Draw, second: Draw, looks: Appearance) -> Tensor:
        difference = first(looks) - second(looks)
        return self.settings.agreement_weight * robust_error(difference, self.settings.error_floor)


def robust_error(
    difference: Float[Tensor, "batch view 3 height width"], floor: float
) -> Float[Tensor, ""]:
    """Mean of sqrt(d^2 + floor^2) - floor (Charbonnier)."""
    return ((difference.square() + floor**2).sqrt() - floor).mean()


def photo_of_each(level: Int[Tensor, "n"], photos: int) -> Int[Tensor, "n"]:
    """Index of the photo that each Gaussian stands for a pixel of.

    Raises:
        ValueError: if a level's Gaussians are not as many for each photo, or levels are mixed.
    """
    levels, counts = level.unique_consecutive(return_counts=True)
    if len(levels.unique()) != len(levels) or (counts % photos).any():
        raise ValueError(
            f"Expected one level after the other, as many Gaussians for each of {photos} photos, "
            f"got {counts.tolist()} of levels {levels.tolist()}."
        )
    index = torch.arange(photos, device=level.device)
    return torch.cat([index.repeat_interleave(int(count) // photos) for count in counts])


def _shown_of_photo(scene: Gaussians, photo: Int[Tensor, "n"], which: int) -> Bool[Tensor, "n"]:
    """The finest Gaussians of one photo and the coarser ones of all."""
    finest = scene.level[0] == scene.level.max()
    return ~finest | (photo == which)


def _random_place(cameras: Cameras, generator: torch.Generator) -> tuple[int, Cameras]:
    """One of the first two photos, and a camera (batch, 1) between it and the other."""
    here = int(torch.randint(2, (), generator=generator))
    share = 0.25 + 0.5 * torch.rand((), generator=generator).item()
    return here, camera_between(cameras[:, here], cameras[:, 1 - here], share)[:, None]


def camera_between(start: Cameras, end: Cameras, share: float) -> Cameras:
    """The cameras that have gone this share of the way; lenses and depth ranges go along."""
    turns = [matrix_to_quaternion(c.camera_to_world[..., :3, :3]) for c in (start, end)]
    near_side = torch.where((turns[0] * turns[1]).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    mixed = [
        torch.lerp(getattr(start, f.name), getattr(end, f.name), share) for f in fields(Cameras)
    ]
    between = Cameras(*mixed)
    rotation = quaternions_to_matrices(torch.lerp(turns[0], near_side * turns[1], share))
    pose = between.camera_to_world.clone()
    pose[..., :3, :3] = rotation
    return replace(between, camera_to_world=pose)


class _Changes:
    """What is added to a scene, zero at first."""

    def __init__(self, start: Gaussians, settings: RefinementSettings):
        self.start, self.settings = start, settings
        self.start_logits = torch.logit(start.opacities, eps=1e-6)
        self.opacity = torch.zeros_like(start.opacities).requires_grad_()
        self.scale = torch.zeros_like(start.opacities).requires_grad_()
        self.color = torch.zeros_like(start.base_colors).requires_grad_()

    def parameter_groups(self) -> list[dict[str, object]]:
        """Those that have a rate, as optimisers take them."""
        s = self.settings
        rates = (
            (self.opacity, s.opacity_rate),
            (self.scale, s.scale_rate),
            (self.color, s.color_rate),
        )
        return [{"params": [values], "lr": rate} for values, rate in rates if rate > 0]

    def appearance(self) -> Appearance:
        """Of the changed scene."""
        limit = math.log(self.settings.scale_limit)
        return Appearance(
            opacities=torch.sigmoid(self.start_logits + self.opacity),
            sizes=self.scale.clamp(-limit, limit).exp(),
            colors=self.start.base_colors + self.color,
        )

    def accumulate(self, errors: Iterable[Error]) -> None:
        """Adds the gradients of all errors; what one took is free before the next is made."""
        looks = self.appearance()
        made = [getattr(looks, f.name) for f in fields(Appearance)]
        leaves = [x.detach().requires_grad_() for x in made]
        for error in errors:
            error(Appearance(*leaves)).backward()
        torch.autograd.backward(made, [leaf.grad for leaf in leaves])

    @torch.no_grad()
    def applied(self) -> Gaussians:
        """The changed scene."""
        looks = self.appearance()
        base = self.start.harmonics[..., :1, :] + (self.color / SH_C0)[..., None, :]
        return replace(
            self.start,
            opacities=looks.opacities,
            scales=self.start.scales * looks.sizes[..., None],
            harmonics=torch.cat([base, self.start.harmonics[..., 1:, :]], dim=-2),
        )
