"""nerfstudio's decay of learning rates in plain numbers.

nerfstudio 1.1.5 stores NumPy's in its checkpoints, which PyTorch 2.6 and later refuse to load the
way nerfstudio loads them, so that no command would open a run.
"""

from dataclasses import dataclass, field

from nerfstudio.engine.schedulers import (
    ExponentialDecayScheduler,
    ExponentialDecaySchedulerConfig,
)
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


@dataclass
class DecayConfig(ExponentialDecaySchedulerConfig):
    """Configuration of an exponential decay."""

    _target: type = field(default_factory=lambda: Decay)
    """target class to instantiate"""


class Decay(ExponentialDecayScheduler):
    """The same rates as Python's floats."""

    def get_scheduler(self, optimizer: Optimizer, lr_init: float) -> LambdaLR:
        """The schedule of an optimiser with one group of parameters."""
        (factor,) = super().get_scheduler(optimizer, lr_init).lr_lambdas
        return LambdaLR(optimizer, lambda step: float(factor(step)))
