"""nerfstudio's commands on a small capture, on the CPU."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hisplat_app.nerfstudio_runs import read_run
from hisplat_data_tools.cameras_json import ImageCamera, read_cameras, to_cameras
from hisplat_data_tools.ply import read_ply
from hisplat_models.gaussians import Gaussians
from hisplat_models.metrics import psnr
from hisplat_models.rendering import create_renderer

from .conftest import Commands, Run, evaluated, train

FEED_FORWARD_PSNR = 21.0
"""Of a photo that was held out, dB; the scene copied from the nearest photo has 17."""


@pytest.fixture(scope="session")
def first_scores(commands: Commands, first: Run) -> dict[str, float]:
    return evaluated(commands, first)


def test_feed_forward_scene_shows_the_held_out_photo(first_scores: dict[str, float]):
    assert first_scores["psnr"] > FEED_FORWARD_PSNR
    assert first_scores["ssim"] > 0.7


def test_refinement_improves_the_feed_forward_scene(
    commands: Commands, refined: Run, first_scores: dict[str, float]
):
    scores = evaluated(commands, refined)
    assert scores["psnr"] > first_scores["psnr"] + 0.3
    assert scores["ssim"] > first_scores["ssim"]


def test_feed_forward_alone_changes_nothing_in_its_iteration(first: Run, refined: Run):
    assert first.gaussians == refined.gaussians
    scene = _pipeline_state(first)
    assert len(scene["_model.gauss_params.means"]) == first.gaussians
    # One step of Adam at splatfacto's rate moves every logit that has a gradient by 0.05.
    assert scene["_model.gauss_params.features_rest"].abs().max() == 0


def test_density_control_acts_on_the_cpu(refined: Run):
    assert "GSs split" in refined.log
    assert len(_pipeline_state(refined)["_model.gauss_params.means"]) != refined.gaussians


def test_network_is_not_in_checkpoints(first: Run):
    assert {name.removeprefix("_model.").split(".")[0] for name in _pipeline_state(first)} <= {
        "gauss_params",
        "device_indicator_param",
        "camera_optimizer",
    }


def test_training_goes_on_from_a_checkpoint(
    commands: Commands, capture: Path, outputs: Path, refined: Run
):
    again = train(
        commands,
        "hisplat",
        capture,
        outputs / "again",
        *("--load-dir", refined.checkpoint.parent, "--max-num-iterations", "3"),
    )
    assert "HiSplat made" not in again.log
    states = [torch.load(run.checkpoint, weights_only=True) for run in (refined, again)]
    assert [state["step"] for state in states] == [59, 62]
    before, after = (state["pipeline"]["_model.gauss_params.means"] for state in states)
    assert before.shape == after.shape
    assert 0 < (before - after).abs().max() < 0.01


def test_exported_scene_looks_the_same_in_our_renderer(
    commands: Commands, first: Run, capture: Path, tmp_path: Path
):
    commands(
        *("ns-export", "gaussian-splat", "--load-config", first.config, "--output-dir", tmp_path)
    )
    commands(
        *("ns-render", "dataset", "--load-config", first.config, "--output-path", tmp_path),
        *("--image-format", "png", "--rendered-output-names", "rgb", "--split", "train"),
    )
    pictures = sorted(tmp_path.glob("train/rgb/*.png"))
    assert len(pictures) == 11
    picture = pictures[4]
    theirs = np.asarray(Image.open(picture).convert("RGB")) / 255
    ours = _drawn(read_ply(tmp_path / "splat.ply"), first, capture, picture.stem)
    # Gaussians fainter than 1/255 are not exported; pictures are stored with 8 bits.
    assert np.abs(ours - theirs).max() < 3 / 255
    assert psnr(_image(ours), _image(theirs)) > 45


def test_video_along_the_cameras(commands: Commands, first: Run, tmp_path: Path):
    if shutil.which("ffmpeg") is None:
        pytest.skip("ns-render writes videos with the system's ffmpeg: apt-get install ffmpeg")
    video = tmp_path / "path.mp4"
    commands(
        *("ns-render", "interpolate", "--load-config", first.config, "--output-path", video),
        *("--interpolation-steps", "2", "--pose-source", "train"),
    )
    assert video.stat().st_size > 1000


def test_splatfactos_own_starts_can_be_compared(commands: Commands, capture: Path, outputs: Path):
    points = train(
        commands,
        "hisplat",
        capture,
        outputs / "points",
        *("--max-num-iterations", "2", "--pipeline.start.source", "points"),
    )
    assert points.gaussians == 1500


def _pipeline_state(run: Run) -> dict[str, torch.Tensor]:
    return torch.load(run.checkpoint, weights_only=True)["pipeline"]


def _drawn(gaussians: Gaussians, run: Run, capture: Path, name: str) -> np.ndarray:
    """A photo's view of a scene in nerfstudio's world over its evaluation background."""
    moved = json.loads((run.folder / "dataparser_transforms.json").read_text())
    view: ImageCamera = read_cameras(capture / "transforms.json").find(f"{name}.png")
    camera = to_cameras([view], 1.0, 2.0)
    turn = torch.eye(4)
    turn[:3] = torch.tensor(moved["transform"])
    camera = camera.transformed(turn).scaled(moved["scale"])
    background = torch.tensor([0.149, 0.1647, 0.2157])
    drawn = create_renderer("cpu")(gaussians[None], camera[None], (72, 96), background)
    return drawn.color[0, 0].clamp(0, 1).permute(1, 2, 0).numpy()


def _image(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).float().permute(2, 0, 1)


def test_run_opens_as_a_scene_of_ours(first: Run):
    scene = read_run(first.config)
    assert scene.count == first.gaussians
    assert math.isfinite(scene.means.sum())
