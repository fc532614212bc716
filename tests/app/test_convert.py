"""``hisplat convert`` on a checkpoint of the published size, and what it refuses."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from hisplat_app.cli import USER_ERROR, main
from hisplat_data_tools.ply import read_ply
from hisplat_models.checkpoints import load_model
from hisplat_models.config import PRESETS
from hisplat_models.published_checkpoints import PREFIX, to_published
from tests.models.parity import rule_tensor
from tests.models.small_published import published_state, training_state

Photos = tuple[Image.Image, Image.Image]


@pytest.fixture(scope="module")
def re10k(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """hisplat_re10k.ckpt in all but training: 150.9 M parameters by the fill rule, no Adam."""
    path = tmp_path_factory.mktemp("published") / "hisplat_re10k.ckpt"
    state = training_state(published_state.__wrapped__(PRESETS["hisplat"]))
    torch.save(state | {"optimizer_states": []}, path)
    yield path
    for file in path.parent.iterdir():
        file.unlink()


@pytest.fixture(scope="module")
def converted(re10k: Path) -> Path:
    """The same in 16 bits, as the command made it."""
    path = re10k.with_name("re10k.safetensors")
    assert main(["convert", str(re10k), str(path), "--half"]) == 0
    return path


def test_the_published_size_converts_to_half_a_file(re10k: Path, converted: Path):
    assert 600e6 < re10k.stat().st_size < 610e6
    assert 300e6 < converted.stat().st_size < 305e6
    model = load_model(converted)
    assert model.config == PRESETS["hisplat"]
    assert sum(p.numel() for p in model.parameters()) == 150_876_854
    state = to_published(model.state_dict())
    for key in list(state)[::100]:
        expected = rule_tensor(key.removeprefix(PREFIX), tuple(state[key].shape))
        assert torch.equal(state[key], expected.half().to(expected.dtype)), key


def test_the_converted_network_reconstructs(converted: Path, demo_photos: Photos, tmp_path: Path):
    paths = tmp_path / "left.png", tmp_path / "right.png"
    for photo, path in zip(demo_photos, paths, strict=True):
        photo.save(path)
    cameras, scene = tmp_path / "cameras.json", tmp_path / "scene.ply"
    ends = ["--left", str(paths[0]), "--right", str(paths[1]), "--output", str(scene)]
    first = ["--model", "hisplat-small", "--size", "64", "--cameras-out", str(cameras)]
    assert main(["reconstruct", *ends, *first]) == 0
    again = ["--model", str(converted), "--size", "128", "--cameras", str(cameras)]
    assert main(["reconstruct", *ends, *again]) == 0
    gaussians = read_ply(scene)
    assert len(gaussians.means) > 1000
    assert gaussians.means.isfinite().all()


def test_news_tell_what_was_taken_and_what_not(
    re10k: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["convert", str(re10k), str(tmp_path / "a.safetensors"), "--half"]) == 0
    news = " ".join(capsys.readouterr().err.split())
    assert "All 1227 tensors fit: 150,876,854 parameters at training step 300,001." in news
    assert "lr_schedulers" in news
    (tmp_path / "a.safetensors").unlink()


def test_what_does_not_fit_is_shown_as_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "200")
    state = {**published_state(), "[bold]": torch.ones(1)}
    torch.save({"state_dict": state}, tmp_path / "a.ckpt")
    target = tmp_path / "a.safetensors"
    assert main(["convert", str(tmp_path / "a.ckpt"), str(target)]) == USER_ERROR
    told = capsys.readouterr().err
    assert "What does not fit" in told
    assert "[bold]" in told
    assert "more" in told
    assert "Error: " in told
    assert not target.exists()


class Evil:
    """Would make a folder if it were loaded the usual way."""

    def __init__(self, folder: Path):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_malicious_checkpoint_is_refused_and_nothing_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source, target = tmp_path / "evil.ckpt", tmp_path / "a.safetensors"
    torch.save({"state_dict": {}, "callbacks": Evil(tmp_path / "ran")}, source)
    assert main(["convert", str(source), str(target)]) == USER_ERROR
    told = " ".join(capsys.readouterr().err.split())
    assert "is refused: it names posix.mkdir" in told or "nt.mkdir" in told
    assert "--tensors-only takes the tensors" in told
    assert not (tmp_path / "ran").exists()
    assert not target.exists()
    torch.load(source, weights_only=False)  # it would have
    assert (tmp_path / "ran").exists()


def test_tensors_are_taken_on_request_and_still_nothing_runs(tmp_path: Path):
    source, target = tmp_path / "evil.ckpt", tmp_path / "a.safetensors"
    torch.save({"state_dict": {"w": torch.ones(1)}, "x": Evil(tmp_path / "ran")}, source)
    assert main(["convert", str(source), str(target), "--tensors-only"]) == USER_ERROR  # misfit
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("a.ckpt", "ends in .safetensors"),
        ("nowhere/a.safetensors", "does not exist"),
        ("source.safetensors", "is the checkpoint itself"),
    ],
)
def test_targets_that_cannot_be_are_refused_first(
    target: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    source = tmp_path / "source.safetensors"
    source.write_bytes(b"")
    assert main(["convert", str(source), str(tmp_path / target)]) == USER_ERROR
    assert message in " ".join(capsys.readouterr().err.split())


def test_missing_checkpoints_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    target = tmp_path / "a.safetensors"
    assert main(["convert", str(tmp_path / "no.ckpt"), str(target)]) == USER_ERROR
    assert "no.ckpt" in capsys.readouterr().err
