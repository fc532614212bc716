"""E1: subnets loaf in a commonly trained network; does ST make them work, and the whole better?

Digits-300 (``digits.py``), a residual net of 3x3 blocks, all 27 subnets measured.

Usage: python -m benchmarks.compression.loafing --output docs/benchmarks/compression_e1.json
"""

from dataclasses import asdict, replace

import torch
import tyro

from hisplat_models.compression.common import CommonTraining
from hisplat_models.compression.distillation import LogitDistillation
from hisplat_models.compression.st import ST, ST_PLUS_PLUS, Stimulative

from .digits import digits
from .elastic import Experiment, Mode
from .loop import TrainingSettings
from .report import ExperimentOptions
from .tasks import Classification

LABELS = replace(ST, target="labels")
ST_PLUS_PLUS_ONCE = replace(ST_PLUS_PLUS, subnets=1, smallest_input=0.75)
"""One subnet, for the cost of ST; 43 % of 8 pixels would be 3."""
KL_MINUS = Classification(LogitDistillation("kl_minus"), normalise_task_logits=True)

EXPERIMENT = Experiment(
    name="E1: loafing of subnets, digits",
    data=digits,
    widths=(12, 24, 48),
    blocks=(3, 3, 3),
    training=TrainingSettings(epochs=60),
    modes={
        "common training": Mode(lambda net, space, seed: CommonTraining(net, Classification())),
        "ST": Mode(
            lambda net, space, seed: Stimulative(net, space, Classification(), ST, seed),
            forwards=2,
            settings=asdict(ST),
        ),
        "subnets with labels": Mode(
            lambda net, space, seed: Stimulative(net, space, Classification(), LABELS, seed),
            forwards=2,
            settings=asdict(LABELS),
        ),
        "ST++, one subnet": Mode(
            lambda net, space, seed: Stimulative(net, space, KL_MINUS, ST_PLUS_PLUS_ONCE, seed),
            space=lambda space: space.inter_stage(keep=2),
            forwards=2,
            settings={**asdict(ST_PLUS_PLUS_ONCE), "blocks kept at least": 2},
        ),
        "common training, twice as long": Mode(
            lambda net, space, seed: CommonTraining(net, Classification()), epochs=2
        ),
    },
)


def main(options: ExperimentOptions) -> None:
    """Makes all runs that are missing."""
    torch.set_num_threads(1)
    EXPERIMENT.run(options.output, options.seeds)


if __name__ == "__main__":
    main(tyro.cli(ExperimentOptions))
