import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import hisplat_app
from hisplat_app import __version__, reconstruction
from hisplat_app.cli import COMMANDS, main, view_main
from hisplat_data_tools.cameras_json import read_cameras
from hisplat_data_tools.ply import read_ply

DEMO = Path(hisplat_app.__file__).parent / "demo"
Photos = tuple[Image.Image, Image.Image]
Make = Callable[[Path, Photos], tuple[Path, Path]]


def saved(folder: Path, photos: Photos, ending: str = "png", **options: Any) -> tuple[Path, Path]:
    paths = folder / f"left.{ending}", folder / f"right.{ending}"
    for photo, path in zip(photos, paths, strict=True):
        photo.save(path, **options)
    return paths


def run_reconstruct(left: Path, right: Path, output: Path, weights: Path, *more: str) -> int:
    options = ["--output", str(output), "--model", str(weights), "--size", "64", *more]
    return main(["reconstruct", "--left", str(left), "--right", str(right), *options])


def missing(folder: Path, photos: Photos) -> tuple[Path, Path]:
    left, _ = saved(folder, photos)
    return left, folder / "nowhere.jpg"


def no_image(folder: Path, photos: Photos) -> tuple[Path, Path]:
    left, right = saved(folder, photos, "jpg")
    right.write_text("Dear diary, this is not a photo.")
    return left, right


def empty(folder: Path, photos: Photos) -> tuple[Path, Path]:
    left, right = saved(folder, photos, "jpg")
    right.write_bytes(b"")
    return left, right


def truncated(folder: Path, photos: Photos) -> tuple[Path, Path]:
    left, right = saved(folder, photos)
    right.write_bytes(right.read_bytes()[:2000])
    return left, right


def folder_as_photo(folder: Path, photos: Photos) -> tuple[Path, Path]:
    left, _ = saved(folder, photos)
    return left, folder


def one_pixel(folder: Path, photos: Photos) -> tuple[Path, Path]:
    return saved(folder, (photos[0], Image.new("RGB", (1, 1))))


def gigantic(folder: Path, photos: Photos) -> tuple[Path, Path]:
    return saved(folder, (photos[0], Image.new("1", (20_000, 20_000))))


def identical(folder: Path, photos: Photos) -> tuple[Path, Path]:
    return saved(folder, (photos[0], photos[0]))


def unrelated(folder: Path, photos: Photos) -> tuple[Path, Path]:
    noise = np.random.default_rng(3).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    return saved(folder, (photos[0], Image.fromarray(noise).resize(photos[0].size)))


