"""The training loop: it learns, resumes to the bit, and shares batches without changing them."""

import dataclasses
from pathlib import Path

import pytest
import torch

from hisplat_models.checkpoints import CheckpointError, load_model, save_model
from hisplat_models.example import Example, collate
from hisplat_models.gaussian_head import HARMONICS_START
from hisplat_models.network import HiSplat
from hisplat_models.rendering import CpuRenderer
from hisplat_models.stage import Stage
from hisplat_models.training.feed import (
    BatchOrder,
    SampleKey,
    TrainingSamples,
    augmented,
    collate_samples,
    epoch_orders,
    mirrored,
    with_halved_photos,
)
from hisplat_models.training.loop import TrainProgress
from hisplat_models.training.losses import LossSettings, channel_gains, training_loss

from .training_runs import (
    PUBLISHED_SETTINGS,
    SETTINGS,
    TINY,
    Walls,
    logged,
    published_trainer,
    trainer,
)


@pytest.fixture(scope="module")
def walls() -> Walls:
    return Walls(4)


def test_training_on_one_scene_lowers_the_loss(tmp_path: Path):
    settings = dataclasses.replace(
        SETTINGS, steps=30, batch_size=1, augment="none", evaluate_every=1000
    )
    one = Walls(1)
    run = trainer(one, tmp_path, settings)
    before = run.evaluate()
    run.run()
    run.averaged_model.load_state_dict(run.model.state_dict())
    after = run.evaluate()
    assert before is not None
    assert after is not None
    assert after["loss"] < 0.97 * before["loss"]


def test_a_resumed_run_continues_exactly(walls: Walls, tmp_path: Path):
    whole = trainer(walls, tmp_path / "whole")
    whole.run()
    first = trainer(walls, tmp_path / "parts")

    def interrupt(progress: TrainProgress) -> None:
        if progress.step == 3:
            first.save()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.run(interrupt)
    second = trainer(walls, tmp_path / "parts")
    assert second.resume()
    assert second.step == 3
    second.run()
    assert logged(tmp_path / "parts") == logged(tmp_path / "whole")
    for a, b in zip(
        whole.averaged_model.parameters(), second.averaged_model.parameters(), strict=True
    ):
        assert torch.equal(a, b)


def test_a_run_leaves_weights_that_load(walls: Walls, tmp_path: Path):
    run = trainer(walls, tmp_path, dataclasses.replace(SETTINGS, steps=2))
    run.run()
    loaded = load_model(tmp_path / "averaged.safetensors")
    assert loaded.config == TINY
    for name, tensor in run.averaged_model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_bf16_stays_close_to_fp32(walls: Walls, tmp_path: Path):
    values = {}
    for precision in ("fp32", "bf16"):
        settings = dataclasses.replace(SETTINGS, steps=2, precision=precision)
        trainer(walls, tmp_path / precision, settings).run()
        values[precision] = logged(tmp_path / precision)
    assert values["bf16"][1] == pytest.approx(values["fp32"][1], rel=0.02)
    assert values["bf16"] != values["fp32"]


def test_every_epoch_visits_every_example_once():
    order = list(BatchOrder(6, 2, first_step=0, last_step=6, order=epoch_orders(Walls(6), 3)))
    epochs = [[key for batch in half for key in batch] for half in (order[:3], order[3:])]
    for number, epoch in enumerate(epochs):
        assert sorted(key.index for key in epoch) == list(range(6))
        assert {key.epoch for key in epoch} == {number}
    assert [key.index for key in epochs[0]] != [key.index for key in epochs[1]]
    assert [{key.step for key in batch} for batch in order] == [{step} for step in range(6)]


def test_processes_share_a_batch_and_resume_where_it_stopped():
    permutation = epoch_orders(Walls(10), 1)
    whole = list(BatchOrder(10, 4, 0, 5, permutation))
    shares = [list(BatchOrder(10, 4, 2, 5, permutation, rank=r, world_size=2)) for r in range(2)]
    assert [a + b for a, b in zip(*shares, strict=True)] == whole[2:]
    parts = list(BatchOrder(10, 4, 2, 5, permutation, rank=1, world_size=2, micro_batches=2))
    assert [key for part in parts for key in part] == [key for share in shares[1] for key in share]
    assert {len(part) for part in parts} == {1}
    with pytest.raises(ValueError, match="3 processes can share"):
        BatchOrder(10, 4, 0, 5, permutation, rank=0, world_size=3)


def test_mirroring_twice_is_the_identity(walls: Walls):
    original = walls[0]
    twice = mirrored(mirrored(original))
    assert torch.equal(twice.context_images, original.context_images)
    torch.testing.assert_close(
        twice.context_cameras.camera_to_world, original.context_cameras.camera_to_world
    )


def photometric_error(views: Example) -> float:
    """How much colours differ where the views' depths say that they show the same point."""
    depth, cameras = views.context_depth, views.context_cameras
    assert depth is not None
    height, width = depth.shape[-2:]
    points = cameras.positions[:, None, None] + cameras.rays(height, width) * depth[..., None]
    seen = cameras.project(points[[1, 0]].flatten(1, 2)).unflatten(1, (height, width))
    grid = 2 * seen[..., :2] - 1
    other = torch.nn.functional.grid_sample(views.context_images, grid, align_corners=False)
    difference = (other - views.context_images[[1, 0]]).abs().mean(1)
    return float(difference[(grid.abs() < 1).all(-1)].mean())


