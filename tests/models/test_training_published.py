"""Training as published: its loss and schedule; what saves memory changes no gradient."""

import dataclasses
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hisplat_models import lpips
from hisplat_models.checkpoints import load_model
from hisplat_models.example import Example, collate
from hisplat_models.network import HiSplat
from hisplat_models.training import TRAIN_PRESETS, Trainer, TrainProgress
from hisplat_models.training.feed import (
    Sample,
    SampleKey,
    TrainingSamples,
    augmented,
    collate_samples,
)
from hisplat_models.training.losses import PUBLISHED_LOSSES, training_loss
from hisplat_models.training.schedule import learning_rate_share

from .training_runs import (
    PUBLISHED_SETTINGS,
    SETTINGS,
    TINY_PUBLISHED,
    Walls,
    logged,
    published_trainer,
    trainer,
)


@pytest.fixture(scope="module")
def walls() -> Walls:
    return Walls(2, targets=2, height=32, width=48)


def whole_batch(run: Trainer, walls: Walls) -> list[Sample]:
    """All examples as they are, one a part."""
    samples = TrainingSamples(walls, run.model.config.matching_prior, seed=0)
    return [samples[SampleKey(0, index)] for index in range(len(walls))]


def gradients(run: Trainer) -> dict[str, Tensor]:
    named = run.model.named_parameters()
    return {name: p.grad.clone() for name, p in named if p.grad is not None}


def assert_same_gradients(run: Trainer, other: Trainer, tolerance: float = 1e-3) -> None:
    """Equal up to the rounding of sums in another order, relative to each tensor's largest."""
    ours, theirs = gradients(run), gradients(other)
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        scale = gradient.abs().max().clamp_min(1e-6)
        assert ((gradient - theirs[name]).abs().max() / scale) < tolerance, name


def test_published_settings_are_the_published_constants():
    settings = TRAIN_PRESETS["hisplat"]
    assert (settings.steps, settings.batch_size, settings.clip_norm) == (300_001, 16, 0.5)
    assert (settings.learning_rate, settings.weight_decay) == (2e-4, 0)
    assert (settings.ema_decay, settings.augment) == (None, "mirror")
    losses = settings.losses
    assert (losses.mse, losses.lpips, losses.levels) == (1.0, 0.05, (1.0, 1.0, 1.0))


def test_one_cycle_is_that_of_torch():
    settings = dataclasses.replace(TRAIN_PRESETS["hisplat"], steps=290)
    parameter = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.Adam([parameter], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 2e-4, total_steps=300, pct_start=0.01, cycle_momentum=False
    )
    for step in range(290):
        rate = settings.learning_rate * learning_rate_share(settings, step)
        assert rate == pytest.approx(schedule.get_last_lr()[0], rel=1e-6, abs=1e-12)
        optimizer.step()
        schedule.step()


def test_published_loss_sums_three_stages_of_all_targets(walls: Walls):
    torch.manual_seed(0)
    model = HiSplat(TINY_PUBLISHED)
    batch = collate([walls[0], walls[1]])
    output = model(batch.context_images, batch.context_cameras)
    renderer = model.create_renderer("cpu")

    def distance(images: Tensor, targets: Tensor) -> Tensor:
        return (images - targets).abs().flatten(1).amax(1)

    black = torch.zeros(3)
    report = training_loss(output, batch, renderer, PUBLISHED_LOSSES, black, distance)
    expected = torch.zeros(())
    for gaussians in output.accumulated:
        render = renderer(gaussians, batch.target_cameras, (32, 48)).color
        expected = expected + (render - batch.target_images).square().mean()
        both = render.flatten(0, 1), batch.target_images.flatten(0, 1)
        expected = expected + 0.05 * distance(*both).mean()
    torch.testing.assert_close(report.total, expected)


