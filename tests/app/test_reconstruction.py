import io
import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

import hisplat_app
from hisplat_app import Reconstruction, reconstruct
from hisplat_app.reconstruction import LEAST_OPACITY, PhotoBytes, Preview
from hisplat_app.session import Cancelled
from hisplat_data_tools.cameras_json import read_cameras
from hisplat_data_tools.distortion import RadialDistortion
from hisplat_data_tools.images import Photo, load_photo
from hisplat_data_tools.ply import read_ply
from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import quaternions_to_matrices
from hisplat_models.metrics import psnr
from hisplat_models.network import HiSplat

DEMO = Path(hisplat_app.__file__).parent / "demo"
SIZE = 128
LEFT, RIGHT, CAMERAS = DEMO / "left.jpg", DEMO / "right.jpg", DEMO / "cameras.json"
MIDDLE = DEMO / "middle.jpg"


@pytest.fixture(scope="module")
def scene(untrained: HiSplat) -> Reconstruction:
    return reconstruct(LEFT, RIGHT, cameras=CAMERAS, model=untrained, size=SIZE, refine=0)


def faithfulness(scene: Reconstruction) -> list[float]:
    """PSNR of the scene seen from both of its photos' places."""
    drawn = scene.render(scene.cameras, (scene.photos.shape[-2], scene.photos.shape[-1]))
    return [psnr(a, b).item() for a, b in zip(drawn, scene.photos, strict=True)]


def test_scene_looks_like_its_photos(scene: Reconstruction):
    assert min(faithfulness(scene)) > 18


