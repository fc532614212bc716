import io

import numpy as np
import pytest
from PIL import Image

from hisplat_data_tools.depth_maps import (
    color_depth,
    depth_step,
    from_depth_png_bytes,
    to_depth_png_bytes,
    to_npy_bytes,
)


def depth(most: float) -> np.ndarray:
    values = np.random.default_rng(0).uniform(0.1, most, (20, 30))
    values[3, :5] = 0
    return values


@pytest.mark.parametrize(("most", "step"), [(5.0, 0.001), (60.0, 0.001), (655.35, 0.01)])
def test_depths_survive_within_half_a_step(most: float, step: float) -> None:
    original = depth(most)
    original[0, 0] = most
    assert depth_step(original) == pytest.approx(step)
    read = from_depth_png_bytes(to_depth_png_bytes(original))
    assert np.abs(read - original).max() <= step / 2 * 1.0001
    assert ((read == 0) == (original == 0)).all()


def test_other_programs_see_millimetres() -> None:
    with Image.open(io.BytesIO(to_depth_png_bytes(np.array([[0.0, 1.234]])))) as image:
        assert np.asarray(image).tolist() == [[0, 1234]]
        assert np.asarray(image).dtype == np.uint16


def test_a_step_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="choose a larger step"):
        to_depth_png_bytes(depth(100.0), 0.001)
    with pytest.raises(ValueError, match="NaN"):
        to_depth_png_bytes(np.array([[np.nan]]))


def test_npy_holds_the_values() -> None:
    original = depth(9.0)
    read = np.load(io.BytesIO(to_npy_bytes(original)))
    assert np.array_equal(read, original.astype(np.float32))


def test_colors_run_from_red_to_blue() -> None:
    near, far, nothing = color_depth(np.array([[1.0, 10.0, 0.0]]), 1.0, 10.0)[0].astype(int)
    assert near[0] > near[2]
    assert far[2] > far[0]
    assert nothing.tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="near < far"):
        color_depth(np.array([[1.0]]), 2.0, 1.0)
