"""hisplat evaluate --dataset, end to end on small chunk files."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from hisplat_app.cli import USER_ERROR, main
from hisplat_app.evaluation import Evaluate, paper
from hisplat_app.evaluation.paper import PaperOptions, fingerprint
from hisplat_app.evaluation.paper_report import mean_of
from hisplat_app.evaluation.paper_scores import PaperScorer
from hisplat_app.evaluation.scene_log import SceneLog, SceneScore
from hisplat_app.photo_overlap import without_repetition
from hisplat_data_tools.datasets import DATASETS, ChunkScenes, PosedScene, SceneDataset
from hisplat_data_tools.datasets.chunk_writer import ChunkWriter, PictureFormat, stored_scene
from hisplat_data_tools.datasets.evaluation_index import read_index, write_index
from hisplat_data_tools.datasets.view_samplers import IndexSampler, ViewChoice
from hisplat_models.checkpoints import load_model, save_model
from hisplat_models.lpips import Lpips
from hisplat_models.metrics import psnr
from hisplat_models.network import HiSplat
from hisplat_models.rendering import PAPER
from tests.models.test_network import TINY
from tests.two_planes import two_planes_cameras, two_planes_views

SIDE = 64
SCENES = ("alpha", "beta", "gamma")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes of five frames in one chunk file, and a fourth that is damaged."""
    root = tmp_path_factory.mktemp("chunks")
    with ChunkWriter(root / "test", {}) as writer:
        for shift, key in enumerate((*SCENES, "broken")):
            positions = tuple(0.05 * shift + 0.1 * k - 0.2 for k in range(5))
            cameras = two_planes_cameras(positions)
            views, _ = two_planes_views(cameras)
            pixels = (views * 255).round().byte().permute(0, 2, 3, 1).numpy()
            scene = PosedScene(key, cameras, lambda frame, pixels=pixels: pixels[frame])
            stored = stored_scene(scene, PictureFormat(None))
            if key == "broken":
                stored["images"][2] = torch.zeros(10, dtype=torch.uint8)
            writer.add(stored)
    return root


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """Two photos and two targets of each scene but the damaged one."""
    path = tmp_path / "index.json"
    choice = ViewChoice((0, 4), (1, 3))
    write_index(path, {key: choice for key in SCENES})
    return path


@pytest.fixture(autouse=True)
def no_lpips_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever lies on the machine that runs the tests."""
    monkeypatch.setenv("HISPLAT_LPIPS_WEIGHTS", str(tmp_path / "nowhere.pth"))


@pytest.fixture
def evaluate(root: Path, index: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs the command with the bundled network and reads its summary."""

    def run(
        model: str = "hisplat-small", refine: int | None = None, **options: Any
    ) -> dict[str, Any]:
        paper = PaperOptions(**{"dataset": "chunks", "root": root, "index": index} | options)
        output = tmp_path / "metrics.json"
        command = Evaluate(output, model=model, refine=refine, size=SIDE, device="cpu", paper=paper)
        assert command.run() == 0
        return json.loads(output.read_text())

    return run


def log_lines(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "metrics.scenes.jsonl").read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def test_scores_are_those_of_the_published_definitions(
    evaluate: Callable[..., dict[str, Any]], root: Path, index: Path, tmp_path: Path
) -> None:
    summary = evaluate()
    dataset = SceneDataset(
        ChunkScenes(root, "test", DATASETS["chunks"]), IndexSampler(read_index(index)), (SIDE, SIDE)
    )
    model = load_model()
    psnrs, ssims = [], []
    for i in range(3):
        example = dataset[i]
        with torch.no_grad():
            scene = model(example.context_images[None], example.context_cameras[None]).gaussians
            drawn = model.create_renderer("cpu")(
                scene, example.target_cameras[None], (SIDE, SIDE)
            ).color[0].numpy()  # fmt: skip
        photos = example.target_images.numpy()
        errors = [np.mean((a.clip(0, 1) - b) ** 2) for a, b in zip(drawn, photos, strict=True)]
        psnrs.append(np.mean([-10 * math.log10(error) for error in errors]))
        similar = [
            structural_similarity(
                b, a, win_size=11, gaussian_weights=True, channel_axis=0, data_range=1.0
            )
            for a, b in zip(drawn, photos, strict=True)
        ]
        ssims.append(np.mean(similar))
    assert summary["scores"]["psnr"]["mean"] == pytest.approx(np.mean(psnrs), abs=1e-3)
    assert summary["scores"]["ssim"]["mean"] == pytest.approx(np.mean(ssims), abs=1e-5)
    rows = log_lines(tmp_path)[1:]
    assert [row["scene"] for row in rows] == list(SCENES)
    assert [np.mean(row["psnr"]) for row in rows] == pytest.approx(psnrs, abs=1e-3)
    assert all(row["context"] == [0, 4] and row["target"] == [1, 3] for row in rows)
    assert summary["scores"]["psnr"]["mean"] > 20


