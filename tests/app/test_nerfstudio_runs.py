"""Scenes out of nerfstudio's runs, read without running what their files may hold."""

import os
from pathlib import Path

import pytest
import torch

from hisplat_app.cli import main, view_main
from hisplat_app.nerfstudio_runs import RunError, last_checkpoint, read_run
from hisplat_data_tools.cameras_json import read_cameras
from hisplat_models.model_sources import CheckpointError

CONFIG = """!!python/object:nerfstudio.engine.trainer.TrainerConfig
method_name: splatfacto
relative_model_dir: !!python/object/apply:pathlib.PosixPath
- {folder}
save_only_latest_checkpoint: true
"""


def parameters(count: int = 7, bands: int = 16) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "means": (3,),
        "scales": (3,),
        "quats": (4,),
        "opacities": (1,),
        "features_dc": (3,),
        "features_rest": (bands - 1, 3),
    }
    return {
        f"_model.gauss_params.{name}": torch.randn(count, *shape, generator=generator)
        for name, shape in shapes.items()
    }


def run_folder(folder: Path, state: object, config: str = CONFIG, steps: tuple[int, ...] = (9,)):
    """A run as nerfstudio leaves it; gives its config.yml."""
    checkpoints = folder / "nerfstudio_models"
    checkpoints.mkdir()
    for step in steps:
        torch.save({"step": step, "pipeline": state}, checkpoints / f"step-{step:09d}.ckpt")
    path = folder / "config.yml"
    path.write_text(config.format(folder="nerfstudio_models"))
    return path


def test_run_is_read_with_all_its_bands(tmp_path: Path):
    state = parameters()
    scene = read_run(run_folder(tmp_path, state))
    torch.testing.assert_close(scene.means, state["_model.gauss_params.means"])
    torch.testing.assert_close(scene.scales.log(), state["_model.gauss_params.scales"])
    torch.testing.assert_close(
        scene.opacities.logit(), state["_model.gauss_params.opacities"][:, 0]
    )
    torch.testing.assert_close(scene.quaternions_wxyz.norm(dim=-1), torch.ones(7))
    torch.testing.assert_close(scene.harmonics[:, 1:], state["_model.gauss_params.features_rest"])


def test_features_without_bands_are_logits_of_colours(tmp_path: Path):
    state = parameters(bands=1)
    scene = read_run(run_folder(tmp_path, state))
    logits = state["_model.gauss_params.features_dc"]
    torch.testing.assert_close(scene.base_colors, torch.sigmoid(logits))


def test_last_checkpoint_is_taken(tmp_path: Path):
    config = run_folder(tmp_path, parameters(), steps=(99, 1500, 200))
    assert last_checkpoint(config).name == "step-000001500.ckpt"


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


def test_nothing_in_a_checkpoint_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    config = run_folder(tmp_path, {**parameters(), "bomb": Bomb()})
    with pytest.raises(CheckpointError, match="system"):
        read_run(config)
    assert not Path("exploded").exists()


def test_nothing_in_a_config_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    trap = CONFIG + "bomb: !!python/object/apply:os.system ['touch exploded']\n"
    assert read_run(run_folder(tmp_path, parameters(), trap)).count == 7
    assert not Path("exploded").exists()


@pytest.mark.parametrize("folder", ["/", ".."])
def test_checkpoints_outside_the_run_are_not_looked_for(tmp_path: Path, folder: str):
    config = run_folder(tmp_path, parameters())
    config.write_text(CONFIG.format(folder=folder))
    with pytest.raises(RunError, match="outside the run"):
        read_run(config)


def test_other_yaml_is_refused(tmp_path: Path):
    with pytest.raises(RunError, match=r"no config\.yml of nerfstudio"):
        read_run(run_folder(tmp_path, parameters(), "a: 1\n"))


def test_run_without_checkpoint_is_refused(tmp_path: Path):
    with pytest.raises(RunError, match="no checkpoint"):
        read_run(run_folder(tmp_path, parameters(), steps=()))


def test_run_of_another_kind_is_refused(tmp_path: Path):
    config = run_folder(tmp_path, {"_model.field.weight": torch.ones(3)})
    with pytest.raises(RunError, match="no Gaussians"):
        read_run(config)


@pytest.mark.parametrize("name", ["quats", "opacities", "features_rest"])
def test_unfit_parameters_are_named(tmp_path: Path, name: str):
    state = parameters()
    state[f"_model.gauss_params.{name}"] = torch.zeros(3, 9)
    with pytest.raises(RunError, match=name):
        read_run(run_folder(tmp_path, state))


def test_view_says_what_is_wrong_with_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert view_main(["--nerfstudio", str(tmp_path / "config.yml"), "--no-open"]) == 2
    assert "There is no file" in capsys.readouterr().err


def test_view_takes_a_run_or_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert view_main(["--nerfstudio", str(tmp_path / "config.yml"), "--demo"]) == 2
    assert "Give either" in capsys.readouterr().err


def test_capture_for_nerfstudio_has_photos_cameras_and_points(tmp_path: Path):
    demo = Path(__file__).resolve().parents[2] / "hisplat_app/demo/cameras.json"
    output = tmp_path / "room"
    options = ["--input", str(demo), "--output", str(output), "--size", "320", "--points", "200"]
    assert main(["data", "make-nerfstudio", *options]) == 0
    written, stated = read_cameras(output / "transforms.json"), read_cameras(demo)
    assert len(written.images) == len(stated.images) == 3
    for image in written.images:
        assert (output / image.file).is_file()
        assert max(image.width, image.height) == 320
        original = stated.find(Path(image.file).with_suffix(".jpg").name)
        assert image.camera_to_world == pytest.approx(original.camera_to_world, abs=1e-6)
        assert image.fx / image.width == pytest.approx(original.fx / original.width)
    header = (output / "points.ply").read_bytes().split(b"end_header")[0]
    count = int(header.split(b"element vertex ")[1].split()[0])
    assert 100 < count <= 200


def test_capture_for_nerfstudio_needs_a_possible_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    options = ["--input", "cameras.json", "--output", str(tmp_path / "out"), "--size", "8"]
    assert main(["data", "make-nerfstudio", *options]) == 2
    assert "--size of 32 or more" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
