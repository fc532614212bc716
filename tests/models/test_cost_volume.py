import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hisplat_models.cameras import Cameras
from hisplat_models.cost_volume import (
    disparity_candidates,
    expected_disparity,
    plane_sweep_cost_volume,
)

CANDIDATES = 8


def cameras_in_a_row(views: int = 2, spacing: float = 0.25) -> Cameras:
    """Parallel cameras, each to the right of the last, near 1 and far 8.

    In maps 40 pixels wide neighbours see candidate k of eight shifted by exactly k + 1 pixels.
    """
    pose = torch.eye(4).repeat(1, views, 1, 1)
    pose[0, :, 0, 3] = spacing * torch.arange(views)
    K = torch.tensor([[0.8, 0.0, 0.5], [0.0, 1.1, 0.5], [0.0, 0.0, 1.0]])
    depth = torch.ones(1, views)
    return Cameras(pose, K.repeat(1, views, 1, 1), 1.0 * depth, 8.0 * depth)


def noisy_cameras(batch: int, views: int) -> Cameras:
    generator = torch.Generator().manual_seed(1)
    angles = 0.1 * torch.randn(batch, views, 3, generator=generator, dtype=torch.float64)
    x, y, z = angles.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    pose = torch.eye(4, dtype=torch.float64).repeat(batch, views, 1, 1)
    pose[..., :3, :3] = torch.matrix_exp(torch.stack(rows, -1).unflatten(-1, (3, 3)))
    offset = torch.randn(batch, views, 3, generator=generator, dtype=torch.float64)
    pose[..., :3, 3] = 0.2 * offset
    K = torch.tensor([[0.9, 0.0, 0.5], [0.0, 1.2, 0.45], [0.0, 0.0, 1.0]], dtype=torch.float64)
    ones = torch.ones(batch, views, dtype=torch.float64)
    return Cameras(pose, K.repeat(batch, views, 1, 1), ones, 10 * ones)


def textured_plane(cameras: Cameras, depth: float, height: int, width: int) -> Tensor:
    """Unit-length features of a smooth texture on the plane z = ``depth``, seen by all views."""
    points = cameras.positions[..., None, None, :] + depth * cameras.rays(height, width)
    x, y = points[..., 0], points[..., 1]
    waves = [
        f(k * (math.cos(a) * x + math.sin(a) * y))
        for f in (torch.sin, torch.cos)
        for k, a in ((6.0, 0.3), (9.0, 1.4), (14.0, 2.2))
    ]
    return F.normalize(torch.stack(waves, dim=2), dim=2)


def test_candidates_are_even_in_inverse_depth():
    near, far = torch.tensor([[1.0, 2.0]]), torch.tensor([[100.0, 4.0]])
    candidates = disparity_candidates(near, far, 5)
    torch.testing.assert_close(candidates[0, 0], torch.linspace(0.01, 1.0, 5))
    torch.testing.assert_close(candidates[0, 1], torch.linspace(0.25, 0.5, 5))


@pytest.mark.parametrize(("near", "far", "count"), [(2.0, 1.0, 8), (0.0, 1.0, 8), (1.0, 2.0, 1)])
def test_impossible_candidates_are_refused(near: float, far: float, count: int):
    with pytest.raises(ValueError, match="0 < near < far"):
        disparity_candidates(torch.tensor([near]), torch.tensor([far]), count)


@pytest.mark.parametrize("views", [2, 3])
@pytest.mark.parametrize("plane", [0, 3, 6])
def test_plane_peaks_at_its_own_candidate(views: int, plane: int):
    cameras = cameras_in_a_row(views)
    candidates = disparity_candidates(cameras.near, cameras.far, CANDIDATES)
    depth = 1 / float(candidates[0, 0, plane])
    features = textured_plane(cameras, depth, height=24, width=40)
    volume = plane_sweep_cost_volume(features, cameras, candidates)
    # Only where every other view sees the plane; elsewhere zeros pull the mean down.
    inner = volume[..., 4:-4, 14:-14]
    assert (inner.argmax(dim=2) == plane).all()
    cosine = inner[:, :, plane] * features.shape[2] ** 0.5
    torch.testing.assert_close(cosine, torch.ones_like(cosine), atol=1e-4, rtol=0)


