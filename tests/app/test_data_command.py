import json
from pathlib import Path

import pytest
import torch

from hisplat_app.cli import main
from hisplat_data_tools.datasets import (
    DATASETS,
    ChunkScenes,
    IndexSampler,
    SceneDataset,
    read_index,
)
from hisplat_models.metrics import psnr
from tests.data_tools.test_posed_videos import write_clip, write_video
from tests.two_planes import two_planes_views, write_posed_folder


def make(*options: str | Path) -> int:
    return main(["data", "make-chunks", *map(str, options)])


def index(*options: str | Path) -> int:
    return main(["data", "make-index", *map(str, options)])


@pytest.fixture
def posed(tmp_path: Path) -> Path:
    write_posed_folder(tmp_path / "photos" / "planes")
    return tmp_path / "photos"


def evaluated(root: Path, index_file: Path, dataset: str = "chunks", views: int = 2, size=(64, 96)):
    scenes = ChunkScenes(root, "test", DATASETS[dataset])
    return SceneDataset(scenes, IndexSampler(read_index(index_file), views), size)


def test_posed_folder_becomes_chunks_and_an_evaluation_index(posed: Path, tmp_path: Path) -> None:
    root = tmp_path / "chunks"
    assert make("--input", posed, "--output", root, "--split", "test", "--keep-size") == 0
    assert index("--root", root, "--output", tmp_path / "i.json", "--by", "pairs") == 0
    example = evaluated(root, tmp_path / "i.json")[0]
    assert example.name == "planes"
    for images, cameras in (
        (example.context_images, example.context_cameras),
        (example.target_images, example.target_cameras),
    ):
        assert psnr(images, two_planes_views(cameras, (64, 96))[0]).min() > 30
    assert example.target_cameras.positions[0, 0].item() == pytest.approx(0.0, abs=1e-6)


def test_fitted_pair_begins_at_depth_one(posed: Path, tmp_path: Path) -> None:
    root = tmp_path / "chunks"
    options = ("--input", posed / "planes", "--output", root, "--split", "test")
    assert make(*options, "--per-pair", "--fit-depth") == 0
    assert index("--root", root, "--output", tmp_path / "i.json", "--by", "pairs") == 0
    dataset = evaluated(root, tmp_path / "i.json", "re10k")
    assert dataset.key(0) == "planes-left-right"
    assert dataset[0].context_cameras.positions[:, 0].tolist() == pytest.approx(
        [-0.2 / 1.4, 0.2 / 1.4], rel=1e-4
    )


def test_same_command_goes_on_and_other_options_are_refused(
    posed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--input", posed, "--output", tmp_path / "chunks")
    assert make(*options) == 0
    write_posed_folder(posed / "second")
    assert make(*options) == 0
    assert "2 scenes in 2 chunk files (1 were there" in " ".join(capsys.readouterr().err.split())
    assert make(*options, "--height", "180", "--width", "320") == 2
    assert "nothing is overwritten" in " ".join(capsys.readouterr().err.split())


def test_videos_with_poses_become_chunks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    poses, videos = tmp_path / "poses", tmp_path / "videos"
    poses.mkdir()
    videos.mkdir()
    write_clip(poses / "first.txt", [1, 5, 9])
    write_clip(poses / "gone.txt", [0, 1], url="https://www.youtube.com/watch?v=deleted")
    write_clip(poses / "late.txt", [3, 90])
    (poses / "README.txt").write_text("Poses of three clips.\nUnder the terms below.\n")
    write_video(videos / "abc-1.mp4")
    assert make("--input", poses, "--videos", videos, "--output", tmp_path, "--split", "test") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "deleted.mp4" in said
    assert "ends before 3.600 s" in said
    assert "README.txt" in said
    assert "3 left out" in said
    scenes = ChunkScenes(tmp_path, "test", DATASETS["re10k"])
    assert scenes.keys == ["first"]
    scene = scenes.scene(0)
    assert [scene.photo(i).mean() / 10 for i in range(3)] == pytest.approx([1, 5, 9], abs=0.45)
    stored = torch.load(tmp_path / "test" / "000000.torch", weights_only=True)[0]
    assert stored["timestamps"].tolist() == [40_000, 200_000, 360_000]
    assert stored["url"] == "https://www.youtube.com/watch?v=abc-1"
    assert index("--root", tmp_path, "--output", tmp_path / "i.json", "--gap", "2",
                 "--targets", "1") == 0  # fmt: skip
    assert json.loads((tmp_path / "i.json").read_text()) == {
        "first": {"context": [0, 2], "target": [1]}
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--input", "nowhere"), "no folder nowhere"),
        (("--input", "."), "Found nothing to store"),
        (("--input", "photos", "--quality", "0"), "quality"),
        (("--input", "photos", "--chunk-mb", "0"), "chunk-mb"),
    ],
)
def test_what_cannot_work_is_refused(
    posed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert make(*options, "--output", "chunks") == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_index_without_any_views_is_refused(posed: Path, tmp_path: Path, capsys) -> None:
    make("--input", posed, "--output", tmp_path / "chunks", "--split", "test")
    assert index("--root", tmp_path / "chunks", "--output", tmp_path / "i.json") == 2
    assert "None of the 1 scenes" in capsys.readouterr().err
    assert not (tmp_path / "i.json").exists()


def test_lost_index_is_made_anew(posed: Path, tmp_path: Path) -> None:
    make("--input", posed, "--output", tmp_path / "chunks", "--split", "test")
    folder = tmp_path / "chunks" / "test"
    (folder / "index.json").unlink()
    assert main(["data", "index-chunks", str(folder)]) == 0
    assert json.loads((folder / "index.json").read_text()) == {"planes": "000000.torch"}


@pytest.mark.parametrize("views", [2, 3])
def test_real_photos_go_through_chunks(data_dir: Path, tmp_path: Path, views: int) -> None:
    root = tmp_path / "chunks"
    options = ("--output", root, "--split", "test", "--per-pair", "--fit-depth")
    assert make("--input", data_dir / "temple", *options) == 0
    index_file = tmp_path / "i.json"
    options = ("--by", "pairs", "--views", str(views))
    assert index("--root", root, "--output", index_file, *options) == 0
    dataset = evaluated(root, index_file, "re10k", views, (256, 256))
    example = dataset[0]
    assert example.context_images.shape == (views, 3, 256, 256)
    assert len(example.target_images) == 5 - views
    assert 0.02 < example.context_images.mean() < 0.9
    baseline = (example.context_cameras.positions[0] - example.context_cameras.positions[-1]).norm()
    assert baseline.item() == pytest.approx(0.2720530370362895 / 0.3679977942942864, rel=1e-3)
