from dataclasses import replace
from pathlib import Path

import cv2
import pytest
import torch

import hisplat_app
from hisplat_app import Reconstruction, reconstruct
from hisplat_app.self_check import Signs
from hisplat_app.verdict import GOOD_DB, USABLE_DB, expected_psnr, verdict_of
from hisplat_data_tools.cameras_json import read_cameras, to_cameras
from hisplat_data_tools.images import Photo, load_photo
from hisplat_models.cameras import Cameras
from hisplat_models.metrics import psnr
from hisplat_models.network import HiSplat

DEMO = Path(hisplat_app.__file__).parent / "demo"
SIZE = 128
FINE = Signs(
    cross_psnr=GOOD_DB + 5,
    overlap=1.0,
    agreed=0.9,
    unexplained=0.01,
    mismatch=None,
    parallax_deg=10.0,
    texture=0.9,
    faults=(None, None),
)


def demo_cameras(turn_right_by: float = 0.0) -> Cameras:
    """Cameras of the demo's pair, the right one turned about its y axis by so many radians."""
    file = read_cameras(DEMO / "cameras.json")
    views = [file.find(name) for name in ("left.jpg", "right.jpg")]
    depths = file.depth_range("left.jpg", "right.jpg")
    assert depths is not None
    cameras = to_cameras(views, *depths)
    angle = torch.tensor(turn_right_by)
    turn = torch.eye(4)
    turn[0, 0] = turn[2, 2] = angle.cos()
    turn[0, 2], turn[2, 0] = angle.sin(), -angle.sin()
    poses = cameras.camera_to_world.clone()
    poses[1] = poses[1] @ turn
    return replace(cameras, camera_to_world=poses)


def photos() -> list[Photo]:
    return [load_photo(DEMO / name) for name in ("left.jpg", "right.jpg")]


def made(network: HiSplat, pair: list[Photo], cameras: Cameras) -> Reconstruction:
    return reconstruct(*pair, cameras=cameras, model=network, size=SIZE)


@pytest.fixture(scope="module")
def sound(untrained: HiSplat) -> Reconstruction:
    return made(untrained, photos(), demo_cameras())


def test_wrong_cameras_are_noticed(sound: Reconstruction, untrained: HiSplat):
    wrong = made(untrained, photos(), demo_cameras(turn_right_by=0.1))
    assert wrong.report.signs.cross_psnr < sound.report.signs.cross_psnr - 3
    assert wrong.report.verdict.grade != "good"
    assert str(wrong.report.verdict) in wrong.report.warnings


def test_a_photo_is_not_checked_against_its_own_gaussians(
    sound: Reconstruction, untrained: HiSplat
):
    """A photo's own Gaussians draw it whatever it shows, so they would praise any scene."""
    left, right = photos()
    mirrored = replace(right, pixels=right.pixels[:, ::-1].copy())
    odd = made(untrained, [left, mirrored], demo_cameras())
    drawn = odd.render(odd.cameras, (odd.photos.shape[-2], odd.photos.shape[-1]))
    assert psnr(drawn, odd.photos).min() > odd.report.signs.cross_psnr + 1
    assert odd.report.signs.cross_psnr < sound.report.signs.cross_psnr - 5
    assert odd.report.verdict.grade == "poor"


def test_overlap_is_what_the_other_photo_shows(sound: Reconstruction, untrained: HiSplat):
    same = demo_cameras()
    narrow = same.intrinsics.clone()
    narrow[1, :2, :2] *= 2  # the right photo shows half the width and half the height
    half = made(untrained, photos(), replace(same, intrinsics=narrow))
    assert half.report.signs.overlap < sound.report.signs.overlap - 0.15
    assert 0 < sound.report.signs.overlap <= 1


