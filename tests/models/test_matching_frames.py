"""Dark frames around photos are found, and nothing of them reaches the scene."""

import pytest
import torch
from torch import Tensor

from hisplat_models.layered import layered_stages
from hisplat_models.matching import EVIDENCE_NAMES, match_views
from hisplat_models.matching.frames import Frame, find_frames, without_frames

from .matching_scenes import HEIGHT, SLANTED, WIDTH, cameras_in_a_row, photograph

NO_FRAME = Frame(left=0, right=0, top=0, bottom=0)


def framed(photos: Tensor, frame: Frame, intensity: float = 0.0) -> Tensor:
    """Photos whose outermost rows and columns are dark."""
    result = torch.full_like(photos, intensity)
    rows = slice(frame.top, photos.shape[-2] - frame.bottom)
    columns = slice(frame.left, photos.shape[-1] - frame.right)
    result[..., rows, columns] = photos[..., rows, columns]
    return result


@pytest.fixture(scope="module")
def photos() -> Tensor:
    return photograph(SLANTED, cameras_in_a_row())[0]


@pytest.mark.parametrize(
    "frame",
    [Frame(1, 1, 1, 1), Frame(3, 0, 0, 2), Frame(0, 0, 5, 0), NO_FRAME],
    ids=["all around", "two sides", "wide", "none"],
)
def test_a_black_frame_is_found_side_by_side(photos: Tensor, frame: Frame):
    assert find_frames(framed(photos, frame)[0]) == [frame, frame]


def test_a_row_blended_with_black_belongs_to_the_frame(photos: Tensor):
    blended = framed(photos, Frame(0, 0, 1, 0))
    blended[..., 1, :] *= 0.6
    assert find_frames(blended[0])[0] == Frame(0, 0, top=2, bottom=0)


def test_an_object_on_black_has_no_frame(photos: Tensor):
    on_black = framed(photos, Frame(12, 12, 12, 12), intensity=0.01)
    assert find_frames(on_black[0]) == [NO_FRAME, NO_FRAME]


def test_a_dark_object_at_the_border_is_no_frame(photos: Tensor):
    standing = photos.clone()
    standing[..., -20:, 30:60] *= 0.1
    assert find_frames(standing[0]) == [NO_FRAME, NO_FRAME]


def test_a_frame_is_painted_over_with_the_pixels_next_to_it(photos: Tensor):
    cleaned, mask = without_frames(framed(photos, Frame(2, 0, 1, 0)))
    torch.testing.assert_close(cleaned[..., 1:, 2:], photos[..., 1:, 2:])
    torch.testing.assert_close(cleaned[..., 0, 2:], photos[..., 1, 2:])
    torch.testing.assert_close(cleaned[..., 1:, 0], photos[..., 1:, 2])
    assert mask.sum() == 2 * (WIDTH + 2 * (HEIGHT - 1))


@pytest.mark.parametrize("backend", ["compiled", "torch"])
def test_frame_pixels_are_never_trusted(photos: Tensor, backend):
    cameras = cameras_in_a_row()
    frame = Frame(2, 1, 1, 2)
    prior = match_views(framed(photos, frame), cameras, backend=backend)
    _, mask = without_frames(framed(photos, frame))
    assert mask.any()
    assert not prior.trusted[mask].any()
    for name in ("trusted", "consistency", "second_pass"):
        assert not prior.evidence[:, :, EVIDENCE_NAMES.index(name)][mask].any()
    assert prior.trusted[~mask].float().mean() > 0.7


def test_a_frame_does_not_darken_any_level(photos: Tensor):
    cameras = cameras_in_a_row()
    frame = Frame(2, 2, 2, 2)
    seen = framed(photos, frame)
    levels = layered_stages(match_views(seen, cameras), seen, cameras)
    plain = layered_stages(match_views(photos, cameras), photos, cameras)
    for level, without in zip(levels, plain, strict=True):
        difference = (level.color - without.color)[..., 0, :]
        assert difference.mean().abs() < 0.05


def test_without_a_frame_photos_stay_as_they_are(photos: Tensor):
    cleaned, mask = without_frames(photos)
    torch.testing.assert_close(cleaned, photos, rtol=0, atol=0)
    assert not mask.any()
    assert match_views(photos, cameras_in_a_row()).trusted[..., :1, :].any()
