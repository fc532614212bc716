import io
import math

import numpy as np
import pytest
from PIL import Image

from hisplat_data_tools.images import Photo, load_photo
from hisplat_data_tools.intrinsics import (
    DEFAULT_FOCAL,
    focal_from_fov,
    focal_of_photo,
    focals_of_photos,
    normalized_intrinsics,
)

FOCAL_MM, FOCAL_35MM = 0x920A, 0xA405
SENSOR_X, SENSOR_UNIT = 0xA20E, 0xA210
CAPTURED_WIDTH, CAPTURED_HEIGHT = 0xA002, 0xA003


def photo(width: int, height: int, orientation: int = 1, **tags: float) -> Photo:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif.get_ifd(0x8769).update({globals()[name]: value for name, value in tags.items()})
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "jpeg", exif=exif)
    return load_photo(buffer.getvalue(), name="shot.jpg")


def test_given_focal_is_in_pixels_of_the_file() -> None:
    found = focal_of_photo(photo(300, 200), focal_px=250.0)
    assert (found.focal_px, found.source, found.relative_uncertainty) == (250.0, "given", 0.0)


def test_given_field_of_view_spans_the_width() -> None:
    found = focal_of_photo(photo(300, 200), fov_deg=90.0)
    assert found.focal_px == pytest.approx(150)
    assert focal_from_fov(2 * math.degrees(math.atan(0.5)), 300) == pytest.approx(300)


@pytest.mark.parametrize(
    "bad",
    [
        *({"focal_px": value} for value in (-1.0, 0.0, math.nan, math.inf, 1e-9, 1e6)),
        {"fov_deg": 180.0},
    ],
)
def test_impossible_focal_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="Expected"):
        focal_of_photo(photo(300, 200), **bad)


def test_focal_and_field_of_view_together_are_refused() -> None:
    with pytest.raises(ValueError, match="not both"):
        focal_of_photo(photo(300, 200), focal_px=250.0, fov_deg=60.0)


def test_35mm_equivalent_of_a_3_to_2_photo_is_over_36_mm() -> None:
    found = focal_of_photo(photo(360, 240, FOCAL_35MM=50))
    assert found.focal_px == pytest.approx(360 * 50 / 36, rel=1e-3)
    assert found.source == "exif"
    assert 0 < found.relative_uncertainty < 0.1


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_rotated_photo_has_the_same_focal_in_pixels(orientation: int) -> None:
    found = focal_of_photo(photo(360, 240, orientation, FOCAL_35MM=50))
    assert found.focal_px == pytest.approx(500, rel=1e-3)


@pytest.mark.parametrize(("unit", "per_unit"), [(2, 4000 / 36 * 25.4), (3, 4000 / 36 * 10)])
def test_sensor_resolution_counts_pixels_of_the_captured_size(unit: int, per_unit: float) -> None:
    tags = {"FOCAL_MM": 50.0, "SENSOR_X": per_unit, "SENSOR_UNIT": unit}
    captured = {"CAPTURED_WIDTH": 4000, "CAPTURED_HEIGHT": 3000}
    found = focal_of_photo(photo(400, 300, **tags, **captured))
    assert found.focal_px == pytest.approx(400 * 50 / 36, rel=1e-3)


def test_crop_after_the_shot_is_warned_about() -> None:
    tags = {"FOCAL_35MM": 50, "CAPTURED_WIDTH": 360, "CAPTURED_HEIGHT": 240}
    found = focal_of_photo(photo(240, 240, **tags))
    assert found.focal_px == pytest.approx(500, rel=1e-3)
    assert found.warning is not None
    assert "cropped" in found.warning


def test_implausible_exif_is_ignored() -> None:
    found = focal_of_photo(photo(360, 240, FOCAL_MM=50.0, SENSOR_X=1e9))
    assert found.source == "default"


def test_default_is_stated_in_a_warning() -> None:
    found = focal_of_photo(photo(240, 360))
    assert found.focal_px == DEFAULT_FOCAL * 360
    assert found.relative_uncertainty > 0
    assert found.warning is not None
    assert "shot.jpg" in found.warning


def test_photo_without_exif_takes_over_the_other_ones_focal() -> None:
    left, right = focals_of_photos([photo(360, 240, FOCAL_35MM=50), photo(360, 240)])
    assert left.focal_px == right.focal_px == pytest.approx(500, rel=1e-3)
    assert right.warning is not None
    different, _ = focals_of_photos([photo(300, 300), photo(360, 240, FOCAL_35MM=50)])
    assert different.source == "default"


def test_normalised_intrinsics_times_size_are_pixels() -> None:
    pixels = normalized_intrinsics(500.0, 360, 240).numpy() * np.array([[360], [240], [1]])
    assert np.allclose(pixels, [[500, 0, 180], [0, 500, 120], [0, 0, 1]], rtol=1e-6)


def test_a_photo_held_the_other_way_has_the_focal_length_of_the_first():
    wide, tall, square = focals_of_photos(
        [photo(360, 240), photo(480, 720), photo(300, 300)], fov_deg=90.0
    )
    assert wide.focal_px == pytest.approx(180)  # half the width at 45 degrees
    assert tall.focal_px == pytest.approx(360)  # twice the size, the same camera turned
    assert square.focal_px == pytest.approx(150)  # neither: across its own width