def black(folder: Path, photos: Photos) -> tuple[Path, Path]:
    night = Image.new("RGB", photos[0].size)
    return saved(folder, (night, night))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (missing, "There is no photo"),
        (no_image, "is not an image"),
        (empty, "is empty"),
        (truncated, "damaged or incomplete"),
        (folder_as_photo, "is a folder"),
        (one_pixel, "is 1x1 px"),
        (gigantic, "is too large"),
        (identical, "hardly moved"),
        (unrelated, "match"),
        (black, "match"),
    ],
)
def test_unusable_photos_end_with_one_clear_line(
    make: Make,
    message: str,
    demo_photos: Photos,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    left, right = make(tmp_path / "in", demo_photos)
    assert run_reconstruct(left, right, tmp_path / "out" / "scene.ply", weights) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert told.count("Error: ") == 1
    assert message in told
    assert "Traceback" not in told
    assert list((tmp_path / "out").iterdir()) == []


def sixteen_bit(folder: Path, photos: Photos) -> tuple[Path, Path]:
    gray = [np.asarray(p.convert("L"), dtype=np.uint16) * 257 for p in photos]
    return saved(folder, (Image.fromarray(gray[0]), Image.fromarray(gray[1])))


def with_alpha(folder: Path, photos: Photos) -> tuple[Path, Path]:
    clear = [p.convert("RGBA") for p in photos]
    for photo in clear:
        rows = np.linspace(155, 255, photo.height).astype(np.uint8)
        photo.putalpha(Image.fromarray(np.repeat(rows[:, None], photo.width, axis=1)))
    return saved(folder, (clear[0], clear[1]))


def cmyk(folder: Path, photos: Photos) -> tuple[Path, Path]:
    inks = photos[0].convert("CMYK"), photos[1].convert("CMYK")
    return saved(folder, inks, "jpg", quality=95)


def grayscale(folder: Path, photos: Photos) -> tuple[Path, Path]:
    return saved(folder, (photos[0].convert("L"), photos[1].convert("L")))


def animated(folder: Path, photos: Photos) -> tuple[Path, Path]:
    paths = folder / "left.gif", folder / "right.gif"
    for photo, path in zip(photos, paths, strict=True):
        photo.save(path, save_all=True, append_images=[photo.rotate(180)])
    return paths


def two_sizes(folder: Path, photos: Photos) -> tuple[Path, Path]:
    return saved(folder, (photos[0], photos[1].crop((20, 0, 300, 240))))


def turned_by_exif(folder: Path, photos: Photos) -> tuple[Path, Path]:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise
    turned = [p.transpose(Image.Transpose.ROTATE_90) for p in photos]
    return saved(folder, (turned[0], turned[1]), "jpg", exif=exif, quality=95)


@pytest.mark.parametrize(
    "make", [grayscale, with_alpha, sixteen_bit, cmyk, animated, two_sizes, turned_by_exif]
)
def test_unusual_photos_work(make: Make, demo_photos: Photos, weights: Path, tmp_path: Path):
    (tmp_path / "in").mkdir()
    left, right = make(tmp_path / "in", demo_photos)
    report = tmp_path / "report.json"
    status = run_reconstruct(
        left, right, tmp_path / "scene.ply", weights, "--report", str(report), "--fov", "59.5"
    )
    assert status == 0
    gaussians = read_ply(tmp_path / "scene.ply")
    facts = json.loads(report.read_text())
    assert gaussians.count == sum(facts["gaussians_per_level"]) > 1000
    width, height = facts["working_size"]
    assert width >= height, "the photo lies on its side"


def test_refining_changes_the_file_and_is_reported(weights: Path, tmp_path: Path):
    paths = DEMO / "left.jpg", DEMO / "right.jpg"
    known = ["--cameras", str(DEMO / "cameras.json"), "--report", str(tmp_path / "report.json")]
    files = [tmp_path / "plain.ply", tmp_path / "refined.ply"]
    for steps, file in zip((0, 3), files, strict=True):
        assert run_reconstruct(*paths, file, weights, *known, "--refine", str(steps)) == 0
        assert json.loads((tmp_path / "report.json").read_text())["refinement_steps"] == steps
    assert files[0].read_bytes() != files[1].read_bytes()


def test_reconstruct_then_render_shows_the_photos(weights: Path, tmp_path: Path):
    ply, cameras = tmp_path / "scene.ply", tmp_path / "cameras.json"
    known = ["--cameras", str(DEMO / "cameras.json"), "--cameras-out", str(cameras)]
    assert run_reconstruct(DEMO / "left.jpg", DEMO / "right.jpg", ply, weights, *known) == 0
    drawing = ["render", str(ply), "--cameras", str(cameras), "--size", "64"]
    assert main([*drawing, "--output", str(tmp_path / "pictures")]) == 0
    assert main([*drawing, "--only", "left.jpg", "--output", str(tmp_path / "one.png")]) == 0
    for side in ("left", "right"):
        drawn = Image.open(tmp_path / "pictures" / f"{side}.png")
        photo = Image.open(DEMO / f"{side}.jpg").resize(drawn.size, Image.Resampling.BOX)
        error = np.asarray(drawn, dtype=float) - np.asarray(photo, dtype=float)
        assert np.sqrt((error**2).mean()) < 35
    one = np.asarray(Image.open(tmp_path / "one.png"))
    assert (one == np.asarray(Image.open(tmp_path / "pictures" / "left.png"))).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fly"], "There is no command 'fly'"),
        (["reconstruct", "--left", "a.jpg", "--right", "b.jpg", "--output", "/no/s.ply"], "/no"),
        (["view", "--left", "a.jpg"], "both --left and --right"),
        (["view", "--demo", "--fov", "60"], "--demo brings its own"),
        (["view", "--export", "scene.ply"], "--export needs a scene"),
        (["view", "--fov", "60"], "describe --left and --right"),
        (["view", "--demo", "--port", "-4"], "--port of 0 to 65535"),
        (["view", "--demo", "--port", "99999"], "--port of 0 to 65535"),
        (["render", "no.ply", "--cameras", "no.json", "--output", "out"], "no.json"),
    ],
)
def test_wrong_requests_end_with_one_clear_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    assert main(arguments) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert message in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    "wanted",
    [
        lambda: np.empty(10**16),
        lambda: torch.empty(10**16),
        lambda: cv2.resize(np.zeros((8, 8, 3), np.uint8), (10**8, 10**8)),
    ],
)
def test_a_wish_too_large_for_the_memory_ends_with_one_clear_line(
    wanted: Callable[[], object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(reconstruction, "reconstruct", lambda *photos, **options: wanted())
    photos = ["--left", str(DEMO / "left.jpg"), "--right", str(DEMO / "right.jpg")]
    assert main(["reconstruct", *photos, "--output", str(tmp_path / "s.ply")]) == 2
    assert "memory does not suffice" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setenv("HISPLAT_DEBUG", "1")
    with pytest.raises((MemoryError, RuntimeError, cv2.error)):
        main(["reconstruct", *photos, "--output", str(tmp_path / "s.ply")])


def test_other_errors_of_the_program_are_not_taken_for_a_lack_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def crash(*photos: object, **options: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(reconstruction, "reconstruct", crash)
    photos = ["--left", str(DEMO / "left.jpg"), "--right", str(DEMO / "right.jpg")]
    with pytest.raises(RuntimeError, match="out of luck"):
        main(["reconstruct", *photos, "--output", str(tmp_path / "s.ply")])


def test_two_kinds_of_lens_contradict_each_other(tmp_path: Path, weights: Path):
    paths = DEMO / "left.jpg", DEMO / "right.jpg"
    lens = ["--focal", "500", "--fov", "60"]
    assert run_reconstruct(*paths, tmp_path / "s.ply", weights, *lens) == 2


def test_view_refuses_an_address_of_another_machine(
    weights: Path, capsys: pytest.CaptureFixture[str]
):
    options = ["--host", "192.0.2.1", "--no-open", "--model", str(weights)]
    assert view_main(options) == 2
    assert "Cannot listen on '192.0.2.1'" in " ".join(capsys.readouterr().err.split())


def test_missing_options_are_told(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["reconstruct", "--left", "a.jpg"])
    assert ended.value.code == 2
    assert "--output" in capsys.readouterr().err


@pytest.mark.parametrize("program", [main, view_main])
def test_version(program: Callable[[list[str]], int], capsys: pytest.CaptureFixture[str]):
    assert program(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: hisplat {command}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--help"], ["view", "--help"], ["reconstruct", "--help"]])
def test_help_does_not_wait_for_torch(arguments: list[str]):
    program = (
        "import sys\nfrom hisplat_app.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules and 'viser' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_view_serves_the_pair_until_it_is_interrupted(weights: Path, tmp_path: Path):
    export = tmp_path / "scene.ply"
    program = [sys.executable, "-m", "hisplat_app", "view", "--demo", "--no-open", "--port", "0"]
    program += ["--size", "64", "--model", str(weights), "--export", str(export)]
    with subprocess.Popen(
        program, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    ) as process:
        try:
            assert process.stderr is not None
            told = read_until(process.stderr, "Wrote")
            time.sleep(1)  # what was written is shown next
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert "Open http://127.0.0.1:" in told
    assert read_ply(export).count > 1000


def heed_interrupts() -> None:
    """A program started in the background of a script inherits that Ctrl+C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def read_until(stream: IO[str], mark: str) -> str:
    told, deadline = "", time.monotonic() + 240
    while mark not in told and time.monotonic() < deadline:
        line = stream.readline()
        if not line:
            break
        told += line
    assert mark in told, told
    return told


def test_scene_of_three_photos(weights: Path, tmp_path: Path):
    photos = [str(DEMO / f"{name}.jpg") for name in ("left", "right", "middle")]
    output = tmp_path / "scene.ply"
    options = ["--output", str(output), "--model", str(weights), "--size", "64", "--fov", "59.5"]
    assert main(["reconstruct", "--views", *photos, *options]) == 0
    assert read_ply(output).count > 0


def test_frames_of_a_capture(weights: Path, tmp_path: Path):
    options = ["--output", str(tmp_path / "scene.ply"), "--model", str(weights), "--size", "64"]
    capture = ["--transforms", str(DEMO / "cameras.json")]
    report = tmp_path / "report.json"
    chosen = [*capture, "--frames", "1", "0", "--report", str(report)]
    assert main(["reconstruct", *chosen, *options]) == 0
    names = [view.file for view in read_cameras(DEMO / "cameras.json").images]
    told = json.loads(report.read_text())
    assert told["photos"] == [names[1], names[0]]
    assert told["camera_source"] == "given in cameras.json"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ([], "No photos"),
        (["--left", "a.png"], "both --left and --right"),
        (["--left", "a.png", "--right", "b.png", "--views", "a.png", "b.png"], "Give either"),
        (["--views", "a.png"], "two to 8 photos, got 1"),
        (["--views", *["a.png"] * 9], "two to 8 photos, got 9"),
        (["--frames", "1", "2"], "needs --transforms"),
        (["--transforms", "CAPTURE", "--frames", "0", "99"], "not 99"),
        (["--transforms", "CAPTURE", "--frames", "1", "0", "1"], "a frame twice"),
        (["--transforms", "CAPTURE", "--frames", "0", "1", "--fov", "60"], "brings its cameras"),
        (["--views", "a", "b", "--distortion", "-0.1", "0.02", "0"], "k1, or k1 and k2"),
        (["--views", "a", "b", "--refine", "-1"], "--refine must be at least 0, got -1"),
    ],
)
def test_unclear_photos_are_refused(
    options: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    capture = str(DEMO / "cameras.json")
    given = [capture if option == "CAPTURE" else option for option in options]
    output = tmp_path / "scene.ply"
    assert main(["reconstruct", *given, "--output", str(output)]) == 2
    assert reason in " ".join(capsys.readouterr().err.split())
    assert not output.exists()
