"""The train command: it runs, goes on where it stopped, and refuses what cannot work."""

import dataclasses
import io
import json
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from hisplat_app.cli import main
from hisplat_app.train import Train, TrainPublished
from hisplat_app.training_run import TrainingRun
from hisplat_data_tools.datasets.cached import CachedDataset
from hisplat_data_tools.procedural.batched import examples
from hisplat_data_tools.procedural.batched.examples import fill_cache
from hisplat_models.checkpoints import load_model
from hisplat_models.config import PRESETS
from hisplat_models.training import TRAIN_PRESETS, Engine

SMALL = ["--examples", "2", "--validation-examples", "1", "--width", "64", "--height", "48"]
SMALL += ["--targets", "1", "--batch-size", "2", "--evaluate-every", "2", "--workers", "0"]


def test_training_leaves_weights_and_goes_on_where_it_stopped(tmp_path: Path):
    run = ["train", "--run-dir", str(tmp_path / "run"), *SMALL]
    assert main([*run, "--steps", "1"]) == 0
    assert main([*run, "--steps", "2"]) == 0
    log = (tmp_path / "run" / "log.jsonl").read_text()
    assert '"resumed_at": 1' in log
    assert '"step": 2' in log
    assert '"validation_psnr"' in log
    assert load_model(tmp_path / "run" / "averaged.safetensors").config.matching_prior


def test_sizes_the_network_cannot_take_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run_dir = tmp_path / "run"
    assert main(["train", "--run-dir", str(run_dir), "--width", "60", "--height", "48"]) == 2
    assert "multiples of 16, got 60x48" in " ".join(capsys.readouterr().err.split())
    assert not run_dir.exists()


def test_weights_of_another_network_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["train", "--run-dir", str(tmp_path), "--init", str(tmp_path / "none.safetensors")]
    assert main(arguments) == 2
    assert "none.safetensors" in "".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "There is no CUDA device here; pass --scenes-on cpu."),
        (["--data", "re10k"], "--data re10k makes no scenes."),
    ],
)
def test_scenes_are_not_made_on_a_gpu_that_cannot_make_them(
    arguments: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run_dir = tmp_path / "run"
    assert main(["train", "--run-dir", str(run_dir), "--scenes-on", "cuda", *arguments]) == 2
    assert complaint in " ".join(capsys.readouterr().err.split())
    assert not run_dir.exists()


@pytest.mark.parametrize(
    ("scenes_on", "training_on", "are_made"),
    [("auto", "cpu", False), ("auto", "cuda", True), ("cuda", "cpu", True), ("cpu", "cuda", False)],
)
def test_a_gpu_makes_all_scenes_before_training(
    scenes_on: Literal["auto", "cpu", "cuda"],
    training_on: str,
    are_made: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    devices = []

    def fill(cache: CachedDataset, device: torch.device, workers: int, rank: int, size: int):
        devices.append(device.type)
        return fill_cache(cache, torch.device("cpu"), 0, rank, size)

    monkeypatch.setattr(examples, "fill_cache", fill)
    run = TrainingRun(
        tmp_path, width=64, height=48, examples=2, validation_examples=1, scenes_on=scenes_on
    )
    datasets = run.datasets(run.network())
    run._fill_caches(Engine(torch.device(training_on)), *datasets)
    lacking = [cache.missing() for cache in datasets if isinstance(cache, CachedDataset)]
    assert lacking == ([[], []] if are_made else [[0, 1], [0]])
    assert devices == (["cuda", "cuda"] if are_made else [])


@pytest.mark.parametrize("arguments", [["--preset", "hisplat"], ["--preset=hisplat"]])
def test_the_published_preset_brings_the_published_settings(arguments: list[str]):
    kind = Train.for_arguments(["--run-dir", "x", *arguments, "--steps", "3"])
    assert kind is TrainPublished
    run = kind(Path("x"))
    assert run.train == TRAIN_PRESETS["hisplat"]
    assert (run.width, run.height, run.targets, run.preset) == (256, 256, 4, "hisplat")


def test_other_presets_keep_their_defaults():
    assert Train.for_arguments(["--run-dir", "hisplat", "--preset", "hisplat-small"]) is Train
    assert Train(Path("x")).train == TRAIN_PRESETS["hisplat-small"]


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("error-awareness", "error_aware", False),
        ("modulating-fusion", "modulating_fusion", False),
        ("vit", "vit", None),
    ],
)
def test_an_ablation_changes_its_part_of_the_network_alone(part: str, field: str, value: object):
    run = TrainingRun(Path("x"), preset="hisplat", ablate=(part,))  # pyright: ignore[reportArgumentType]
    assert run.network() == dataclasses.replace(PRESETS["hisplat"], **{field: value})