def test_report_tells_how_it_went(scene: Reconstruction):
    report = scene.report
    assert report.working_size == (SIZE, SIZE * 3 // 4)
    assert report.camera_source == "given in cameras.json"
    assert sum(report.gaussians_per_level) == scene.gaussians.count
    assert min(report.gaussians_per_level) > 0
    assert report.confident_share is not None
    assert 0.3 < report.confident_share < 1
    assert 0 < report.near < report.far
    assert {"reading the photos", "finding the cameras", "matching the photos"} <= set(
        report.seconds
    )
    assert json.loads(report.to_json())["gaussians_per_level"] == list(report.gaussians_per_level)
    assert f"{scene.gaussians.count:,} Gaussians" in report.summary()


def test_invisible_gaussians_are_left_out(scene: Reconstruction):
    assert scene.gaussians.opacities.min() >= LEAST_OPACITY


def test_three_photos_make_one_scene(untrained: HiSplat, tmp_path: Path):
    scene = reconstruct(LEFT, RIGHT, MIDDLE, fov_degrees=59.49, model=untrained, size=SIZE)
    assert scene.photos.shape == (3, 3, SIZE * 3 // 4, SIZE)
    assert scene.report.photos == ("left.jpg", "right.jpg", "middle.jpg")
    assert "three photos" in scene.report.summary()
    assert min(faithfulness(scene)) > 18
    # The middle photo was taken between the other two.
    left, right, middle = scene.cameras.positions
    assert (middle - left).norm() < (right - left).norm()
    assert (middle - right).norm() < (right - left).norm()

    scene.write_cameras(tmp_path / "cameras.json")
    again = reconstruct(
        LEFT, RIGHT, MIDDLE, cameras=tmp_path / "cameras.json", model=untrained, size=SIZE
    )
    assert torch.allclose(again.cameras.positions, scene.cameras.positions, atol=1e-5)


def test_given_cameras_without_a_range_serve_three_photos(untrained: HiSplat, tmp_path: Path):
    known = reconstruct(LEFT, RIGHT, MIDDLE, fov_degrees=59.49, model=untrained, size=64)
    known.write_cameras(tmp_path / "transforms.json")  # has no place for near and far
    scene = reconstruct(
        LEFT, RIGHT, MIDDLE, cameras=tmp_path / "transforms.json", model=untrained, size=64
    )
    assert 0 < scene.report.near < 4 < scene.report.far
    assert min(faithfulness(scene)) > 15


def test_too_many_photos_are_refused(untrained: HiSplat):
    with pytest.raises(ValueError, match="at most 8 photos, got 9"):
        reconstruct(*[LEFT] * 9, model=untrained, size=64)


def test_levels_are_shown_as_they_come_and_can_end_the_work(untrained: HiSplat):
    seen: list[Preview] = []

    def first_only(preview: Preview) -> None:
        seen.append(preview)
        raise Cancelled

    with pytest.raises(Cancelled):
        reconstruct(LEFT, RIGHT, cameras=CAMERAS, model=untrained, size=SIZE, preview=first_only)
    (preview,) = seen
    assert (preview.levels, preview.levels_in_all) == (1, 3)
    assert preview.photos.shape == (2, 3, SIZE * 3 // 4, SIZE)
    assert preview.gaussians.count > 0
    assert (preview.gaussians.level == 0).all()


def test_scene_follows_the_world_of_the_cameras(scene: Reconstruction, untrained: HiSplat):
    """Turned, moved and enlarged cameras give the turned, moved and enlarged scene."""
    pose = torch.eye(4)
    pose[:3, :3] = quaternions_to_matrices(torch.tensor([0.5, -0.3, 0.7, 0.2]))
    pose[:3, 3] = torch.tensor([3.0, -2.0, 1.0])
    whole = cameras_of_file()
    moved = reconstruct(
        LEFT,
        RIGHT,
        cameras=whole.transformed(pose).scaled(2.5),
        model=untrained,
        size=SIZE,
        refine=0,
    )
    expected = scene.gaussians.transformed(pose).scaled(2.5)
    assert moved.gaussians.count == expected.count
    error = (moved.gaussians.means - expected.means).norm(dim=-1)
    depth = (expected.means - moved.cameras.positions[0]).norm(dim=-1)
    resized = (moved.gaussians.scales / expected.scales).log().abs()
    # Pixels on the verge of two matches may fall to the other side by rounding, and with them the
    # planes by which paths of the matcher follow a slope; such matches are close to each other.
    for change in (error / depth, resized):
        assert change.quantile(0.97) < 1e-3
        assert change.quantile(0.99) < 1e-2


def cameras_of_file() -> Cameras:
    file = read_cameras(CAMERAS)
    views = [file.find("left.jpg"), file.find("right.jpg")]
    stated = file.depth_range("left.jpg", "right.jpg")
    assert stated is not None
    return Cameras(
        torch.stack([torch.from_numpy(v.camera_to_world).float() for v in views]),
        torch.stack([torch.from_numpy(v.intrinsics).float() for v in views]),
        torch.full((2,), stated[0]),
        torch.full((2,), stated[1]),
    )


def test_written_scene_and_cameras_give_the_same_again(
    scene: Reconstruction, untrained: HiSplat, tmp_path: Path
):
    scene.write_ply(tmp_path / "scene.ply")
    scene.write_cameras(tmp_path / "cameras.json")
    scene.write_report(tmp_path / "report.json")
    torch.testing.assert_close(read_ply(tmp_path / "scene.ply").means, scene.gaussians.means)
    assert json.loads((tmp_path / "report.json").read_text())["device"] == "cpu"
    again = reconstruct(LEFT, RIGHT, cameras=tmp_path / "cameras.json", model=untrained, size=SIZE)
    torch.testing.assert_close(again.cameras.intrinsics, scene.cameras.intrinsics)
    torch.testing.assert_close(again.cameras.camera_to_world, scene.cameras.camera_to_world)
    torch.testing.assert_close(again.cameras.near, scene.cameras.near)


def test_photos_of_different_sizes_keep_their_geometry(untrained: HiSplat, tmp_path: Path):
    """One photo cropped off-centre and stored larger, with a camera file that says so."""
    document = json.loads(CAMERAS.read_text())
    left, right = Image.open(LEFT), Image.open(RIGHT)
    crop = (100, 30, 640, 450)
    cropped = right.crop(crop).resize((810, 630))
    left.save(tmp_path / "left.jpg", quality=95)
    cropped.save(tmp_path / "right.jpg", quality=95)
    view = next(v for v in document["images"] if v["file"] == "right.jpg")
    view["cx"], view["cy"] = (view["cx"] - crop[0]) * 1.5, (view["cy"] - crop[1]) * 1.5
    view["fx"], view["fy"] = view["fx"] * 1.5, view["fy"] * 1.5
    view["width"], view["height"] = cropped.size
    (tmp_path / "cameras.json").write_text(json.dumps(document))
    scene = reconstruct(
        tmp_path / "left.jpg",
        tmp_path / "right.jpg",
        cameras=tmp_path / "cameras.json",
        model=untrained,
        size=SIZE,
    )
    assert min(faithfulness(scene)) > 17
    assert scene.report.confident_share is not None
    assert scene.report.confident_share > 0.3


@pytest.mark.parametrize("exif_orientation", [None, 6])
def test_the_second_photo_may_be_taken_with_the_camera_turned(
    untrained: HiSplat, exif_orientation: int | None
):
    """Both are crops of one size of photos with a focal length of 560 px, one wide and one tall."""
    wide = Image.open(LEFT).crop((80, 60, 560, 420))
    tall = Image.open(RIGHT).crop((140, 0, 500, 480))
    tags = Image.Exif()
    if exif_orientation is not None:  # stored lying on its side, as cameras do
        tall = tall.transpose(Image.Transpose.ROTATE_90)
        tags[ExifTags.Base.Orientation] = exif_orientation
    fov = math.degrees(2 * math.atan(480 / 2 / 560))
    scene = reconstruct(
        jpeg(wide, "wide.jpg"),
        jpeg(tall, "tall.jpg", tags),
        fov_degrees=fov,
        model=untrained,
        size=160,
    )
    assert [(v.width, v.height) for v in scene.image_cameras] == [(480, 360), (360, 480)]
    assert [v.fx for v in scene.image_cameras] == pytest.approx([560, 560], rel=0.02)
    direction = torch.nn.functional.cosine_similarity(
        scene.cameras.camera_to_world[1, :3, 3],
        cameras_of_file().relative().camera_to_world[1, :3, 3],
        dim=0,
    )
    assert direction > 0.99
    assert scene.photos.shape[-2:] == (160, 160)  # what both proportions have in common
    assert min(faithfulness(scene)) > 17


def jpeg(image: Image.Image, name: str, tags: Image.Exif | None = None) -> PhotoBytes:
    content = io.BytesIO()
    image.convert("RGB").save(content, "JPEG", quality=95, exif=tags or Image.Exif())
    return PhotoBytes(name, content.getvalue())


def test_cameras_are_estimated_from_the_photos_alone(untrained: HiSplat):
    content = [PhotoBytes(path.name, path.read_bytes()) for path in (LEFT, RIGHT)]
    scene = reconstruct(*content, fov_degrees=59.49, model=untrained, size=SIZE)
    torch.testing.assert_close(scene.cameras.camera_to_world[0], torch.eye(4))
    estimated = scene.cameras.camera_to_world[1]
    stated = cameras_of_file().relative().camera_to_world[1]
    direction = torch.nn.functional.cosine_similarity(estimated[:3, 3], stated[:3, 3], dim=0)
    assert direction > 0.995
    assert (estimated[:3, :3] - stated[:3, :3]).norm() < 0.02
    assert scene.report.camera_quality["inliers"] > 50
    assert min(faithfulness(scene)) > 17


def test_guessed_focal_length_is_warned_about(untrained: HiSplat):
    scene = reconstruct(LEFT, RIGHT, model=untrained, size=64)
    assert any("focal length" in warning for warning in scene.report.warnings)
    assert "assumed focal length" in scene.report.camera_source


def test_missing_depth_range_is_measured(untrained: HiSplat, tmp_path: Path):
    document = json.loads(CAMERAS.read_text())
    pairs = document.pop("pairs", [])
    near, far = document.pop("near"), document.pop("far")
    assert all("near" not in view for view in document["images"]), pairs
    path = tmp_path / "cameras.json"
    path.write_text(json.dumps(document))
    scene = reconstruct(LEFT, RIGHT, cameras=path, model=untrained, size=64)
    assert near / 3 < scene.report.near < near * 3
    assert far / 3 < scene.report.far < far * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 10}, "working size of 64 to 8192 px, got 10"),
        ({"size": 10**8}, "working size of 64 to 8192 px"),
        ({"model": "no-such-model"}, "Expected a bundled model"),
        ({"fov_degrees": 500.0}, "field of view"),
        ({"focal_px": 500.0, "fov_degrees": 60.0}, "not both"),
        ({"focal_px": 500.0, "cameras": CAMERAS}, "leave out those of the lens"),
        ({"device": "cuda", "model": "hisplat-small"}, "CUDA"),
    ],
)
def test_contradicting_options_are_refused(
    change: dict[str, object], message: str, untrained: HiSplat
):
    if change.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    options = {"model": untrained, "size": 64, **change}
    with pytest.raises(ValueError, match=message):
        reconstruct(LEFT, RIGHT, **options)  # pyright: ignore[reportArgumentType]