@pytest.mark.parametrize("seed", range(4))
def test_augmented_views_agree_as_before(walls: Walls, seed: int):
    changed = augmented(walls[seed], torch.Generator().manual_seed(seed))
    assert not torch.equal(changed.context_images, walls[seed].context_images)
    assert photometric_error(changed) == pytest.approx(photometric_error(walls[seed]), rel=0.1)


def test_mirroring_without_the_cameras_would_be_noticed(walls: Walls):
    wrong = dataclasses.replace(mirrored(walls[0]), context_cameras=walls[0].context_cameras)
    assert photometric_error(wrong) > 1.5 * photometric_error(walls[0])


def test_halved_photos_show_what_the_whole_ones_show(walls: Walls):
    example = walls[0]
    half = with_halved_photos(example)
    assert half.context_images.shape[-1] * 2 == example.context_images.shape[-1]
    assert half.context_depth is not None
    assert half.context_depth.shape == half.context_images[:, 0].shape
    assert half.target_images is example.target_images
    assert half.context_cameras is example.context_cameras  # intrinsics are normalised
    torch.testing.assert_close(half.context_images.mean(), example.context_images.mean())


def test_a_batch_is_halved_as_a_whole_and_the_same_every_time(walls: Walls):
    samples = TrainingSamples(walls, False, seed=1, half_size_steps=0.5)
    widths = [
        {samples[SampleKey(0, i, step)].example.context_images.shape[-1] for i in range(3)}
        for step in range(12)
    ]
    assert all(len(w) == 1 for w in widths)
    assert len(set.union(*widths)) == 2
    again = TrainingSamples(walls, False, seed=1, half_size_steps=0.5)
    assert samples[SampleKey(0, 1, 5)].example.context_images.equal(
        again[SampleKey(0, 1, 5)].example.context_images
    )


def test_fixed_parts_stay_analytic_and_the_rest_learns(walls: Walls, tmp_path: Path):
    settings = dataclasses.replace(SETTINGS, fixed=("colors", "backdrops"), snapshot_every=3)
    run = trainer(walls, tmp_path, settings)
    run.run()
    coarse, finest = run.model.stages[0], run.model.stages[-1]
    assert isinstance(coarse, Stage)
    assert isinstance(finest, Stage)
    assert not coarse.head_out.weight.any()
    assert not finest.head_out.weight[HARMONICS_START:].any()
    assert finest.head_out.weight[:HARMONICS_START].any()
    assert coarse.disparity_out.weight[1].any()  # its opacities are learned
    assert sorted(p.name for p in (tmp_path / "snapshots").iterdir()) == [
        "000003.safetensors",
        "000006.safetensors",
    ]
    assert load_model(tmp_path / "snapshots/000003.safetensors").config == run.model.config


def test_parts_of_a_network_without_a_prior_cannot_stay_fixed(walls: Walls, tmp_path: Path):
    settings = dataclasses.replace(PUBLISHED_SETTINGS, fixed=("colors",))
    with pytest.raises(ValueError, match="matching prior"):
        published_trainer(walls, tmp_path, settings)


def test_gains_undo_an_exposure_change():
    image = torch.rand(2, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    factor = torch.tensor([0.8, 1.0, 1.25])
    gains = channel_gains(image, image * factor[:, None, None])
    torch.testing.assert_close(gains, factor.expand(2, 3))


def test_loss_of_a_batch_is_the_mean_of_its_samples(walls: Walls):
    torch.manual_seed(0)
    model = HiSplat(TINY)
    samples = TrainingSamples(walls, with_prior=True, seed=0)
    parts = [samples[SampleKey(0, 0)], samples[SampleKey(0, 1)]]

    def loss(sample) -> torch.Tensor:
        output = model(
            sample.example.context_images, sample.example.context_cameras, prior=sample.prior
        )
        black = torch.zeros(3)
        return training_loss(output, sample.example, CpuRenderer(), LossSettings(), black).total

    joint = loss(collate_samples(parts))
    torch.testing.assert_close(joint, (loss(parts[0]) + loss(parts[1])) / 2, rtol=1e-4, atol=1e-6)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path):
    model = HiSplat(TINY)
    state = model.state_dict()
    state.pop("cnn.stem.weight")
    path = tmp_path / "broken.safetensors"
    save_model(model, path, state)
    with pytest.raises(CheckpointError, match=r"missing cnn\.stem\.weight"):
        load_model(path)


@pytest.mark.parametrize("content", [b"", b"not safetensors at all"])
def test_files_that_are_no_weights_are_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.safetensors"):
        load_model(path)


def test_unknown_names_list_what_is_bundled():
    with pytest.raises(CheckpointError, match="bundled"):
        load_model("no-such-model")


def test_collated_examples_keep_their_order(walls: Walls):
    batch = collate([walls[1], walls[0]])
    assert batch.name == ["wall/1", "wall/0"]
    assert torch.equal(batch.context_images[1], walls[0].context_images)