@pytest.mark.parametrize("stages", [1, 2])
def test_fewer_stages_are_the_coarsest_ones(stages: int):
    run = TrainingRun(Path("x"), preset="hisplat", stages=stages)  # pyright: ignore[reportArgumentType]
    whole = PRESETS["hisplat"]
    assert run.network() == dataclasses.replace(whole, stages=whole.stages[:stages])


def test_what_is_not_there_cannot_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["train", "--run-dir", str(tmp_path / "run"), "--ablate", "vit"]) == 2
    assert "has no ViT to leave out" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--steps", "0"], "steps of at least 1, got 0"),
        (["--batch-size", "0"], "batch_size of at least 1, got 0"),
        (["--learning-rate", "nan"], "positive learning_rate, got nan"),
        (["--ema-decay", "2"], "ema_decay in [0, 1), got 2.0"),
        (["--workers", "-1"], "workers of at least 0, got -1"),
        (["--half-size-steps", "1.5"], "half_size_steps in [0, 1], got 1.5"),
        (["--examples", "0"], "--examples must be at least 1, got 0"),
        (["--validation-examples", "0"], "--validation-examples must be at least 1, got 0"),
        (["--targets", "0"], "--targets must be at least 1, got 0"),
        (["--context-views", "1"], "--context-views must be at least 2, got 1"),
        (["--threads", "0"], "--threads must be at least 1, got 0"),
        (["--width", "0"], "--width must be at least 1, got 0"),
        (["--data", "posed", "--root", "nowhere"], "There is no folder nowhere"),
        (["--cache", __file__], "test_train.py is a file"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    options: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    try:
        status = main(["train", "--run-dir", str(tmp_path / "run"), *options])
    except SystemExit as ended:  # by the parser, whose line breaks are not ours
        status = ended.code
    assert status == 2
    told = " ".join(word for word in capsys.readouterr().err.split() if word not in "|│")
    assert reason in told
    assert not list(tmp_path.iterdir())


def write_chunk(folder: Path, frames: int = 6) -> None:
    """One scene in the published format: a camera that moves sideways past coloured noise."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    cameras = torch.zeros(frames, 18)
    cameras[:, :4] = torch.tensor([1.0, 1.33, 0.5, 0.5])
    cameras[:, 6:] = torch.eye(4)[:3].flatten()
    cameras[:, 9] = torch.arange(frames) * -0.1
    images = []
    for _ in range(frames):
        photo = io.BytesIO()
        pixels = random.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((80, 60)).save(photo, "JPEG")
        images.append(torch.frombuffer(bytearray(photo.getvalue()), dtype=torch.uint8))
    timestamps = torch.arange(frames)
    scene = {"key": "a", "url": "", "timestamps": timestamps, "cameras": cameras, "images": images}
    torch.save([scene], folder / "000000.torch")
    (folder / "index.json").write_text(json.dumps({"a": "000000.torch"}))


def test_training_on_chunk_files_with_an_ablation_in_the_weights(tmp_path: Path):
    for split in ("train", "test"):
        write_chunk(tmp_path / "data" / split)
    run_dir = tmp_path / "run"
    data = ["--data", "chunks", "--root", str(tmp_path / "data"), "--gap", "3", "3"]
    ablation = ["--ablate", "modulating-fusion"]
    arguments = ["train", "--run-dir", str(run_dir), *SMALL, *data, *ablation, "--steps", "2"]
    assert main(arguments) == 0
    config = load_model(run_dir / "averaged.safetensors").config
    assert (config.modulating_fusion, config.error_aware) == (False, True)
    card = json.loads((run_dir / "card.json").read_text())
    assert card["run"]["data"] == "chunks"
    assert card["machine"]["cores"] >= 1
    assert "validation_psnr" in card["curve"][-1]


def test_data_without_a_root_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["train", "--run-dir", str(tmp_path / "run"), "--data", "re10k"]) == 2
    assert "--data re10k needs --root" in " ".join(capsys.readouterr().err.split())
