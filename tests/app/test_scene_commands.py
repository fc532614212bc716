"""``hisplat export`` and ``hisplat render`` on scenes of two walls."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import hisplat_app
from hisplat_app.cli import main
from hisplat_app.drawing import SceneDrawer
from hisplat_data_tools.cameras_json import CameraPair, ImageCamera, read_cameras, write_cameras
from hisplat_data_tools.depth_maps import from_depth_png_bytes
from hisplat_data_tools.scene_files import read_scene, write_scene
from hisplat_models.gaussians import SH_C0, Gaussians

SIZE = (48, 65)  # odd, as photos may be


def wall(depth: float, color: tuple[float, float, float], level: int, half: float) -> Gaussians:
    """A square wall across the view."""
    side = torch.linspace(-half, half, 24)
    x, y = torch.meshgrid(side, side, indexing="xy")
    means = torch.stack([x, y, torch.full_like(x, depth)], dim=-1).reshape(-1, 3)
    n = len(means)
    return Gaussians(
        means=means,
        scales=torch.full((n, 3), half / 20),
        quaternions_wxyz=torch.tensor([1.0, 0, 0, 0]).expand(n, 4).clone(),
        opacities=torch.full((n,), 0.95 if level else 0.9),
        harmonics=((torch.tensor(color) - 0.5) / SH_C0).expand(n, 1, 3).clone(),
        level=torch.full((n,), level),
    )


@pytest.fixture
def scene_file(tmp_path: Path) -> Path:
    """A red wall behind, a smaller green one before it; and two cameras beside the file."""
    scene = Gaussians.cat([wall(6.0, (0.9, 0.1, 0.1), 0, 6.0), wall(3.0, (0.1, 0.8, 0.1), 2, 0.5)])
    write_scene(tmp_path / "scene.ply", scene)
    poses = [np.eye(4), np.eye(4)]
    poses[1][0, 3] = 0.6
    views = [
        ImageCamera(f"{name}.jpg", SIZE[1], SIZE[0], 60.0, 60.0, 32.5, 24.0, pose)
        for name, pose in zip(("left", "right"), poses, strict=True)
    ]
    write_cameras(tmp_path / "scene.cameras.json", views, [CameraPair("left.jpg", "right.jpg")])
    return tmp_path / "scene.ply"


def run(*arguments: object) -> int:
    return main([str(a) for a in arguments])


def frames_of(path: Path) -> list[np.ndarray]:
    stream, frames = cv2.VideoCapture(str(path)), []
    while (read := stream.read())[0]:
        frames.append(read[1][..., ::-1].astype(int))
    return frames


def greens(picture: np.ndarray) -> np.ndarray:
    """Mean column and number of the pixels that show the near wall."""
    near = picture[..., 1] > picture[..., 0]
    return np.array([np.nonzero(near)[1].mean(), near.sum()])


def test_export_writes_every_format_at_once(scene_file: Path):
    outputs = [
        scene_file.with_name(f"copy{e}") for e in (".ply", ".compressed.ply", ".splat", ".spz")
    ]
    cloud = scene_file.with_name("points.glb")
    assert run("export", scene_file, "--output", *outputs, cloud) == 0
    original = read_scene(scene_file)
    assert outputs[0].read_bytes() == scene_file.read_bytes()
    for path in outputs[1:]:
        assert read_scene(path).count == original.count
    assert cloud.read_bytes()[:4] == b"glTF"
    assert run("export", outputs[3], "--output", scene_file.with_name("back.ply")) == 0
    back = read_scene(scene_file.with_name("back.ply"))
    torch.testing.assert_close(back.means, original.means, atol=1e-4, rtol=0)


def test_export_takes_a_part(scene_file: Path):
    part = scene_file.with_name("part.ply")
    assert run("export", scene_file, "--output", part, "--levels", "fine") == 0
    assert (read_scene(part).means[:, 2] == 3).all()
    assert run("export", scene_file, "--output", part, "--levels", "coarse", "fine") == 0
    assert read_scene(part).count == 2 * 24 * 24
    assert run("export", scene_file, "--output", part, "--min-opacity", "0.93") == 0
    assert read_scene(part).count == 24 * 24


def test_export_filters_like_the_page(scene_file: Path):
    part = scene_file.with_name("part.ply")
    whole = read_scene(scene_file)
    box = ["--box", -0.2, -5, 0, 0.3, 5, 4]
    assert run("export", scene_file, "--output", part, *box, "--scale", 2) == 0
    gaussians = read_scene(part)
    x, _, z = whole.means.T
    inside = whole[(x >= -0.2) & (x <= 0.3) & (z <= 4)]
    torch.testing.assert_close(gaussians.means, inside.means)
    torch.testing.assert_close(gaussians.scales, 2 * inside.scales)
    assert run("export", scene_file, "--output", part, "--sizes", 0, 40) == 0
    assert read_scene(part).level.unique().tolist() == [2]  # the near wall


def test_export_cuts_harmonics(scene_file: Path):
    scene = read_scene(scene_file)
    colorful = replace(scene, harmonics=torch.randn(scene.count, 16, 3) * 0.1)
    write_scene(scene_file, colorful)
    for degree in (0, 2):
        assert run("export", scene_file, "--output", scene_file, "--sh-degree", degree) == 0
    assert read_scene(scene_file).sh_degree == 0


def test_export_converts_cameras(scene_file: Path):
    cameras = scene_file.with_name("scene.cameras.json")
    transforms, model = scene_file.with_name("transforms.json"), scene_file.with_name("sparse")
    assert run("export", scene_file, "--cameras", cameras, "--cameras-out", transforms, model) == 0
    for one, other in zip(
        read_cameras(transforms).images, read_cameras(cameras).images, strict=True
    ):
        assert one.camera_to_world == pytest.approx(other.camera_to_world)
    assert sorted(p.name for p in model.iterdir()) == ["cameras.txt", "images.txt", "points3D.txt"]
    points = [p for p in (model / "points3D.txt").read_text().splitlines() if p[0] != "#"]
    assert len(points) == 24 * 24


def test_render_draws_the_views_of_a_file_beside_the_scene(scene_file: Path):
    folder = scene_file.with_name("pictures")
    assert run("render", scene_file, "--output", folder) == 0
    left, right = (
        np.asarray(Image.open(folder / f"{s}.png")).astype(int) for s in ("left", "right")
    )
    assert left.shape == (*SIZE, 3)
    moved = greens(left)[0] - greens(right)[0]
    assert moved == pytest.approx(60 * 0.6 / 3, abs=0.5)  # focal times baseline over depth


def test_render_writes_true_depth(scene_file: Path):
    folder = scene_file.with_name("pictures")
    options = ["--save-depth", "--show", "depth", "--only", "left.jpg"]
    assert run("render", scene_file, "--output", folder, *options) == 0
    assert sorted(p.name for p in folder.iterdir()) == ["left.depth.png", "left.npy", "left.png"]
    depth = np.load(folder / "left.npy")
    assert depth[24, 32] == pytest.approx(3, abs=0.1)
    assert depth[5, 5] == pytest.approx(6, abs=0.1)
    stored = from_depth_png_bytes((folder / "left.depth.png").read_bytes())
    assert np.abs(stored - depth).max() <= 0.0005 * 1.01
    picture = np.asarray(Image.open(folder / "left.png")).astype(int)
    assert picture[24, 32, 0] > picture[24, 32, 2]  # near is red
    assert picture[5, 5, 2] > picture[5, 5, 0]


def test_a_level_can_be_drawn_alone_over_any_background(scene_file: Path):
    picture = scene_file.with_name("left.png")
    options = ["--only", "left.jpg", "--levels", "fine", "--background", "#2040ff"]
    assert run("render", scene_file, "--output", picture, *options) == 0
    pixels = np.asarray(Image.open(picture))
    assert pixels[2, 2].tolist() == [0x20, 0x40, 0xFF]
    assert pixels[24, 32, 1] > 180


@pytest.mark.parametrize("ending", [".mp4", ".webm", ".gif"])
def test_a_video_goes_from_the_left_photo_to_the_right_and_back(scene_file: Path, ending: str):
    pytest.importorskip("imageio_ffmpeg")
    video = scene_file.with_name(f"v{ending}")
    assert run("render", scene_file, "--output", video, "--seconds", 1, "--fps", 10) == 0
    frames = frames_of(video)
    assert len(frames) == 10
    columns = [greens(f[: SIZE[0], : SIZE[1]])[0] for f in frames]
    assert columns[0] - columns[5] == pytest.approx(12, abs=1.5)
    assert columns[3] == pytest.approx(columns[7], abs=1)
    names = {p.name for p in scene_file.parent.iterdir()}
    assert names == {"scene.ply", "scene.cameras.json", f"v{ending}"}


@pytest.mark.parametrize("path", ["between", "wobble", "orbit", "spline"])
def test_every_path_can_be_drawn_as_pictures(scene_file: Path, path: str):
    folder = scene_file.with_name(path)
    options = ["--path", path, "--seconds", 1, "--fps", 6, "--size", 32]
    assert run("render", scene_file, "--output", folder, *options) == 0
    assert sorted(p.name for p in folder.iterdir()) == [f"frame_{i:05d}.png" for i in range(6)]
    pictures = [np.asarray(Image.open(p)).astype(int) for p in sorted(folder.iterdir())]
    assert all(greens(p)[1] > 20 for p in pictures)
    assert max(np.abs(p - pictures[0]).max() for p in pictures) > 30


def test_an_orbit_keeps_the_near_wall_where_it_is(scene_file: Path):
    folder = scene_file.with_name("orbit")
    options = ["--path", "orbit", "--levels", "fine", "--seconds", 1, "--fps", 4, "--degrees", 20]
    assert run("render", scene_file, "--output", folder, *options) == 0
    columns = [greens(np.asarray(Image.open(p)).astype(int))[0] for p in sorted(folder.iterdir())]
    assert max(columns) - min(columns) < 2.5  # without turning it would be 20


@pytest.mark.parametrize("ending", [".mp4", ".gif"])
def test_an_interrupted_video_leaves_nothing(
    scene_file: Path, ending: str, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("imageio_ffmpeg")
    before = sorted(scene_file.parent.iterdir())
    draw, calls = SceneDrawer.draw, []

    def interrupted(self: SceneDrawer, *arguments: object) -> object:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return draw(self, *arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(SceneDrawer, "draw", interrupted)
    assert run("render", scene_file, "--output", scene_file.with_name(f"v{ending}")) == 130
    assert sorted(scene_file.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "SCENE"], "Nothing to write"),
        (["export", "SCENE", "--output", "a.obj"], "known endings are .compressed.ply"),
        (["export", "SCENE", "--output", "no/a.ply"], "does not exist"),
        (["export", "SCENE", "--cameras-out", "a.json"], "belong together"),
        (["export", "SCENE", "--output", "HERE/a.spz", "--min-opacity", "1"], "None of the 1152"),
        (["export", "SCENE", "--output", "HERE/a.spz", "--min-opacity", "2"], "from 0 to 1"),
        (["export", "SCENE", "--output", "HERE/a.spz", "--sizes", "60", "40"], "LOW < HIGH"),
        (["export", "SCENE", "--output", "HERE/a.spz", "--scale", "0"], "--scale above 0"),
        (
            ["export", "SCENE", "--output", "HERE/a.spz", "--box", *"012312"],
            "second corner above the first",
        ),
        (["export", "HERE/gone.ply", "--output", "HERE/a.spz"], "There is no scene"),
        (["render", "SCENE", "--output", "HERE/one.png"], "2 views are to be drawn"),
        (["render", "SCENE", "--output", "no/v.mp4"], "does not exist"),
        (["render", "SCENE", "--output", "HERE/v.mp4", "--fps", "0"], "--fps"),
        (["render", "SCENE", "--output", "HERE/v.avi", "--path", "orbit"], "videos .mp4"),
        (["render", "SCENE", "--output", "HERE/v.v2", "--path", "orbit"], "expected .mp4"),
        (["render", "SCENE", "--output", "HERE/v.jpg"], "pictures are .png"),
        (["render", "SCENE", "--output", "no/v.png", "--only", "left.jpg"], "does not exist"),
        (["render", "SCENE", "--output", "HERE/x", "--size", "10000000"], "--size of 1 to 8192"),
        (
            ["render", "SCENE", "--output", "HERE/v.gif", "--path", "orbit", "--degrees", "nan"],
            "--degrees up to 3600",
        ),
        (["render", "SCENE", "--output", "HERE/v.mp4", "--degrees", "9"], "belongs to --path"),
        (["render", "SCENE", "--output", "HERE/x", "--background", "blueish"], "blueish"),
        (["render", "HERE/gone.ply", "--output", "HERE/x"], "There is no scene"),
        (["render", "SCENE", "--output", "HERE/x", "--up", "+z"], "for scenes without cameras"),
    ],
)
def test_wrong_requests_end_with_one_clear_line(
    scene_file: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    here = str(scene_file.parent)
    before = sorted(scene_file.parent.iterdir())
    assert run(*(a.replace("SCENE", str(scene_file)).replace("HERE", here) for a in arguments)) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert message in told
    assert told.count("Error: ") == 1
    assert sorted(scene_file.parent.iterdir()) == before


def test_levels_of_a_scene_without_levels_cannot_be_chosen(
    scene_file: Path, capsys: pytest.CaptureFixture[str]
):
    flat = scene_file.with_name("flat.splat")
    assert run("export", scene_file, "--output", flat) == 0
    wanted = ["--levels", "fine", "--output", scene_file.with_name("x.ply")]
    assert run("export", flat, *wanted) == 2
    assert "tells no levels" in " ".join(capsys.readouterr().err.split())


def test_reconstruct_writes_every_format_asked_for(weights: Path, tmp_path: Path):
    demo = Path(hisplat_app.__file__).parent / "demo"
    photos = ["--left", demo / "left.jpg", "--right", demo / "right.jpg"]
    known = ["--cameras", demo / "cameras.json", "--model", weights, "--size", 64]
    scenes = [tmp_path / "a.ply", tmp_path / "b.spz"]
    cameras = [tmp_path / "a.cameras.json", tmp_path / "transforms.json", tmp_path / "sparse"]
    options = [*photos, *known, "--output", *scenes, "--cameras-out", *cameras]
    assert run("reconstruct", *options) == 0
    assert read_scene(scenes[0]).count == read_scene(scenes[1]).count > 1000
    own, theirs = (read_cameras(path).images for path in cameras[:2])
    assert [v.file for v in own] == [v.file for v in theirs] == ["left.jpg", "right.jpg"]
    assert (cameras[2] / "points3D.txt").stat().st_size > 1000
    assert run("render", scenes[0], "--size", 32, "--output", tmp_path / "pictures") == 0
    assert run("reconstruct", *photos, *known, "--output", tmp_path / "a.obj") == 2
