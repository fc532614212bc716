"""The train command: it runs, goes on where it stopped, and refuses what cannot work."""

from pathlib import Path

import pytest

from hisplat_app.cli import main
from hisplat_models.checkpoints import load_model

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