@pytest.fixture
def no_lpips(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever packages are installed, there are no VGG weights."""
    monkeypatch.setenv(lpips.WEIGHTS_VARIABLE, str(tmp_path / "none.pth"))


@pytest.mark.usefixtures("no_lpips")
def test_a_run_says_that_lpips_was_left_out(
    walls: Walls, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    run = published_trainer(walls, tmp_path, dataclasses.replace(PUBLISHED_SETTINGS, steps=1))
    run.run()
    assert [r.message for r in caplog.records if "without the LPIPS term" in r.message]
    assert json.loads((tmp_path / "card.json").read_text())["lpips"].startswith("left out: ")
    assert not logged(tmp_path, "lpips_2")


@pytest.mark.usefixtures("no_lpips")
def test_required_lpips_is_not_left_out(walls: Walls, tmp_path: Path):
    settings = dataclasses.replace(PUBLISHED_SETTINGS, perceptual="required")
    with pytest.raises((ImportError, FileNotFoundError), match="LPIPS needs"):
        published_trainer(walls, tmp_path, settings)


def numbers_kept(step: Callable[[], object]) -> int:
    """How many numbers a training step keeps for its backward pass outside recomputed parts."""
    counts = []

    def pack(tensor: Tensor) -> Tensor:
        counts.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    return sum(counts)


@pytest.mark.parametrize("create", [trainer, published_trainer])
def test_recomputed_activations_give_the_same_gradients_with_less_memory(
    create: Callable[..., Trainer], walls: Walls, tmp_path: Path
):
    kept = {}
    runs = []
    for recompute in (False, True):
        run = create(walls, tmp_path)
        run.settings = dataclasses.replace(run.settings, recompute=recompute)
        kept[recompute] = numbers_kept(lambda run=run: run.train_step(whole_batch(run, walls)[:1]))
        runs.append(run)
        assert "forward" not in vars(run.model.stages[0])
    assert_same_gradients(*runs, tolerance=1e-5)
    assert kept[True] < 0.5 * kept[False]


def test_micro_batches_give_the_gradients_of_the_whole_batch(walls: Walls, tmp_path: Path):
    settings = dataclasses.replace(SETTINGS, clip_norm=1e9)
    parts, whole = trainer(walls, tmp_path, settings), trainer(walls, tmp_path, settings)
    parts.train_step(whole_batch(parts, walls))
    whole.train_step([collate_samples(whole_batch(whole, walls))])
    assert_same_gradients(parts, whole)


def test_a_run_in_micro_batches_takes_as_many_steps(walls: Walls, tmp_path: Path):
    settings = dataclasses.replace(SETTINGS, steps=2, micro_batches=2)
    trainer(walls, tmp_path, settings).run()
    assert sorted(logged(tmp_path)) == [1, 2]


def test_the_vit_stays_as_it_is(walls: Walls, tmp_path: Path):
    run = published_trainer(walls, tmp_path)
    assert run.model.monocular is not None
    vit = run.model.monocular.vit
    before = {name: tensor.clone() for name, tensor in vit.state_dict().items()}
    run.train_step(whole_batch(run, walls)[:1])
    assert not vit.training
    assert run.model.monocular.decoder.training
    for name, tensor in vit.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    trained = {id(p) for group in run.optimizer.param_groups for p in group["params"]}
    assert trained.isdisjoint(id(p) for p in vit.parameters())


def test_without_an_average_the_weights_themselves_are_kept(walls: Walls, tmp_path: Path):
    run = published_trainer(walls, tmp_path, dataclasses.replace(PUBLISHED_SETTINGS, steps=1))
    run.run()
    assert not (tmp_path / "averaged.safetensors").exists()
    loaded = load_model(tmp_path / "weights.safetensors").state_dict()
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(loaded[name], tensor), name
    settings = dataclasses.replace(PUBLISHED_SETTINGS, ema_decay=0.9)
    with pytest.raises(ValueError, match="disagree on averaging"):
        published_trainer(walls, tmp_path, settings).resume()


def test_a_run_of_another_network_is_not_resumed(walls: Walls, tmp_path: Path):
    run = published_trainer(walls, tmp_path, dataclasses.replace(PUBLISHED_SETTINGS, steps=1))
    run.save()
    config = dataclasses.replace(TINY_PUBLISHED, error_aware=False)
    other = Trainer(HiSplat(config), walls, None, PUBLISHED_SETTINGS, tmp_path)
    with pytest.raises(ValueError, match="trains another network"):
        other.resume()


def test_mirroring_alone_keeps_order_and_colours(walls: Walls):
    results = {
        tuple(torch.equal(views, changed.context_images) for views in _both(walls[0]))
        for seed in range(8)
        if (changed := augmented(walls[0], torch.Generator().manual_seed(seed), mirror_only=True))
    }
    assert results == {(True, False), (False, True)}


def _both(example: Example) -> tuple[Tensor, Tensor]:
    return example.context_images, example.context_images.flip(-1)


class Curriculum(Walls):
    """A dataset with its own order whose examples know when they were asked for."""

    def __init__(self):
        super().__init__(4, height=32, width=48)
        self.asked: list[tuple[int, int, int]] = []

    def example(self, index: int, *, seed: int, step: int) -> Example:
        self.asked.append((index, seed, step))
        return self[index]

    def epoch_order(self, seed: int, epoch: int) -> list[int]:
        return [3, 2, 1, 0] if epoch == 0 else [0, 1, 2, 3]


def test_datasets_are_asked_in_their_order_at_each_step(tmp_path: Path):
    asked = []
    for parts in ((3,), (1, 3)):
        dataset = Curriculum()
        for steps in parts:
            run = trainer(
                dataset, tmp_path / str(parts), dataclasses.replace(SETTINGS, steps=steps)
            )
            run.resume()
            run.run()
        asked.append(dataset.asked)
    assert asked[0] == asked[1]
    assert [(index, step) for index, _, step in asked[0]] == [
        (3, 0), (2, 0), (1, 1), (0, 1), (0, 2), (1, 2),
    ]  # fmt: skip
    assert len({seed for _, seed, _ in asked[0]}) == 6


def test_sigterm_ends_a_run_with_its_state_kept(walls: Walls, tmp_path: Path):
    before = signal.getsignal(signal.SIGTERM)
    settings = dataclasses.replace(PUBLISHED_SETTINGS, steps=2)
    whole = published_trainer(walls, tmp_path / "whole", settings)
    whole.run()
    assert not whole.terminated
    stopped = published_trainer(walls, tmp_path / "stopped", settings)

    def stop(progress: TrainProgress) -> None:
        if progress.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    stopped.run(stop)
    assert (stopped.step, stopped.terminated) == (1, True)
    assert signal.getsignal(signal.SIGTERM) == before
    again = published_trainer(walls, tmp_path / "stopped", settings)
    assert again.resume()
    again.run()
    assert logged(tmp_path / "stopped") == logged(tmp_path / "whole")


def test_the_card_tells_how_the_weights_were_made(walls: Walls, tmp_path: Path):
    for steps in (2, 4):
        settings = dataclasses.replace(
            PUBLISHED_SETTINGS, steps=steps, evaluate_every=2, batch_size=1
        )
        run = published_trainer(walls, tmp_path, settings, facts={"data": "walls"})
        run.resume()
        run.run()
    card = json.loads((tmp_path / "card.json").read_text())
    assert (card["data"], card["step"], card["settings"]["seed"]) == ("walls", 4, 111123)
    assert card["network"]["cnn_widths"] == [8, 8, 16]
    assert card["hours"] > 0
    assert [session["first_step"] for session in card["sessions"]] == [0, 2]
    assert all({"command", "commit", "torch", "device"} <= set(s) for s in card["sessions"])
    assert [point["step"] for point in card["curve"]] == [2, 4]
    losses = logged(tmp_path)
    mean = sum(losses[step] for step in (3, 4)) / 2
    assert card["curve"][1]["loss"] == pytest.approx(mean)
    assert card["curve"][1]["validation_psnr"] > 0