def test_cameras_in_one_place_are_refused(untrained: HiSplat):
    cameras = cameras_of_file()
    same = Cameras.stack([cameras[0], cameras[0]])
    with pytest.raises(ValueError, match="same place"):
        reconstruct(LEFT, RIGHT, cameras=same, model=untrained, size=64)


def test_progress_rises_and_can_cancel(untrained: HiSplat):
    heard: list[tuple[str, float]] = []

    def stop_at_matching(step: str, fraction: float) -> None:
        heard.append((step, fraction))
        if step == "matching the photos":
            raise Cancelled

    with pytest.raises(Cancelled):
        reconstruct(
            LEFT, RIGHT, cameras=CAMERAS, model=untrained, size=64, progress=stop_at_matching
        )
    fractions = [fraction for _, fraction in heard]
    assert fractions == sorted(fractions)
    assert heard[-1][0] == "matching the photos"


def test_refining_brings_the_scene_closer_to_its_photos(scene: Reconstruction, untrained: HiSplat):
    heard: list[tuple[str, float]] = []
    refined = reconstruct(
        LEFT, RIGHT, cameras=CAMERAS, model=untrained, size=SIZE, refine=8,
        progress=lambda step, fraction: heard.append((step, fraction)),
    )  # fmt: skip
    assert min(b - a for a, b in zip(faithfulness(scene), faithfulness(refined), strict=True)) > 0.5
    assert [step for step, _ in heard].count("refining the scene") == 8
    fractions = [fraction for _, fraction in heard]
    assert fractions == sorted(fractions)
    assert (refined.report.refinement_steps, scene.report.refinement_steps) == (8, 0)
    assert "refining the scene" in refined.report.seconds
    # Photos that the scene was fitted to cannot judge it: the verdict is that on the prediction.
    assert refined.report.signs == scene.report.signs
    assert refined.gaussians.opacities.min() >= LEAST_OPACITY
    assert refined.confidence is not None
    assert len(refined.confidence) == refined.gaussians.count