def test_what_is_missing_is_said(evaluate: Callable[..., dict[str, Any]], index: Path) -> None:
    choice = ViewChoice((0, 4), (2,))
    beyond = ViewChoice((0, 4), (9,))
    write_index(
        index,
        {"alpha": choice, "beta": None, "gamma": beyond, "broken": choice, "elsewhere": choice},
    )
    summary = evaluate()
    assert summary["scores"]["lpips"] is None
    assert "LPIPS needs" in summary["lpips_not_computed"]
    scenes = summary["scenes"]
    assert scenes["measured"] == 1
    assert set(scenes["skipped"]) == {"gamma", "broken"}
    assert "9" in scenes["skipped"]["gamma"]
    assert scenes["left_out"] == {
        "null in the evaluation index": 1,
        "in the evaluation index, but not in the data": 1,
    }


def test_a_third_view_is_given(evaluate: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    summary = evaluate(views=3)
    rows = log_lines(tmp_path)[1:]
    assert [row["context"] for row in rows] == [[0, 2, 4]] * 3
    assert summary["scores"]["psnr"]["mean"] > 20


def test_scenes_of_three_views_are_those_that_users_get(
    evaluate: Callable[..., dict[str, Any]], root: Path, index: Path, tmp_path: Path
) -> None:
    evaluate(views=3, limit=1)
    dataset = SceneDataset(
        ChunkScenes(root, "test", DATASETS["chunks"]),
        IndexSampler(read_index(index), 3),
        (SIDE, SIDE),
    )
    example, model = dataset[0], load_model()
    images, cameras = example.context_images, example.context_cameras
    with torch.no_grad():
        output = model(images[None], cameras[None])
        scores = [
            psnr(
                model.create_renderer("cpu")(
                    scene, example.target_cameras[None], (SIDE, SIDE)
                ).color[0].clamp(0, 1),
                example.target_images,
            ).tolist()
            for scene in (without_repetition(output, images, cameras), output.gaussians)
        ]  # fmt: skip
    assert log_lines(tmp_path)[1]["psnr"] == pytest.approx(scores[0], abs=1e-3)
    assert scores[0] != pytest.approx(scores[1], abs=1e-2), "the test could not tell"


def test_an_interrupted_run_goes_on(
    evaluate: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[str] = []
    score = PaperScorer.__call__

    def spy(self: PaperScorer, scene: str, *rest: Any) -> SceneScore:
        if len(measured) == 3:  # the first scene is computed twice, to warm up
            raise KeyboardInterrupt
        measured.append(scene)
        return score(self, scene, *rest)

    monkeypatch.setattr(PaperScorer, "__call__", spy)
    with pytest.raises(KeyboardInterrupt):
        evaluate()
    assert not (tmp_path / "metrics.json").exists()
    assert [row["scene"] for row in log_lines(tmp_path)[1:]] == ["alpha", "beta"]
    before = log_lines(tmp_path)
    with open(tmp_path / "metrics.scenes.jsonl", "a") as file:
        file.write('{"scene": "gam')  # as if killed while writing

    measured.clear()
    summary = evaluate()
    assert set(measured) == {"gamma"}
    assert log_lines(tmp_path)[:3] == before
    assert [row["scene"] for row in log_lines(tmp_path)[1:]] == list(SCENES)
    assert summary["scenes"]["measured"] == 3

    measured.clear()
    assert evaluate()["scores"] == summary["scores"]
    assert measured == []


def test_a_limit_can_be_raised_later(
    evaluate: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    first = evaluate(limit=1)
    assert (first["scenes"]["measured"], first["scenes"]["beyond_limit"]) == (1, 2)
    assert first["scores"]["psnr"]["standard_error"] is None
    assert evaluate()["scenes"]["measured"] == 3
    assert evaluate(limit=1)["scores"] == first["scores"]


def test_other_settings_are_refused_until_restart(
    evaluate: Callable[..., dict[str, Any]], tmp_path: Path, weights: Path
) -> None:
    evaluate(limit=1)
    before = log_lines(tmp_path)
    with pytest.raises(ValueError, match=r"holds 1 scenes.*views was None and is 3.*--restart"):
        evaluate(limit=1, views=3)
    with pytest.raises(ValueError, match="model_sha256 was"):
        evaluate(limit=1, model=str(weights))
    assert log_lines(tmp_path) == before
    summary = evaluate(limit=1, views=3, restart=True)
    assert summary["conditions"]["views"] == 3
    assert len(log_lines(tmp_path)) == 2


def test_a_log_of_something_else_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.scenes.jsonl"
    path.write_text("{}\n")
    with pytest.raises(ValueError, match="not the log of an evaluation"):
        SceneLog(path, {})
    assert path.read_text() == "{}\n"
    path.write_text("")
    with pytest.raises(ValueError, match="not the log of an evaluation"):
        SceneLog(path, {})


def test_a_failing_scene_is_named(
    evaluate: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(*_: object) -> None:
        raise ValueError("NaN everywhere")

    monkeypatch.setattr(HiSplat, "forward", fails)
    with pytest.raises(ValueError, match="Scene alpha: NaN everywhere"):
        evaluate()
    assert len(log_lines(tmp_path)) == 1
    assert not (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize("views", [2, 3])
def test_published_networks_are_fed_and_drawn_as_published(
    evaluate: Callable[..., dict[str, Any]], tmp_path: Path, views: int
) -> None:
    assert evaluate(limit=1)["conditions"]["principal_point"] == "exact"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_model(HiSplat(TINY), tmp_path / "tiny.safetensors")
    model = str(tmp_path / "tiny.safetensors")
    summary = evaluate(model=model, views=views, limit=1, restart=True)
    conditions = summary["conditions"]
    assert conditions["principal_point"] == "published"
    assert conditions["rasterization"] == asdict(PAPER)
    assert len(log_lines(tmp_path)[1]["context"]) == views
    per_view = SIDE**2 * (1 + 1 / 4 + 1 / 16)
    assert log_lines(tmp_path)[1]["gaussians"] == views * per_view
    other = evaluate(model=model, views=views, limit=1, principal_point="exact", restart=True)
    assert other["scores"]["psnr"] != summary["scores"]["psnr"]


def test_lpips_is_averaged_like_the_others(
    evaluate: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Difference(Lpips):
        """In place of LPIPS, which needs weights."""

        def __init__(self) -> None:
            torch.nn.Module.__init__(self)

        def forward(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return (images - targets).abs().mean(dim=(1, 2, 3))

    monkeypatch.setattr(paper, "lpips_obstacle", lambda weights: None)
    monkeypatch.setattr(paper, "load_lpips", lambda device, weights: Difference())
    summary = evaluate()
    rows = log_lines(tmp_path)[1:]
    assert all(len(row["lpips"]) == 2 for row in rows)
    expected = np.mean([np.mean(row["lpips"]) for row in rows])
    assert summary["scores"]["lpips"]["mean"] == pytest.approx(expected)
    assert summary["lpips_not_computed"] is None
    monkeypatch.undo()
    with pytest.raises(ValueError, match="lpips was True and is False"):
        evaluate()


def test_scenes_are_refined_only_if_asked_for(evaluate: Callable[..., dict[str, Any]]) -> None:
    plain, none = evaluate(limit=1), evaluate(limit=1, refine=0)
    assert plain["scores"] == none["scores"]  # the second went on where the first had ended
    with pytest.raises(ValueError, match="refinement_steps was 0 and is 10"):
        evaluate(limit=1, refine=10)
    refined = evaluate(limit=1, refine=10, restart=True)
    assert refined["settings"]["refine"] == 10
    assert refined["scores"]["psnr"]["mean"] > plain["scores"]["psnr"]["mean"] + 0.3


def test_bf16_is_near_fp32(evaluate: Callable[..., dict[str, Any]]) -> None:
    exact = evaluate(limit=1)["scores"]["psnr"]["mean"]
    coarse = evaluate(limit=1, precision="bf16", restart=True)["scores"]["psnr"]["mean"]
    assert coarse == pytest.approx(exact, abs=0.5)
    assert coarse != exact


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Say what to evaluate"),
        (["--data", "x", "--limit", "2"], "--limit: only with --dataset"),
        (["--dataset", "re10k", "--data", "x"], "--data: not with --dataset"),
        (["--dataset", "re10k", "--html", "x.html", "--seed", "3"], "--html, --seed: not with"),
        (["--dataset", "re10k", "--refine", "-1"], "--refine must be at least 0"),
        (["--dataset", "re10k", "--root", "x"], "--dataset needs --root and --index"),
        (["--dataset", "re10k", "--model", "none"], "--dataset needs a network"),
        (["--dataset", "re10k", "--views", "1"], "--views must be at least 2, got 1"),
    ],
)
def test_mixed_up_options_are_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "metrics.json"
    assert main(["evaluate", "--output", str(output), *arguments]) == USER_ERROR
    assert message in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_work_is_refused_before_anything_is_written(
    evaluate: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    there = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"multiples of 16, got 72x64"):
        evaluate(width=72)
    with pytest.raises(FileNotFoundError, match="no evaluation index"):
        evaluate(index=tmp_path / "none.json")
    with pytest.raises(FileNotFoundError, match="no folder"):
        evaluate(root=tmp_path / "none")
    with pytest.raises(ValueError, match="LPIPS needs"):
        evaluate(lpips_weights=tmp_path / "none.pth")
    assert {path.name for path in tmp_path.iterdir()} == there


def test_pictures_need_not_be_square(
    evaluate: Callable[..., dict[str, Any]],
) -> None:
    summary = evaluate(limit=1, height=64, width=96)
    assert (summary["conditions"]["height"], summary["conditions"]["width"]) == (64, 96)


def test_the_fingerprint_is_that_of_weights_and_configuration(
    untrained: HiSplat, weights: Path, tmp_path: Path
) -> None:
    assert fingerprint(load_model(weights)) == fingerprint(untrained)
    changed = load_model(weights)
    with torch.no_grad():
        next(changed.parameters()).view(-1)[0] += 1
    assert fingerprint(changed) != fingerprint(untrained)
    save_model(changed, tmp_path / "changed.safetensors")
    assert fingerprint(load_model(tmp_path / "changed.safetensors")) == fingerprint(changed)


def test_mean_and_standard_error() -> None:
    values = [1.0, 2.0, 4.0]
    found = mean_of(values)
    assert found is not None
    assert found.mean == pytest.approx(7 / 3)
    assert found.standard_error == pytest.approx(np.std(values, ddof=1) / math.sqrt(3))
    assert mean_of([]) is None


MEASURED_IN_A_FRESH_PROCESS = """
import torch
from hisplat_app.evaluation.peak_memory import forget_peak, peak_memory_mib

device = torch.device("cpu")
forget_peak(device)
before = peak_memory_mib(device)
block = torch.ones(2**25)
del block
during = peak_memory_mib(device)
forget_peak(device)
print(before, during, peak_memory_mib(device))
"""


def test_peak_memory_is_that_of_the_work() -> None:
    # Not in this process: what earlier tests freed may serve again without growing it.
    run = subprocess.run(
        [sys.executable, "-c", MEASURED_IN_A_FRESH_PROCESS],
        capture_output=True,
        text=True,
        check=True,
    )
    if "None" in run.stdout:
        pytest.skip("this system does not tell")
    before, during, after = map(float, run.stdout.split())
    assert during > before + 100
    assert after < during - 50
