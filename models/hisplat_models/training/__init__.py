"""Losses, data feeding and the training loop."""

from .losses import LossReport, LossSettings, training_loss

__all__ = ["LossReport", "LossSettings", "training_loss"]
