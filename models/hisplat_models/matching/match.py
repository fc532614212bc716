"""Hand-made matching of the views of a batch of scenes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..cameras import Cameras
from .cpu_backend import match_scene
from .doubling import match_large_scene
from .frames import without_frames
from .geometry import Sweep, plan_sweeps
from .ground import with_ground
from .leading_pair import with_leading_pair
from .prior import EVIDENCE_NAMES, MatchingPrior
from .settings import MatchingSettings
from .torch_backend import match_scene_torch

_DEFAULT = MatchingSettings()
_VOLUME_AT_ONCE = 1 << 28  # pixels times planes in the torch backend's hands; about 10 bytes each


@torch.no_grad()
def match_views(
    images: Float[Tensor, "batch view 3 height width"],
    cameras: Cameras,
    settings: MatchingSettings = _DEFAULT,
    backend: Literal["auto", "compiled", "torch"] = "auto",
) -> MatchingPrior:
    """Classical depth of every view from the others, with candidates and evidence.

    Of more than two views the first two are matched by themselves as well, and keep what they
    agree on (``leading_pair``).

    Args:
        images: RGB in [0, 1].
        cameras: (batch, view); near and far bound the depth of each view.
        settings: Constants of the method.
        backend: ``compiled`` kernels on the CPU, or ``torch`` operations on the images' device;
            ``auto`` takes the first for images on the CPU and the second for any others.

    Raises:
        ValueError: for fewer than two views, sides that are not multiples of 8, an empty depth
            range, or an unknown backend.
    """
    _, views, _, height, width = images.shape
    if views < 2:
        raise ValueError(f"Expected at least two views to match, got {views}.")
    if height % 8 or width % 8:
        raise ValueError(
            f"Expected image sides that are multiples of 8, got {height}x{width}; "
            "pad or crop the photos first."
        )
    if backend not in ("auto", "compiled", "torch"):
        raise ValueError(f"Expected the backend auto, compiled or torch, got {backend!r}.")
    if not ((cameras.near > 0) & (cameras.near < cameras.far)).all():
        raise ValueError("Expected 0 < near < far for every camera.")
    if backend == "auto":
        backend = "compiled" if images.device.type == "cpu" else "torch"
    prior = _matched(images, cameras, settings, backend)
    if views == 2:
        return prior
    pair = _matched(images[:, :2], cameras[:, :2], settings, backend)
    return with_leading_pair(prior, pair, cameras[:, :2], settings)


def _matched(
    images: Float[Tensor, "batch view 3 height width"],
    cameras: Cameras,
    settings: MatchingSettings,
    backend: Literal["compiled", "torch"],
) -> MatchingPrior:
    """Every view matched with all others."""
    height, width = images.shape[-2:]
    match = {"compiled": _match_compiled, "torch": _match_torch}[backend]
    planned = settings
    if backend == "compiled" and _is_large(images, settings):
        match = _match_large
        planned = replace(settings, plane_spacing_px=2 * settings.plane_spacing_px)
    sweeps = [plan_sweeps(scene, height, width, planned) for scene in _scenes(cameras)]
    photos, framed = without_frames(images.detach().float())
    scenes = [
        [_named(*view) for view in zip(maps, planned, near, strict=True)]
        for maps, planned, near in zip(
            match(photos, sweeps, settings), sweeps, cameras.near.tolist(), strict=True
        )
    ]

    def stacked(name: str) -> Tensor:
        return torch.stack([torch.stack([view[name] for view in scene]) for scene in scenes])

    step_px = [float(np.mean([s.step_px for s in planned])) for planned in sweeps]
    prior = {name: stacked(name).to(images.device) for name in scenes[0][0]}
    prior = MatchingPrior(**prior, plane_step_px=torch.tensor(step_px, device=images.device))
    prior, ground = with_ground(prior, photos, cameras)
    return _without_trust(prior, framed | ground, photos, settings)


def _without_trust(
    prior: MatchingPrior,
    pixels: Bool[Tensor, "batch view height width"],
    photos: Float[Tensor, "batch view 3 height width"],
    settings: MatchingSettings,
) -> MatchingPrior:
    """The prior with some pixels, whose match means nothing, no longer trusted."""
    evidence = prior.evidence.clone()
    for name in ("trusted", "consistency", "second_pass"):
        evidence[:, :, EVIDENCE_NAMES.index(name)].masked_fill_(pixels, 0.0)
    return replace(
        prior,
        trusted=prior.trusted & ~pixels,
        consistency_px=prior.consistency_px.masked_fill(pixels, settings.max_consistency_px),
        color=photos.where(pixels[:, :, None], prior.color),
        evidence=evidence,
    )


def _is_large(images: Tensor, settings: MatchingSettings) -> bool:
    """Whether photos are searched at half their size."""
    height, width = images.shape[-2:]
    return max(height, width) > settings.whole_search_px and height % 16 == width % 16 == 0


def _scenes(cameras: Cameras) -> list[Cameras]:
    return [cameras[b] for b in range(cameras.batch_shape[0])]


def _match_compiled(
    images: Tensor,
    sweeps: list[list[Sweep]],
    settings: MatchingSettings,
    match: Callable[..., list[dict[str, np.ndarray]]] = match_scene,
) -> Iterator[list[dict[str, Tensor]]]:
    """Maps of the views of each scene, one scene after the other."""
    threads = min(torch.get_num_threads(), images.shape[1])
    for scene, planned in zip(images.cpu().numpy(), sweeps, strict=True):
        for_views = match(scene, planned, settings, threads)
        yield [
            {name: torch.from_numpy(np.ascontiguousarray(m)) for name, m in maps.items()}
            for maps in for_views
        ]


def _match_large(
    images: Tensor, sweeps: list[list[Sweep]], settings: MatchingSettings
) -> Iterator[list[dict[str, Tensor]]]:
    """The same for large photos."""
    return _match_compiled(images, sweeps, settings, match_large_scene)


def _match_torch(
    images: Tensor, sweeps: list[list[Sweep]], settings: MatchingSettings
) -> Iterator[list[dict[str, Tensor]]]:
    """Maps of the views of each scene, as many scenes at a time as memory should hold."""
    _, views, _, height, width = images.shape
    planes = max(sweep.planes for planned in sweeps for sweep in planned)
    group = max(1, _VOLUME_AT_ONCE // (views * height * width * planes))
    for start in range(0, len(sweeps), group):
        together = [
            _moved(sweep, scene * views)
            for scene, planned in enumerate(sweeps[start : start + group])
            for sweep in planned
        ]
        maps = match_scene_torch(images[start : start + group].flatten(0, 1), together, settings)
        for first in range(0, len(maps), views):
            yield maps[first : first + views]


def _moved(sweep: Sweep, first_view: int) -> Sweep:
    """The sweep of a scene whose views start at ``first_view`` among those of several scenes."""
    transfers = tuple(replace(t, other=t.other + first_view) for t in sweep.transfers)
    return replace(sweep, transfers=transfers)


def _named(maps: dict[str, Tensor], sweep: Sweep, near: float) -> dict[str, Tensor]:
    """Fields of MatchingPrior for one view."""

    def inverse_depth(planes: Tensor) -> Tensor:
        return ((sweep.rho_first + sweep.rho_step * planes.double()) / near).float()

    return {
        "inverse_depth": inverse_depth(maps["choice"]),
        "trusted": maps["trusted"],
        "consistency_px": maps["error"],
        "color": maps["color"],
        "candidates": inverse_depth(maps["candidates"]),
        "candidate_cost": maps["candidate_cost"],
        "evidence": maps["evidence"],
        "coarse_cost": maps["coarse_cost"],
    }
