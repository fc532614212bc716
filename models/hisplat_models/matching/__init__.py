"""Depth without learning: plane sweep, semi-global aggregation, occlusion, fills."""

from .match import match_views
from .prior import CANDIDATE_NAMES, EVIDENCE_NAMES, MatchingPrior
from .settings import MatchingSettings

__all__ = [
    "CANDIDATE_NAMES",
    "EVIDENCE_NAMES",
    "MatchingPrior",
    "MatchingSettings",
    "match_views",
]
