import numpy as np
import pytest

from hisplat_data_tools.distortion import RadialDistortion, undistorted
from hisplat_data_tools.images import ExifFocal, Photo
from hisplat_data_tools.intrinsics import normalized_intrinsics

HEIGHT, WIDTH, FOCAL = 120, 160, 140.0
INTRINSICS = normalized_intrinsics(FOCAL, WIDTH, HEIGHT)


def taken(distortion: RadialDistortion | None) -> Photo:
    """A smooth pattern on the plane z = 1, as a lens with this distortion pictures it."""
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    x, y = (x - WIDTH / 2) / FOCAL, (y - HEIGHT / 2) / FOCAL
    if distortion is not None:
        seen_x, seen_y = x, y
        for _ in range(50):  # the pixel's ray, by fixed-point iteration
            stretch = distortion.stretch(x**2 + y**2)
            x, y = seen_x / stretch, seen_y / stretch
    waves = [np.sin(9 * x + phase) * np.cos(7 * y - phase) for phase in (0.0, 1.0, 2.0)]
    pixels = np.round(127.5 + 120 * np.stack(waves, axis=-1)).astype(np.uint8)
    size = (HEIGHT, WIDTH)
    return Photo(pixels, "waves.png", size, size, ExifFocal(None, None, None, None, None))


def difference(a: Photo, b: Photo, border: int) -> float:
    inner = slice(border, -border)
    apart = np.abs(a.pixels.astype(int) - b.pixels.astype(int))
    return float(apart[inner, inner].max())


@pytest.mark.parametrize(
    ("distortion", "border"),
    [
        (RadialDistortion(-0.12, 0.02), 2),
        (RadialDistortion(0.08), 9),  # the outermost part was not pictured
    ],
)
def test_an_undistorted_photo_is_what_a_straight_lens_takes(
    distortion: RadialDistortion, border: int
):
    straight, bent = taken(None), taken(distortion)
    assert difference(bent, straight, border) > 10
    assert difference(undistorted(bent, INTRINSICS, distortion), straight, border) <= 3


def test_no_distortion_changes_nothing():
    photo = taken(None)
    again = undistorted(photo, INTRINSICS, RadialDistortion(0.0))
    np.testing.assert_array_equal(again.pixels, photo.pixels)
    assert again.original_size == photo.original_size


def test_distortion_that_folds_the_photo_is_refused():
    with pytest.raises(ValueError, match=r"fold the corners of waves\.png"):
        undistorted(taken(None), INTRINSICS, RadialDistortion(-0.9))
    # With a longer lens the same coefficient is harmless.
    undistorted(
        taken(None), normalized_intrinsics(3 * FOCAL, WIDTH, HEIGHT), RadialDistortion(-0.9)
    )


def test_coefficients_are_k1_or_k1_and_k2():
    assert RadialDistortion.of(()) is None
    assert RadialDistortion.of((0.1,)) == RadialDistortion(0.1, 0.0)
    assert RadialDistortion.of((0.1, -0.2)) == RadialDistortion(0.1, -0.2)
    with pytest.raises(ValueError, match=r"got 0\.1, 0\.2, 0\.3"):
        RadialDistortion.of((0.1, 0.2, 0.3))
    with pytest.raises(ValueError, match="nan"):
        RadialDistortion.of((float("nan"),))
