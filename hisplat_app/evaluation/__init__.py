"""Measures scenes on real photos, beside classical baselines drawn by the same renderer."""

from .command import Evaluate

__all__ = ["Evaluate"]
