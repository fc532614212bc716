"""HiSplat as compression methods see it: losses, what is taught, and training by each method."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hisplat_models.compression.distillation import detached
from hisplat_models.compression.gkt import GroupKnowledge
from hisplat_models.compression.hisplat import channel_groups, depth_space
from hisplat_models.compression.hisplat.costs import part_budgets
from hisplat_models.compression.hisplat.task import DistillationWeights, Reconstruction
from hisplat_models.compression.hisplat.trainer import CompressionTrainer, CreateMethod, Method
from hisplat_models.compression.s2h import S2HPruner
from hisplat_models.compression.st import Stimulative
from hisplat_models.compression.stp import STP, STPSettings
from hisplat_models.compression.subnet import Subnet
from hisplat_models.network import HiSplat
from hisplat_models.rendering import CpuRenderer
from hisplat_models.training import LossSettings, TrainSettings
from hisplat_models.training.feed import Sample, SampleKey, TrainingSamples
from hisplat_models.training.losses import PUBLISHED_LOSSES, training_loss
from tests.models.compression.small_hisplat import KINDS, create
from tests.models.training_runs import SETTINGS, Walls, logged

SIZE = (32, 48)
DEPTH_OF_KIND = {"hisplat-small": {"depth.planes", "depth.candidates"}, "hisplat": {"depth.planes"}}


@pytest.fixture(scope="module")
def walls() -> Walls:
    return Walls(2, height=SIZE[0], width=SIZE[1])


def sample(walls: Walls, network: HiSplat) -> Sample:
    samples = TrainingSamples(walls, network.config.matching_prior, seed=0, augment="none")
    return samples[SampleKey(0, 0)]


def task(network: HiSplat, **weights: float) -> Reconstruction:
    losses = LossSettings() if network.config.matching_prior else PUBLISHED_LOSSES
    distillation = replace(DistillationWeights(), **weights)  # pyright: ignore[reportArgumentType]
    return Reconstruction(losses, CpuRenderer(), network.size_multiple, distillation)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_network_is_at_no_distance_from_itself_and_at_some_from_its_part(kind: str, walls: Walls):
    network = create(KINDS[kind])
    work, batch = task(network), sample(walls, network)
    with torch.no_grad():
        teacher = detached(work.predict(network, batch).knowledge)
        again = work.predict(network, batch).knowledge
        with Subnet(skipped=frozenset({"transformer.layers.1"})).active(network, []):
            part = work.predict(network, batch).knowledge
    assert DEPTH_OF_KIND[kind] == {name for name in teacher if name.startswith("depth.")}
    assert {name.partition(".")[0] for name in teacher} == {
        "depth",
        "disparity",
        "feature",
        "raw",
        "opacity",
        "render",
    }
    assert work.distillation_loss(teacher, again) < 1e-6
    assert work.distillation_loss(teacher, part) > 1e-4


def test_the_loss_of_the_task_is_that_of_training(walls: Walls):
    network = create(KINDS["hisplat-small"])
    work, batch = task(network), sample(walls, network)
    work.losses = replace(work.losses, random_background=False)
    with torch.no_grad():
        prediction = work.predict(network, batch)
        expected = training_loss(
            prediction.output, batch.example, work.renderer, work.losses, torch.zeros(3)
        ).total
        assert work.task_loss(prediction, batch) == expected


def test_every_kind_of_knowledge_teaches(walls: Walls):
    network = create(KINDS["hisplat-small"])
    batch = sample(walls, network)
    nothing = dict.fromkeys(("depth", "disparity", "feature", "raw", "opacity", "render"), 0.0)
    for kind in nothing:
        work = task(network, **{**nothing, kind: 1.0})
        teacher = {
            name: values + 0.1 * torch.randn(values.shape)
            for name, values in detached(work.predict(network, batch).knowledge).items()
        }
        student = work.predict(network, batch)
        network.zero_grad()
        work.distillation_loss(teacher, student.knowledge).backward()
        assert any(p.grad is not None and p.grad.any() for p in network.parameters()), kind


def test_pictures_are_drawn_in_every_so_many_steps(walls: Walls):
    network = create(KINDS["hisplat-small"])
    work, batch = task(network, render_every=3), sample(walls, network)
    drawn = []
    for work.step in range(4):
        with torch.no_grad():
            drawn.append("render" in work.predict(network, batch).knowledge)
    assert drawn == [True, False, False, True]


def test_smaller_inputs_are_a_new_batch_that_the_network_takes(walls: Walls):
    network = create(KINDS["hisplat-small"])
    work, batch = task(network), sample(walls, network)
    before = batch.example.context_images.clone()
    small = work.resized(batch, 0.5)
    assert small.example.context_images.shape[-2:] == (16, 32)  # multiples of 16
    assert torch.equal(batch.example.context_images, before)
    assert work.resized(batch, 1.0) is batch
    with torch.no_grad():
        teacher = detached(work.predict(network, batch).knowledge)
        student = work.predict(network, small).knowledge
        assert torch.isfinite(work.distillation_loss(teacher, student))


def method(name: str, steps: int) -> CreateMethod:
    def create_method(network: HiSplat, work: Reconstruction) -> Method:
        parts = ("cnn", "transformer")
        groups, space = channel_groups(network, parts), depth_space(network, parts)
        if name == "st":
            return Method(Stimulative(network, space, work), groups)
        if name == "gkt":
            return Method(GroupKnowledge(network, space, work), groups)
        budgets = part_budgets(network, groups, {parts: 0.6}, {}, SIZE)
        if name == "s2h":
            return Method(S2HPruner(network, groups, work, budgets), groups)
        settings = STPSettings(pool_size=2)
        return Method(STP(network, groups, work, budgets, steps, space, settings), groups)

    return create_method


def compression(
    name: str, walls: Walls, run_dir: Path, settings: TrainSettings = SETTINGS
) -> CompressionTrainer:
    torch.manual_seed(0)
    return CompressionTrainer(
        create(KINDS["hisplat-small"]),
        method(name, settings.steps),
        walls,
        Walls(1, height=SIZE[0], width=SIZE[1]),
        settings,
        run_dir,
        extra_learning_rate=0.5,
    )


@pytest.mark.parametrize("name", ["st", "gkt", "s2h", "stp"])
def test_a_resumed_compression_makes_the_same_steps(name: str, walls: Walls, tmp_path: Path):
    settings = replace(SETTINGS, steps=3)
    straight = compression(name, walls, tmp_path / "straight", settings)
    straight.run()
    stopped = compression(
        name, walls, tmp_path / "stopped", replace(settings, stop_after_seconds=0.0)
    )
    stopped.run()
    assert stopped.step == 1
    resumed = compression(name, walls, tmp_path / "stopped", settings)
    assert resumed.resume()
    resumed.run()
    assert logged(tmp_path / "straight") == logged(tmp_path / "stopped")
    for key, value in straight.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value), key
    assert resumed.result.skipped == straight.result.skipped
    assert resumed.result.kept.keys() == straight.result.kept.keys()


def test_a_training_run_is_not_taken_up_as_a_compression(walls: Walls, tmp_path: Path):
    run = compression("st", walls, tmp_path)
    run.more_state = dict  # as another kind of run leaves it
    run.save()
    with pytest.raises(ValueError, match="no compression"):
        compression("st", walls, tmp_path).resume()


@pytest.mark.parametrize("change", [{"micro_batches": 2}, {"recompute": True}])
def test_what_steps_of_several_networks_cannot_do_is_refused(
    change: dict[str, int], walls: Walls, tmp_path: Path
):
    settings = replace(SETTINGS, **change)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="without --micro-batches"):
        compression("st", walls, tmp_path, settings)
