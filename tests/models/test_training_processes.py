"""Several processes compute what one would, and are needed for nothing else."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hisplat_models.training import Trainer
from hisplat_models.training.feed import (
    BatchOrder,
    Sample,
    TrainingSamples,
    collate_samples,
    epoch_orders,
)

from .training_runs import Walls, published_trainer, trainer

ROOT = Path(__file__).resolve().parents[2]
CREATE: dict[str, Callable[..., Trainer]] = {"small": trainer, "published": published_trainer}

TWO_PROCESSES = """
import sys
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[1])
from hisplat_models.training import open_engine
from tests.models import test_training_processes as t
torch.set_num_threads(1)
out = Path(sys.argv[2])
with open_engine("cpu") as engine:
    assert engine.world_size == 2
    assert engine.any(engine.rank == 1) and not engine.any(False)
    for name, create in t.CREATE.items():
        run = create(t.Walls(2, height=32, width=48), out / name, engine=engine)
        run.train_step([t.share(run)])
        if engine.rank == 0:
            state = {"gradients": t.gradients(run), "buffers": dict(run.model.named_buffers())}
            torch.save(state, out / f"{name}.pt")
"""


def share(run: Trainer) -> Sample:
    """What this process gets of the first batch."""
    samples = TrainingSamples(run.train_data, run.model.config.matching_prior, run.settings.seed)
    order = epoch_orders(run.train_data, run.settings.seed)
    (keys,) = BatchOrder(2, 2, 0, 1, order, run.engine.rank, run.engine.world_size)
    return collate_samples([samples[key] for key in keys])


def gradients(run: Trainer) -> dict[str, torch.Tensor]:
    named = run.model.named_parameters()
    return {name: p.grad for name, p in named if p.grad is not None}


def test_two_processes_compute_the_gradients_of_one(tmp_path: Path):
    pytest.importorskip("accelerate")
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    subprocess.run(
        [*launcher, "--nproc-per-node", "2", str(script), str(ROOT), str(tmp_path)],
        check=True, env=environment, cwd=ROOT, timeout=500,
    )  # fmt: skip
    for name, create in CREATE.items():
        alone = create(Walls(2, height=32, width=48), tmp_path / name)
        alone.train_step([share(alone)])
        together = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        expected = gradients(alone)
        largest = max(float(g.abs().max()) for g in expected.values())
        for key, gradient in expected.items():
            # Gradients that are zero but for rounding are compared with the network's largest.
            scale = gradient.abs().max().clamp_min(1e-3 * largest)
            difference = (together["gradients"][key] - gradient).abs().max()
            assert difference / scale < 1e-3, (name, key)
        for key, buffer in alone.model.named_buffers():
            torch.testing.assert_close(together["buffers"][key], buffer, rtol=1e-4, atol=1e-6)


BARE = """
import importlib.abc
import sys
BLOCKED = {"rich", "tyro", "plyfile", "viser", "accelerate", "lightning_fabric", "tensorboard",
           "huggingface_hub", "beartype", "gsplat", "torchvision", "lpips", "pytest"}
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ImportError(f"{name} is not here")
sys.meta_path.insert(0, Blocker())
from dataclasses import replace
from pathlib import Path
import torch
torch.set_num_threads(1)
from hisplat_app.training_run import TrainingRun
from hisplat_models.training import TrainSettings
settings = TrainSettings(steps=1, batch_size=1, workers=0, evaluate_every=1)
run = TrainingRun(Path(sys.argv[1]), examples=1, validation_examples=1, width=64, height=48,
                  targets=1, device="cpu", train=settings)
assert run.run() == 0
assert BLOCKED.isdisjoint(name.split(".")[0] for name in sys.modules)
"""


def test_one_process_trains_without_any_optional_package(tmp_path: Path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", BARE, str(tmp_path)]
    subprocess.run(command, check=True, env=environment, cwd=ROOT, timeout=300)
    assert (tmp_path / "averaged.safetensors").is_file()
