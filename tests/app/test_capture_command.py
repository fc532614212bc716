"""``hisplat reconstruct --transforms`` without ``--frames``: a scene of a whole capture."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hisplat_app.capture_files import read_capture
from hisplat_app.capture_reconstruction import memory_bound, most_pairs
from hisplat_app.cli import main
from hisplat_app.commands.options import CaptureOptions
from hisplat_app.step_clock import Forecast
from hisplat_data_tools.cameras_json import CameraFileError, read_cameras
from hisplat_data_tools.ply import PlyError, read_ply
from hisplat_data_tools.procedural import capture as made_up


@pytest.fixture(scope="module")
def transforms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine photos, one more than --views takes."""
    folder = tmp_path_factory.mktemp("capture")
    made_up.write_capture(folder, made_up.CaptureSettings(views=9, samples_per_pixel=1))
    return folder / "transforms.json"


def changed(transforms: Path, folder: Path, **fields: object) -> Path:
    """Another file for the same photos."""
    document = json.loads(transforms.read_text()) | fields
    for frame in document["frames"]:
        frame["file_path"] = str(transforms.parent / frame["file_path"])
    path = folder / "transforms.json"
    path.write_text(json.dumps(document))
    return path


def run(*arguments: object) -> int:
    return main([str(a) for a in arguments])


def test_a_whole_capture_becomes_a_scene(
    transforms: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    scene, cameras, report = (tmp_path / n for n in ("s.ply", "s.cameras.json", "r.json"))
    bounds = ["--most-pairs", 2, "--most-gaussians", 9000, "--size", 64, "--model", weights]
    outputs = ["--output", scene, "--cameras-out", cameras, "--report", report]
    assert run("reconstruct", "--transforms", transforms, *bounds, *outputs) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "9 photos: a scene of at most 2 pairs of them, in up to about 0.6 GB of memory" in told
    facts = json.loads(report.read_text())
    assert facts["photos"] == 9
    assert len(facts["pairs"]) <= 2
    count = read_ply(scene).count
    assert 0 < count == sum(facts["gaussians_per_level"]) <= 9000
    file, given = read_cameras(cameras), read_cameras(transforms)
    assert [view.file for view in file.images] == [view.file for view in given.images]
    assert all(view.near and view.far and view.near < view.far for view in file.images)
    assert [[p.left, p.right] for p in file.pairs] == facts["pairs"]
    assert ("--most-pairs 4 may show more" in told) == (len(facts["pairs"]) == 2)
    assert run("render", scene, "--only", given.images[0].file, "--output", tmp_path / "v.png") == 0
    drawn = np.asarray(Image.open(tmp_path / "v.png")).astype(float)
    photo = np.asarray(Image.open(transforms.parent / given.images[0].file)).astype(float)
    assert np.abs(drawn - photo).mean() < 40


def test_known_points_come_with_the_capture(transforms: Path, tmp_path: Path):
    capture = read_capture(transforms)
    assert capture.points is not None
    assert len(capture.points) == made_up.CaptureSettings().points
    x, y, depth = capture.cameras[0].project(capture.points).unbind(dim=-1)
    seen = (depth > 0) & (x > 0) & (x < 1) & (y > 0) & (y < 1)
    assert seen.float().mean() > 0.5
    assert read_capture(changed(transforms, tmp_path, ply_file_path=None)).points is None
    broken = tmp_path / "points.ply"
    broken.write_bytes(b"ply\nformat ascii 1.0\nelement face 0\nend_header\n")
    with pytest.raises(PlyError, match="holds no points"):
        read_capture(changed(transforms, tmp_path, ply_file_path="points.ply"))


def test_photos_that_are_missing_are_told_before_the_work(transforms: Path, tmp_path: Path):
    frames = json.loads(transforms.read_text())["frames"]
    frames[4]["file_path"] = "images/gone.png"
    path = changed(transforms, tmp_path, frames=frames, ply_file_path=None)
    with pytest.raises(CameraFileError, match=r"1 of 9 photos .* not there, such as .*gone\.png"):
        read_capture(path)
    with pytest.raises(CameraFileError, match="describes 1 photos"):
        read_capture(changed(transforms, tmp_path, frames=frames[:1], ply_file_path=None))


def test_a_photo_of_other_proportions_than_its_camera_is_refused(transforms: Path, tmp_path: Path):
    frames = json.loads(transforms.read_text())["frames"]
    Image.new("RGB", (90, 90)).save(tmp_path / "square.png")
    frames[0]["file_path"] = str(tmp_path / "square.png")
    capture = read_capture(changed(transforms, tmp_path, frames=frames, ply_file_path=None))
    assert capture.photos[1].width == 96
    with pytest.raises(CameraFileError, match="90x90 px, but its camera is for 96x72 px"):
        capture.photos[0]


def test_the_bound_on_memory_grows_with_what_takes_it(transforms: Path):
    capture = read_capture(transforms)
    few = memory_bound(capture, CaptureOptions(most_pairs=2).settings(64))
    assert few < memory_bound(capture, CaptureOptions(most_pairs=2).settings(96))
    assert few < memory_bound(capture, CaptureOptions(most_pairs=20).settings(64))
    many = memory_bound(capture, CaptureOptions(most_pairs=20, most_gaussians=100).settings(64))
    assert many < memory_bound(capture, CaptureOptions(most_pairs=20).settings(64))
    assert memory_bound(capture, CaptureOptions().settings(96)) == memory_bound(
        capture, CaptureOptions().settings(512)
    ), "photos are never enlarged"
    assert most_pairs(9, CaptureOptions().settings(64)) == 36
    assert most_pairs(200, CaptureOptions().settings(64)) == CaptureOptions().most_pairs


def test_the_time_left_is_told_once_after_the_first_pair():
    times = iter([100.0, 130.0])
    heard, told = [], []
    forecast = Forecast(lambda *news: heard.append(news), 0.1, told.append, lambda: next(times))
    for fraction in (0.0, 0.1, 0.2, 0.5, 0.9):
        forecast("pair", fraction)
    assert told == [pytest.approx(240)]  # 0.8 left at 0.1 in 30 s
    assert [fraction for _, fraction in heard] == [0.0, 0.1, 0.2, 0.5, 0.9]


@pytest.mark.parametrize(
    ("command", "options", "reason"),
    [
        ("reconstruct", ["--most-pairs", "0"], "--most-pairs must be at least 1, got 0"),
        ("reconstruct", ["--size", "32"], "64 to 8192 px, got 32"),
        ("reconstruct", ["--refine", "20"], "not of captures"),
        ("reconstruct", ["--fov", "60"], "brings its cameras"),
        ("reconstruct", ["--frames", "0", "1", "--most-pairs", "3"], "are for whole captures"),
        ("reconstruct", ["--frames", *"012345678"], "without --frames takes whole captures"),
        ("view", [], "name them by --frames"),
    ],
)
def test_what_does_not_go_with_a_capture_is_refused(
    transforms: Path,
    tmp_path: Path,
    command: str,
    options: list[str],
    reason: str,
    capsys: pytest.CaptureFixture[str],
):
    output = tmp_path / "scene.ply"
    written = ["--output", output] if command == "reconstruct" else []
    assert run(command, "--transforms", transforms, *options, *written) == 2
    assert reason in " ".join(capsys.readouterr().err.split())
    assert not output.exists()
