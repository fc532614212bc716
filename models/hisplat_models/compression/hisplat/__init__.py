"""Compression of HiSplat itself: what may be left out, what it teaches, how it is trained."""

from .channels import channel_groups
from .depths import depth_space
from .parts import BACKBONE, Part, parts_of

__all__ = ["BACKBONE", "Part", "channel_groups", "depth_space", "parts_of"]
