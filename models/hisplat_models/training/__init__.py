"""Losses, data feeding and the training loop."""

from .engine import Engine, open_engine
from .loop import Trainer, TrainProgress
from .losses import LossReport, LossSettings, training_loss
from .settings import TRAIN_PRESETS, TrainSettings

__all__ = [
    "TRAIN_PRESETS",
    "Engine",
    "LossReport",
    "LossSettings",
    "TrainProgress",
    "TrainSettings",
    "Trainer",
    "open_engine",
    "training_loss",
]
