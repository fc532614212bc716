"""Hand-made matching of the views of a batch of scenes."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..cameras import Cameras
from .cpu_backend import match_scene
from .geometry import Sweep, plan_sweeps
from .prior import MatchingPrior
from .settings import MatchingSettings

_DEFAULT = MatchingSettings()


@torch.no_grad()
def match_views(
    images: Float[Tensor, "batch view 3 height width"],
    cameras: Cameras,
    settings: MatchingSettings = _DEFAULT,
) -> MatchingPrior:
    """Classical depth of every view from the others, with candidates and evidence.

    Args:
        images: RGB in [0, 1].
        cameras: (batch, view); near and far bound the depth of each view.
        settings: Constants of the method.

    Raises:
        ValueError: for fewer than two views, sides that are not multiples of 8, or an empty
            depth range.
    """
    _, views, _, height, width = images.shape
    if views < 2:
        raise ValueError(f"Expected at least two views to match, got {views}.")
    if height % 8 or width % 8:
        raise ValueError(
            f"Expected image sides that are multiples of 8, got {height}x{width}; "
            "pad or crop the photos first."
        )
    if not ((cameras.near > 0) & (cameras.near < cameras.far)).all():
        raise ValueError("Expected 0 < near < far for every camera.")
    scenes, step_px = [], []
    for scene_images, scene_cameras in zip(images, _scenes(cameras), strict=True):
        sweeps = plan_sweeps(scene_cameras, height, width, settings)
        threads = min(torch.get_num_threads(), views)
        maps = match_scene(scene_images.detach().float().cpu().numpy(), sweeps, settings, threads)
        scenes.append(
            [
                _named(m, s, c)
                for m, s, c in zip(maps, sweeps, scene_cameras.near.tolist(), strict=True)
            ]
        )
        step_px.append(float(np.mean([s.step_px for s in sweeps])))

    def stacked(name: str) -> Tensor:
        return torch.stack([torch.stack([view[name] for view in scene]) for scene in scenes]).to(
            images.device
        )

    return MatchingPrior(
        **{name: stacked(name) for name in scenes[0][0]},
        plane_step_px=torch.tensor(step_px, device=images.device),
    )


def _scenes(cameras: Cameras) -> list[Cameras]:
    return [cameras[b] for b in range(cameras.batch_shape[0])]


def _named(maps: dict[str, np.ndarray], sweep: Sweep, near: float) -> dict[str, Tensor]:
    """Fields of MatchingPrior for one view."""

    def inverse_depth(planes: np.ndarray) -> Tensor:
        rho = (sweep.rho_first + sweep.rho_step * planes.astype(np.float64)) / near
        return torch.from_numpy(rho.astype(np.float32))

    return {
        "inverse_depth": inverse_depth(maps["choice"]),
        "trusted": torch.from_numpy(maps["trusted"]),
        "consistency_px": torch.from_numpy(maps["error"]),
        "color": torch.from_numpy(np.ascontiguousarray(maps["color"])),
        "candidates": inverse_depth(maps["candidates"]),
        "candidate_cost": torch.from_numpy(maps["candidate_cost"]),
        "evidence": torch.from_numpy(maps["evidence"]),
        "coarse_cost": torch.from_numpy(np.ascontiguousarray(maps["coarse_cost"])),
    }
