"""What hand-made matching knows about every pixel."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

CANDIDATE_NAMES = ("choice", "first_pass", "second_pass", "runner_up", "fill", "background")
EVIDENCE_NAMES = (
    "trusted",  # 1 where a left-right check was passed
    "consistency",  # exp(-(left-right error / 1.5 px)^2), 0 where there is none
    "sharpness",  # 1 - best / second-best local minimum of the aggregated curve
    "mismatch",  # aggregated cost at the choice
    "second_pass",  # 1 where the occlusion-aware pass made the choice
    "trusted_distance",  # 1 - exp(-distance to the nearest trusted pixel / 16 px)
    "inside",  # 1 where the choice falls into another view's frame
    "occluded",  # 1 where another view's trusted surface hides the choice
)


@dataclass(frozen=True)
class MatchingPrior:
    """Classical depth of each view with the evidence for it; float32, without gradient.

    Inverse depths are in 1 / world unit. Costs are squashed into [0, 1], 1 is bad or unknown.

    Attributes:
        inverse_depth: The classical choice, filled everywhere, > 0.
        trusted: True where the choice passed a left-right check.
        consistency_px: Left-right error of the choice, clamped; the clamp value where none.
        color: Mean of the photos where trusted, the view's own photo elsewhere; a dark frame around
            the photo is painted over.
        candidates: Inverse depths to choose from, see CANDIDATE_NAMES.
        candidate_cost: Aggregated cost at each candidate.
        evidence: See EVIDENCE_NAMES; each in [0, 1].
        coarse_cost: Aggregated cost, minimum over 8x8 pixels and over the sweep's planes nearest to
            each of these planes, which are uniform in inverse depth from 1 / far to 1 / near.
        plane_step_px: Displacement in the other view between neighbouring planes of the sweep.
    """

    inverse_depth: Float[Tensor, "batch view height width"]
    trusted: Bool[Tensor, "batch view height width"]
    consistency_px: Float[Tensor, "batch view height width"]
    color: Float[Tensor, "batch view 3 height width"]
    candidates: Float[Tensor, "batch view candidate height width"]
    candidate_cost: Float[Tensor, "batch view candidate height width"]
    evidence: Float[Tensor, "batch view evidence height width"]
    coarse_cost: Float[Tensor, "batch view plane height_8 width_8"]
    plane_step_px: Float[Tensor, "batch"]