def test_steps_backwards_are_refused(untrained: HiSplat):
    with pytest.raises(ValueError, match="at least 0 refinement steps, got -3"):
        reconstruct(LEFT, RIGHT, cameras=CAMERAS, model=untrained, size=SIZE, refine=-3)


def test_distorted_photos_make_the_scene_of_straight_ones(
    scene: Reconstruction, untrained: HiSplat
):
    """Photos bent by the inverse of a lens's distortion, and that lens's coefficients."""
    lens = RadialDistortion(-0.08)
    bent = [bent_by(lens, load_photo(path)) for path in (LEFT, RIGHT)]
    again = reconstruct(*bent, cameras=CAMERAS, distortion=lens, model=untrained, size=SIZE)
    ignored = reconstruct(*bent, cameras=CAMERAS, model=untrained, size=SIZE)
    inner = (..., slice(8, -8), slice(8, -8))
    errors = [(s.photos[inner] - scene.photos[inner]).abs().mean() for s in (again, ignored)]
    assert errors[0] < 0.2 * errors[1]
    assert again.report.signs.cross_psnr > ignored.report.signs.cross_psnr + 0.5


def bent_by(lens: RadialDistortion, photo: Photo) -> Photo:
    """The photo as that lens would have taken it."""
    camera = read_cameras(CAMERAS).find(photo.name)
    x, y = np.meshgrid(np.arange(photo.width) + 0.5, np.arange(photo.height) + 0.5)
    seen_x, seen_y = (x - camera.cx) / camera.fx, (y - camera.cy) / camera.fy
    x, y = seen_x, seen_y
    for _ in range(50):
        stretch = lens.stretch(x**2 + y**2)
        x, y = seen_x / stretch, seen_y / stretch
    from_x = (x * camera.fx + camera.cx - 0.5).astype(np.float32)
    from_y = (y * camera.fy + camera.cy - 0.5).astype(np.float32)
    pixels = cv2.remap(
        photo.pixels, from_x, from_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return replace(photo, pixels=np.asarray(pixels))
