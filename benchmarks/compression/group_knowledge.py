"""E2: GKT beside ST and ST++ at three forward passes a batch each.

Shapes (``shapes.py``), a residual net of 2, 3 and 4 blocks, all 24 subnets measured. Common
training has as many forward passes in all: three times the epochs.

Usage: python -m benchmarks.compression.group_knowledge --output docs/benchmarks/compression_e2.json
"""

from dataclasses import asdict, replace

import torch
import tyro

from hisplat_models.compression.common import CommonTraining
from hisplat_models.compression.distillation import LogitDistillation
from hisplat_models.compression.gkt import GKT, GroupKnowledge, GroupKnowledgeSettings
from hisplat_models.compression.st import ST, ST_PLUS_PLUS, Stimulative, StimulativeSettings

from .elastic import Experiment, Mode
from .loop import TrainingSettings
from .report import ExperimentOptions
from .shapes import shapes
from .tasks import Classification

KL = Classification()
KL_MINUS = Classification(LogitDistillation("kl_minus"), normalise_task_logits=True)


def stimulative(settings: StimulativeSettings, task: Classification = KL, keep: int = 1) -> Mode:
    """A mode of ST or ST++ whose stages keep at least so many blocks."""
    return Mode(
        lambda net, space, seed: Stimulative(net, space, task, settings, seed),
        space=lambda space: space.inter_stage(keep),
        forwards=1 + settings.subnets,
        settings={**asdict(settings), "task": asdict(task), "blocks kept at least": keep},
    )


def group_knowledge(settings: GroupKnowledgeSettings, task: Classification = KL) -> Mode:
    """A mode of GKT."""
    return Mode(
        lambda net, space, seed: GroupKnowledge(net, space, task, settings, seed),
        forwards=1 + settings.groups * settings.loops,
        settings={**asdict(settings), "task": asdict(task)},
    )


EXPERIMENT = Experiment(
    name="E2: GKT, ST and ST++ at equal numbers of forward passes, shapes",
    data=lambda: shapes(test=1000),
    widths=(8, 16, 32),
    blocks=(2, 3, 4),
    training=TrainingSettings(epochs=8),
    modes={
        "common training, three times as long": Mode(
            lambda net, space, seed: CommonTraining(net, KL), epochs=3
        ),
        "ST, two subnets": stimulative(replace(ST, subnets=2)),
        "ST++, two subnets": stimulative(replace(ST_PLUS_PLUS, subnets=2), KL_MINUS, keep=2),
        "GKT": group_knowledge(GKT),
        "GKT, taught by the network": group_knowledge(replace(GKT, teacher="network")),
    },
)


def main(options: ExperimentOptions) -> None:
    """Makes all runs that are missing."""
    torch.set_num_threads(1)
    EXPERIMENT.run(options.output, options.seeds)


if __name__ == "__main__":
    main(tyro.cli(ExperimentOptions))