def test_plain_photos_have_no_texture(sound: Reconstruction, untrained: HiSplat):
    gray = [replace(p, pixels=p.pixels // 64 + 120) for p in photos()]
    plain = made(untrained, gray, demo_cameras())
    assert plain.report.signs.texture < 0.1 < sound.report.signs.texture


def test_a_good_scene_is_told_in_the_summary_and_not_among_the_warnings(
    sound: Reconstruction, untrained: HiSplat, monkeypatch: pytest.MonkeyPatch
):
    assert sound.report.verdict.grade == "good"
    assert str(sound.report.verdict) in sound.report.summary()
    assert not sound.report.warnings
    monkeypatch.setattr("hisplat_app.verdict.GOOD_DB", 100.0)
    report = made(untrained, photos(), demo_cameras()).report
    assert report.verdict.grade == "usable"
    assert report.warnings == (str(report.verdict),)
    assert "Quality" not in report.summary()


def test_grades_fall_with_what_the_photos_say_of_each_other():
    grades = [
        verdict_of(replace(FINE, cross_psnr=FINE.cross_psnr + change), {}, 2).grade
        for expected in (GOOD_DB, GOOD_DB - 0.1, USABLE_DB, USABLE_DB - 0.1)
        for change in (expected - expected_psnr(FINE),)
    ]
    assert grades == ["good", "usable", "usable", "poor"]


def test_photos_that_are_hard_to_match_are_expected_to_look_worse():
    sharp, soft = (expected_psnr(replace(FINE, mismatch=value)) for value in (0.5, 0.8))
    assert sharp > soft + 5


@pytest.mark.parametrize(
    ("sign", "value", "told"),
    [
        ("overlap", 0.4, "only 40% of what a photo shows"),
        ("agreed", 0.3, "depth of only 30% of pixels"),
        ("unexplained", 0.2, "20% of what photos should have in common could not be matched"),
        ("texture", 0.2, "only 20% of the photos has texture"),
        ("parallax_deg", 1.0, "moved little"),
        ("parallax_deg", 35.0, "moved far"),
        ("faults", ("dark", None), "one photo is dark"),
    ],
)
def test_a_poor_scene_has_its_reason(sign: str, value: object, told: str):
    signs = replace(FINE, cross_psnr=USABLE_DB - 1, **{sign: value})
    verdict = verdict_of(signs, {"inliers": 500.0}, 2)
    assert verdict.grade == "poor"
    (reason,) = verdict.reasons
    assert told in reason


@pytest.mark.parametrize(
    ("signs", "figures", "told"),
    [
        (replace(FINE, faults=("blurred", "blurred")), {}, "both photos are blurred"),
        (replace(FINE, parallax_deg=0.6), {}, "moved little"),
        (replace(FINE, overlap=0.3), {}, "only 30% of what a photo shows"),
        (FINE, {"fitting_zoom": 1.9}, "a focal length 1.9 times as long"),
        (FINE, {"repeated_share": 0.7}, "looks alike"),
        (FINE, {"inliers": 300.0, "matches": 500.0}, "40% of the matching points contradict"),
    ],
)
def test_that_photos_agree_is_not_enough(signs: Signs, figures: dict[str, float], told: str):
    verdict = verdict_of(signs, {"inliers": 500.0, "matches": 550.0} | figures, 2)
    assert verdict.grade == "usable"
    assert told in verdict.reasons[0]


def test_the_most_telling_reasons_are_enough():
    signs = replace(FINE, faults=("dark", "noisy"), overlap=0.1, texture=0.1, parallax_deg=50.0)
    reasons = verdict_of(signs, {"inliers": 20.0, "matches": 500.0}, 2).reasons
    assert len(reasons) == 3
    assert "dark" in reasons[0]


def test_few_points_for_the_cameras_are_a_reason():
    signs = replace(FINE, cross_psnr=USABLE_DB - 1)
    assert "only 20 matching points" in str(verdict_of(signs, {"inliers": 20.0}, 2))
    assert "only 9 matching points" in str(
        verdict_of(signs, {"points": 900.0, "fewest_points": 9.0}, 3)
    )
    assert "differ in fine detail" in str(verdict_of(signs, {}, 2))


def test_blurred_photos_are_told_of(sound: Reconstruction, untrained: HiSplat):
    """They agree better than sharp ones, for there is nothing fine to disagree on."""
    blurred = [replace(p, pixels=cv2.GaussianBlur(p.pixels, (0, 0), 12)) for p in photos()]
    report = made(untrained, blurred, demo_cameras()).report
    assert report.signs.cross_psnr > sound.report.signs.cross_psnr
    assert report.signs.faults == ("blurred", "blurred")
    assert "both photos are blurred" in str(report.verdict)


def test_what_moved_between_the_photos_is_told_of(sound: Reconstruction, untrained: HiSplat):
    left, right = photos()
    moved = [left.pixels.copy(), right.pixels.copy()]
    thing = left.pixels[:200, :200, ::-1]
    moved[0][240:440, 60:260] = thing
    moved[1][100:300, 380:580] = thing
    pair = [replace(left, pixels=moved[0]), replace(right, pixels=moved[1])]
    report = made(untrained, pair, demo_cameras()).report
    assert report.signs.unexplained is not None
    assert sound.report.signs.unexplained is not None
    assert report.signs.unexplained > sound.report.signs.unexplained + 0.05
    assert "moving things" in str(report.verdict)