def test_published_grid_is_half_a_pixel_off():
    cameras = noisy_cameras(1, 2)
    candidates = disparity_candidates(cameras.near, cameras.far, 5)
    features = torch.randn(1, 2, 4, 6, 8, dtype=torch.float64)
    moved = cameras.intrinsics.clone()
    moved[..., :2, 2] += torch.tensor([0.5 / 8, 0.5 / 6])
    through_corners = replace(cameras, intrinsics=moved)
    torch.testing.assert_close(
        plane_sweep_cost_volume(features, cameras, candidates, pixel_centers=False),
        plane_sweep_cost_volume(features, through_corners, candidates, pixel_centers=True),
    )
    centred = plane_sweep_cost_volume(features, cameras, candidates)
    published = plane_sweep_cost_volume(features, cameras, candidates, pixel_centers=False)
    assert (centred - published).abs().max() > 1e-3


def test_same_view_twice_correlates_with_itself():
    cameras = cameras_in_a_row(spacing=0.0)
    features = torch.randn(1, 1, 5, 6, 7).repeat(1, 2, 1, 1, 1)
    candidates = disparity_candidates(cameras.near, cameras.far, 3)
    volume = plane_sweep_cost_volume(features, cameras, candidates)
    expected = (features**2).sum(2, keepdim=True).expand_as(volume) / 5**0.5
    torch.testing.assert_close(volume, expected, atol=1e-4, rtol=1e-4)


def test_what_no_other_view_sees_counts_zero():
    cameras = cameras_in_a_row(spacing=100.0)
    candidates = disparity_candidates(cameras.near, cameras.far, 3)
    volume = plane_sweep_cost_volume(torch.randn(1, 2, 4, 6, 8), cameras, candidates)
    assert volume.abs().max() == 0


def test_points_behind_the_other_camera_count_zero():
    cameras = cameras_in_a_row(spacing=0.0)
    turned = cameras.camera_to_world.clone()
    turned[0, 1, :3, :3] = torch.diag(torch.tensor([-1.0, 1.0, -1.0]))
    cameras = Cameras(turned, cameras.intrinsics, cameras.near, cameras.far)
    candidates = disparity_candidates(cameras.near, cameras.far, 3)
    volume = plane_sweep_cost_volume(torch.randn(1, 2, 4, 6, 8), cameras, candidates)
    # The point opposite the optical axis would project into the picture without the clamp.
    assert volume.abs().max() == 0


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_chunks_do_not_change_the_volume(chunk: int):
    cameras = noisy_cameras(2, 3)
    features = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    candidates = disparity_candidates(cameras.near, cameras.far, 7)
    whole = plane_sweep_cost_volume(features, cameras, candidates, chunk=7)
    chunked = plane_sweep_cost_volume(features.detach(), cameras, candidates, chunk=chunk)
    torch.testing.assert_close(chunked, whole)


def test_scenes_of_a_batch_do_not_mix():
    cameras = noisy_cameras(2, 2)
    features = torch.randn(2, 2, 4, 5, 6, dtype=torch.float64)
    candidates = disparity_candidates(cameras.near, cameras.far, 7)
    volume = plane_sweep_cost_volume(features, cameras, candidates)
    for scene in (slice(0, 1), slice(1, 2)):
        alone = plane_sweep_cost_volume(features[scene], cameras[scene], candidates[scene])
        torch.testing.assert_close(volume[scene], alone)


@pytest.mark.parametrize("pixel_centers", [True, False])
def test_gradient_of_the_features(pixel_centers: bool):
    cameras = noisy_cameras(1, 3)
    candidates = disparity_candidates(cameras.near, cameras.far, 3)
    features = torch.randn(1, 3, 2, 2, 2, dtype=torch.float64, requires_grad=True)

    def volume(maps: Tensor) -> Tensor:
        return plane_sweep_cost_volume(maps, cameras, candidates, pixel_centers, chunk=2)

    assert torch.autograd.gradcheck(volume, (features,))


def test_expected_disparity_of_a_sure_choice_is_that_candidate():
    candidates = torch.tensor([[[0.1, 0.4, 0.9]]])
    logits = torch.full((1, 1, 3, 2, 2), -50.0)
    logits[:, :, 1] = 50.0
    disparity, peak = expected_disparity(logits, candidates)
    torch.testing.assert_close(disparity, torch.full((1, 1, 1, 2, 2), 0.4))
    torch.testing.assert_close(peak, torch.ones(1, 1, 1, 2, 2))


def test_expected_disparity_without_evidence_is_the_middle():
    candidates = torch.tensor([[[0.2, 0.4, 0.6]]])
    disparity, peak = expected_disparity(torch.zeros(1, 1, 3, 1, 1), candidates)
    torch.testing.assert_close(disparity.flatten(), torch.tensor([0.4]))
    torch.testing.assert_close(peak.flatten(), torch.tensor([1 / 3]))
