"""Slopes that paths of the second pass follow, and matches at the border of the other frame."""

import numpy as np
import pytest
import torch
from torch import Tensor

from hisplat_models.cameras import Cameras
from hisplat_models.matching import MatchingSettings, match_views
from hisplat_models.matching.geometry import Sweep, plan_sweeps
from hisplat_models.matching.slopes import surface_slopes
from hisplat_models.matching.sweep_cost import pack_colors, sweep_cost
from hisplat_models.matching.torch_slopes import surface_slopes as surface_slopes_torch
from hisplat_models.matching.torch_volume import pack_colors as pack_colors_torch
from hisplat_models.matching.torch_volume import sweep_cost as sweep_cost_torch

from .matching_scenes import HEIGHT, WIDTH, TexturedPlane, cameras_in_a_row, photograph

GROUND = (TexturedPlane((0, 1.6, 1.0), 4.0, seed=3),)
BACKENDS = ("compiled", "torch")


def planned() -> tuple[Cameras, Sweep]:
    cameras = cameras_in_a_row()
    return cameras, plan_sweeps(cameras[0], HEIGHT, WIDTH, MatchingSettings())[0]


def slopes_of(backend: str, plane: np.ndarray, known: np.ndarray, sweep: Sweep) -> np.ndarray:
    if backend == "compiled":
        return surface_slopes(plane, known, sweep.transfers)
    maps = torch.from_numpy(plane), torch.from_numpy(known)
    return surface_slopes_torch(*maps, sweep.transfers).numpy()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (37, 53)])
def test_slopes_are_those_of_the_surface_across_epipolar_lines(backend: str, size: tuple[int, int]):
    _, sweep = planned()
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    plane = 20 + 0.2 * x + 0.1 * y
    plane[y > 20] += 9.0  # another surface: its edge is no slope
    known = np.random.default_rng(0).random(size) < 0.6
    slopes = slopes_of(backend, plane, known, sweep)
    assert slopes.shape == (*size, 2)
    np.testing.assert_allclose(slopes[..., 1], 0.1, atol=0.02)
    np.testing.assert_allclose(slopes[..., 0], 0.0, atol=0.02)  # cameras beside each other


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_matches_there_is_no_slope(backend: str):
    _, sweep = planned()
    nothing = np.zeros((HEIGHT, WIDTH), dtype=bool)
    plane = np.random.default_rng(0).random((HEIGHT, WIDTH)).astype(np.float32)
    assert (slopes_of(backend, plane, nothing, sweep) == 0).all()


def ground_errors_px(sides: slice) -> Tensor:
    """Errors of the left view in the other one's pixels, in some columns."""
    cameras = cameras_in_a_row(near=1.5, far=9.0, baseline=0.6)
    images, depth = photograph(GROUND, cameras)
    prior = match_views(images, cameras)
    sweep = plan_sweeps(cameras[0], HEIGHT, WIDTH, MatchingSettings())[0]
    step = sweep.rho_step / cameras.near[0, 0].item()
    return ((prior.inverse_depth - 1 / depth).abs() / step * sweep.step_px)[0, 0, :, sides]


def test_ground_goes_on_where_the_other_view_does_not_show_it(monkeypatch: pytest.MonkeyPatch):
    strip = slice(0, 8)  # beyond the other frame in every row
    followed = ground_errors_px(strip)

    def level(plane: np.ndarray, *_: object) -> np.ndarray:
        return np.zeros((*plane.shape, 2), np.float32)

    monkeypatch.setattr("hisplat_models.matching.cpu_backend.surface_slopes", level)
    carried = ground_errors_px(strip)
    assert followed.mean() < 0.6 * carried.mean()


@pytest.mark.parametrize("backend", BACKENDS)
def test_true_planes_cost_no_more_at_the_border_of_the_other_frame(backend: str):
    cameras, sweep = planned()
    images, depth = photograph((TexturedPlane((0, 0, 1), 4.0, seed=1),), cameras)
    photos = images[0]
    if backend == "compiled":
        packed = [pack_colors(photo.numpy()) for photo in photos]
        cost = torch.from_numpy(sweep_cost(packed[0], packed[1:], sweep, MatchingSettings()))
    else:
        packed = [pack_colors_torch(photo) for photo in photos]
        cost = sweep_cost_torch(packed[0], packed[1:], sweep, MatchingSettings())
    rho = cameras.near[0, 0] / depth[0, 0]
    plane = ((rho - sweep.rho_first) / sweep.rho_step).round().long()
    true_cost = cost.gather(-1, plane[..., None])[..., 0].float()
    x = torch.arange(WIDTH) + 0.5
    y = torch.arange(HEIGHT)[:, None] + 0.5
    m = torch.from_numpy(sweep.transfers[0].matrix)
    u, v, s = (row[0] * x + row[1] * y + row[2] + row[3] * rho for row in m)
    u, v = u / s, v / s
    inner = (u > 8) & (u < WIDTH - 8) & (v > 8) & (v < HEIGHT - 8)
    brim = (u > 0.5) & (u < 3) & (v > 8) & (v < HEIGHT - 8)
    assert brim.sum() > 80
    assert true_cost[brim].mean() < 1.3 * true_cost[inner].mean()
