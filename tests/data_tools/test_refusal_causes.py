"""Photos that cannot be used are refused with what is wrong with them; the others pass."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import hisplat_app
from hisplat_data_tools.images import load_photo
from hisplat_data_tools.intrinsics import normalized_intrinsics
from hisplat_data_tools.keypoints import Keypoints
from hisplat_data_tools.photo_condition import PhotoCondition, faults_in_words
from hisplat_data_tools.two_view import TwoViewError, TwoViewEstimate, estimate_two_view

DEMO = Path(hisplat_app.__file__).parent / "demo"
FOCAL_PX = 560.0
Pixels = np.ndarray


@pytest.fixture(scope="module")
def pair() -> tuple[Pixels, Pixels]:
    left, right = (load_photo(DEMO / f"{side}.jpg").pixels for side in ("left", "right"))
    return left, right


def brightened(photo: Pixels, gain: float, noise: float = 0.0) -> Pixels:
    rough = photo * gain + np.random.default_rng(0).normal(0, 1, photo.shape) * noise
    return rough.round().clip(0, 255).astype(np.uint8)


def blurred(photo: Pixels) -> Pixels:
    return cv2.GaussianBlur(photo, (0, 0), 5)


def mirrored(photo: Pixels) -> Pixels:
    return photo[:, ::-1].copy()


def estimated(left: Pixels, right: Pixels, focal_px: float = FOCAL_PX) -> TwoViewEstimate:
    intrinsics = [normalized_intrinsics(focal_px, p.shape[1], p.shape[0]) for p in (left, right)]
    return estimate_two_view(left, right, intrinsics[0], intrinsics[1])


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda p: p, None),
        (lambda p: brightened(p, 0.5), None),
        (lambda p: brightened(p, 0.06, noise=1.0), "dark"),
        (lambda p: brightened(p, 5.0), "overexposed"),
        (lambda p: brightened(p, 1.0, noise=30.0), "noisy"),
        (blurred, "blurred"),
        (lambda p: cv2.blur(p, (25, 1)), "blurred"),
        (lambda p: np.full_like(p, 128), "blurred"),
    ],
)
def test_a_spoilt_photo_has_its_fault(
    pair: tuple[Pixels, Pixels], spoil: Callable[[Pixels], Pixels], fault: str | None
) -> None:
    for photo in pair:
        assert PhotoCondition.of(spoil(photo)).fault == fault


def test_faults_are_told_once_for_all_photos() -> None:
    assert faults_in_words([None, None]) == ()
    assert faults_in_words([None, "dark"])[0].startswith("one photo is dark")
    assert faults_in_words(["dark", "dark"])[0].startswith("both photos are dark")
    assert faults_in_words(["dark"] * 3)[0].startswith("all photos are dark")
    assert faults_in_words(["dark", "dark", None])[0].startswith("2 photos are dark")
    assert len(faults_in_words(["dark", "blurred"])) == 2


def repeated_tiles() -> tuple[Pixels, Pixels]:
    """Two views of one drawing repeated in all directions."""
    tile = np.random.default_rng(3).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    tile = cv2.resize(tile, (120, 120), interpolation=cv2.INTER_CUBIC)
    wall = np.tile(tile, (8, 10, 1))
    return wall[:480, :640].copy(), wall[20:500, 50:690].copy()


def even_walls() -> tuple[Pixels, Pixels]:
    """A small patterned board before an even wall, from two places."""
    board = cv2.resize(
        np.random.default_rng(4).integers(0, 255, (8, 8, 3), dtype=np.uint8), (90, 90)
    )
    walls = []
    for x in (200, 230):
        wall = np.full((480, 640, 3), 190, np.uint8)
        wall[200:290, x : x + 90] = board
        walls.append(wall)
    return walls[0], walls[1]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda a, b: (a, a), "same photo"),
        (lambda a, b: (a, brightened(a, 1.0, noise=0.7)), "same photo"),
        (lambda a, b: (a, mirrored(b)), "mirrored"),
        (lambda a, b: (brightened(a, 0.03), brightened(b, 0.03)), "Both photos are dark"),
        (lambda a, b: (a, blurred(blurred(b))), "One photo is blurred"),
        (lambda a, b: repeated_tiles(), "looks alike"),
        (lambda a, b: even_walls(), "even walls"),
        (lambda a, b: (a, repeated_tiles()[0][:300]), "same scene"),
    ],
)
def test_the_refusal_names_the_cause(
    pair: tuple[Pixels, Pixels],
    spoil: Callable[[Pixels, Pixels], tuple[Pixels, Pixels]],
    told: str,
) -> None:
    with pytest.raises(TwoViewError) as refusal:
        estimated(*spoil(*pair))
    assert told in str(refusal.value)


def test_photos_are_searched_for_points_once_and_for_the_cause_only_mirrored(
    pair: tuple[Pixels, Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[Pixels] = []
    search = Keypoints.of

    def counted(photo: Pixels) -> Keypoints:
        searched.append(photo)
        return search(photo)

    monkeypatch.setattr(Keypoints, "of", counted)
    left, right = pair
    estimated(left, right)
    assert len(searched) == 2
    searched.clear()
    other = repeated_tiles()[0]
    with pytest.raises(TwoViewError):
        estimated(left, other)
    assert [len(searched), searched[0] is left, searched[1] is other] == [3, True, True]
    assert np.array_equal(searched[2], other[:, ::-1])


@pytest.mark.parametrize("turned", [np.rot90, lambda p: p[::-1, ::-1]])
def test_a_turned_photo_is_as_good(
    pair: tuple[Pixels, Pixels], turned: Callable[[Pixels], Pixels]
) -> None:
    straight, odd = estimated(*pair), estimated(pair[0], turned(pair[1]).copy())
    assert odd.inliers > 0.9 * straight.inliers
    assert odd.median_angle_deg == pytest.approx(straight.median_angle_deg, rel=0.1)


def test_a_wrong_focal_length_is_noticed(pair: tuple[Pixels, Pixels]) -> None:
    assert estimated(*pair).fitting_zoom == 1
    assert estimated(*pair, 0.5 * FOCAL_PX).fitting_zoom == pytest.approx(2, rel=0.15)
    assert estimated(*pair, 1.5 * FOCAL_PX).fitting_zoom == pytest.approx(2 / 3, rel=0.15)


def test_what_repeats_is_told_from_what_does_not(pair: tuple[Pixels, Pixels]) -> None:
    assert estimated(*pair).repeated_share < 0.3
