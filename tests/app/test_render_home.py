"""``hisplat render`` on scene files of which no cameras are known."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from hisplat_app.cli import main
from hisplat_app.commands.render import UpAxis
from hisplat_app.commands.render_views import HOME_SIZE
from hisplat_data_tools.cameras_json import CameraPair, ImageCamera, write_cameras
from hisplat_data_tools.scene_files import write_scene
from hisplat_models.gaussians import SH_C0, Gaussians
from hisplat_models.home_view import AXES, home_view

FAR_AWAY = torch.tensor([30.0, -8.0, 5.0])


def ball(color: tuple[float, float, float], middle: torch.Tensor, size: float = 0.2) -> Gaussians:
    """One round Gaussian."""
    return Gaussians(
        means=middle[None],
        scales=torch.full((1, 3), size),
        quaternions_wxyz=torch.tensor([[1.0, 0, 0, 0]]),
        opacities=torch.full((1,), 0.98),
        harmonics=((torch.tensor(color) - 0.5) / SH_C0)[None, None],
        level=torch.zeros(1, dtype=torch.long),
    )


def tripod() -> Gaussians:
    """White in the middle; red, green and blue balls along x, y and z, far from the origin."""
    colors = (1.0, 0.1, 0.1), (0.1, 1.0, 0.1), (0.1, 0.1, 1.0)
    arms = [ball(c, FAR_AWAY + axis, 0.15) for c, axis in zip(colors, torch.eye(3), strict=True)]
    opposite = [ball((0.5, 0.5, 0.5), FAR_AWAY - axis, 0.15) for axis in torch.eye(3)]
    return Gaussians.cat([ball((1.0, 1.0, 1.0), FAR_AWAY), *arms, *opposite])


@pytest.fixture(params=[".ply", ".splat", ".spz", ".compressed.ply"])
def lone_file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The tripod in a file that knows neither levels nor cameras."""
    path = tmp_path / f"lone{request.param}"
    write_scene(path, tripod())
    return path


def run(*arguments: object) -> int:
    return main([str(a) for a in arguments])


def place(picture: np.ndarray, channel: int) -> np.ndarray:
    """Mean (column, row) of the pixels of one colour, of a picture of width 1."""
    others = np.delete(picture.astype(int), channel, axis=-1).max(axis=-1)
    rows, columns = np.nonzero(picture[..., channel] > others + 60)
    assert len(rows), "the colour is not in the picture"
    return np.array([columns.mean(), rows.mean()]) / picture.shape[1]


def test_any_scene_file_is_drawn_as_the_page_first_shows_it(lone_file: Path):
    picture = lone_file.with_name("view.png")
    assert run("render", lone_file, "--output", picture, "--size", 120) == 0
    pixels = np.asarray(Image.open(picture))
    height, width = HOME_SIZE
    assert pixels.shape == (round(120 * height / width), 120, 3)
    assert sorted(p.name for p in lone_file.parent.iterdir()) == [lone_file.name, "view.png"]
    scene = tripod()
    expected = home_view(scene).camera(width / height).project(scene.means)[1:3, :2]
    for channel, (x, y) in enumerate(expected.numpy()):  # red and green; blue is behind the white
        np.testing.assert_allclose(place(pixels, channel), [x, y * height / width], atol=0.02)


@pytest.mark.parametrize(
    ("up", "above", "below"), [("-y", 0, 1), ("+y", 1, 0), ("+z", 2, 0), ("+x", 0, 1)]
)
def test_the_axis_that_points_up_can_be_told(tmp_path: Path, up: str, above: int, below: int):
    write_scene(tmp_path / "lone.ply", tripod())
    picture = tmp_path / "view.png"
    assert run("render", tmp_path / "lone.ply", "--output", picture, "--up", up) == 0
    pixels = np.asarray(Image.open(picture))
    assert place(pixels, above)[1] < place(pixels, below)[1] - 0.05


@pytest.mark.parametrize(("path", "frames"), [("wobble", 5), ("orbit", 5)])
def test_paths_about_the_middle_need_no_cameras(lone_file: Path, path: str, frames: int):
    folder = lone_file.with_name("frames")
    options = ["--path", path, "--seconds", 1, "--fps", frames, "--size", 80]
    assert run("render", lone_file, "--output", folder, *options) == 0
    pictures = [np.asarray(Image.open(p)) for p in sorted(folder.iterdir())]
    assert len(pictures) == frames
    places = np.stack([place(picture, 0) for picture in pictures])
    assert (np.ptp(places, axis=0) > 0).any(), "the camera does not move"
    assert (places > 0).all()
    assert (places < 1).all()


def test_a_video_of_a_lone_file_wobbles(tmp_path: Path):
    pytest.importorskip("imageio_ffmpeg")
    write_scene(tmp_path / "lone.splat", tripod())
    video = tmp_path / "lone.gif"
    options = ["--seconds", 1, "--fps", 4, "--size", 40]
    assert run("render", tmp_path / "lone.splat", "--output", video, *options) == 0
    with Image.open(video) as moving:
        assert getattr(moving, "n_frames", 1) == 4


def test_a_part_is_drawn_from_where_the_whole_is(tmp_path: Path):
    write_scene(tmp_path / "lone.ply", tripod())
    box = ["--box", *(FAR_AWAY + torch.tensor([0.5, -0.5, -0.5])).tolist()]
    box += (FAR_AWAY + torch.tensor([1.5, 0.5, 0.5])).tolist()
    for name, part in (("whole", []), ("part", box)):
        picture = tmp_path / f"{name}.png"
        assert run("render", tmp_path / "lone.ply", "--output", picture, *part) == 0
    whole, part = (np.asarray(Image.open(tmp_path / f"{n}.png")) for n in ("whole", "part"))
    np.testing.assert_allclose(place(part, 0), place(whole, 0), atol=0.01)
    assert part[..., 1].max() < 60, "only the red ball was asked for"


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (["--path", "between", "--output", "v.mp4"], "--path between"),
        (["--path", "spline", "--output", "frames"], "--path spline"),
        (["--only", "left.jpg", "--output", "view.png"], "--only"),
    ],
)
def test_what_needs_cameras_says_so(
    tmp_path: Path, options: list[str], asked: str, capsys: pytest.CaptureFixture[str]
):
    write_scene(tmp_path / "lone.ply", tripod())
    output = tmp_path / options[-1]
    assert run("render", tmp_path / "lone.ply", *options[:-1], output) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert f"{asked} needs cameras, and none are known of lone.ply: give --cameras FILE" in told
    assert not output.exists()


def test_cameras_beside_the_file_come_first(tmp_path: Path):
    write_scene(tmp_path / "lone.ply", tripod())
    pose = np.eye(4)
    pose[:3, 3] = FAR_AWAY - torch.tensor([0.0, 0.0, 5.0])
    views = [ImageCamera(n, 64, 48, 60.0, 60.0, 32.0, 24.0, pose) for n in ("a.jpg", "b.jpg")]
    write_cameras(tmp_path / "lone.cameras.json", views, [CameraPair("a.jpg", "b.jpg")])
    assert run("render", tmp_path / "lone.ply", "--output", tmp_path / "pictures") == 0
    names = sorted(p.name for p in (tmp_path / "pictures").iterdir())
    assert names == ["a.png", "b.png"]


def test_the_option_knows_the_axes_of_the_view():
    assert get_args(UpAxis) == AXES
