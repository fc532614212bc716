"""What the first two of several views know by themselves.

The mean of several views' costs finds more matches, but each a little less exactly: further views
are seen from other sides, and no camera is known perfectly. Views between the first two were worth
up to 1.2 dB more with depths of these two alone (docs/quality.md). So where they agree with each
other their own match stands, unless all views together are sure of something clearly different.
"""

from dataclasses import replace

from jaxtyping import Bool, Float
from torch import Tensor

from ..cameras import Cameras
from .geometry import plan_sweeps
from .prior import MatchingPrior
from .settings import MatchingSettings

PER_PIXEL = (
    "inverse_depth",
    "trusted",
    "consistency_px",
    "color",
    "candidates",
    "candidate_cost",
    "evidence",
)


def with_leading_pair(
    joint: MatchingPrior, pair: MatchingPrior, cameras: Cameras, settings: MatchingSettings
) -> MatchingPrior:
    """The prior of all views, with the first two's own matches where those hold.

    Args:
        joint: Of three or more views.
        pair: Of the first two of them alone.
        cameras: Of these two, (batch, 2).
        settings: Constants.
    """
    height, width = pair.inverse_depth.shape[-2:]
    difference = (joint.inverse_depth[:, :2] - pair.inverse_depth).abs()
    moved_px = difference * _px_per_inverse_depth(cameras, height, width, settings)[..., None, None]
    close = moved_px < settings.pair_tolerance_px
    holds = pair.trusted & (close | ~joint.trusted[:, :2])
    changed = {
        name: _replaced(getattr(joint, name), getattr(pair, name), holds) for name in PER_PIXEL
    }
    return replace(joint, **changed)


def _px_per_inverse_depth(
    cameras: Cameras, height: int, width: int, settings: MatchingSettings
) -> Float[Tensor, "batch 2"]:
    """How far a match moves in the other view per unit of inverse depth."""
    scenes = [cameras[b] for b in range(cameras.batch_shape[0])]
    sweeps = [plan_sweeps(scene, height, width, settings) for scene in scenes]
    per_rho = [[sweep.step_px / sweep.rho_step for sweep in planned] for planned in sweeps]
    return cameras.near.new_tensor(per_rho) * cameras.near


def _replaced(joint: Tensor, pair: Tensor, holds: Bool[Tensor, "batch 2 height width"]) -> Tensor:
    """The maps (batch, view, [channel,] height, width) with the first two's where told."""
    mask = holds if joint.dim() == holds.dim() else holds[:, :, None]
    result = joint.clone()
    result[:, :2] = pair.where(mask, joint[:, :2])
    return result
