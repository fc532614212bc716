"""Laws of hand-made matching on small scenes whose depth is known."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hisplat_models.cameras import Cameras
from hisplat_models.matching import (
    CANDIDATE_NAMES,
    EVIDENCE_NAMES,
    MatchingPrior,
    MatchingSettings,
    match_views,
)
from hisplat_models.matching.aggregation import jump_penalties
from hisplat_models.matching.consistency import (
    CONTRADICTED,
    HIDDEN,
    OUTSIDE,
    SEEN,
    color_difference,
)
from hisplat_models.matching.filling import fit_holds
from hisplat_models.matching.geometry import plan_sweeps
from hisplat_models.matching.sweep_cost import COST_SCALE

from .matching_scenes import (
    HEIGHT,
    SLANTED,
    TWO_PLANES,
    WIDTH,
    cameras_in_a_row,
    photograph,
)

INNER = (..., slice(6, -6), slice(20, -20))  # what both views see


def plane_step(cameras: Cameras) -> float:
    """Inverse depth between neighbouring planes of the first view."""
    sweep = plan_sweeps(cameras[0], HEIGHT, WIDTH, MatchingSettings())[0]
    return sweep.rho_step / cameras.near[0, 0].item()


def wrong_share(prior: MatchingPrior, depth: Tensor, steps: float, cameras: Cameras) -> float:
    """Share of inner pixels off by more than this many plane steps."""
    error = (prior.inverse_depth - 1 / depth).abs() / plane_step(cameras)
    return (error[INNER] > steps).float().mean().item()


def test_slanted_plane_is_found_within_a_plane_step():
    cameras = cameras_in_a_row()
    images, depth = photograph(SLANTED, cameras)
    prior = match_views(images, cameras)
    assert wrong_share(prior, depth, 1.0, cameras) < 0.02
    assert prior.trusted[INNER].float().mean() > 0.95


def test_two_planes_are_found_nearly_everywhere():
    cameras = cameras_in_a_row()
    images, depth = photograph(TWO_PLANES, cameras)
    prior = match_views(images, cameras)
    assert wrong_share(prior, depth, 1.0, cameras) < 0.1
    assert prior.trusted[INNER].float().mean() > 0.8


def test_pixels_hidden_from_the_other_view_get_the_background():
    cameras = cameras_in_a_row()
    images, depth = photograph(TWO_PLANES, cameras)
    prior = match_views(images, cameras)
    points = (
        cameras.positions[:, 0, None, None]
        + cameras.rays(HEIGHT, WIDTH)[:, 0] * (depth[:, 0, ..., None])
    )
    other = cameras[:, 1].project(points.flatten(1, 2)).unflatten(1, (HEIGHT, WIDTH))
    column = (other[0, ..., 0] * WIDTH).long()
    row = (other[0, ..., 1] * HEIGHT).long()
    seen = (column >= 0) & (column < WIDTH) & (row >= 0) & (row < HEIGHT)
    surface = depth[0, 1, row.clamp(0, HEIGHT - 1), column.clamp(0, WIDTH - 1)]
    hidden = seen & (surface < other[0, ..., 2] - 0.5)
    assert hidden.sum() > 100
    nearer_to_background = prior.inverse_depth[0, 0][hidden] < 0.5 * (1 / 2.5 + 1 / 4.0)
    # The strip is five pixels wide; the census window carries the edge over about one of them.
    assert nearer_to_background.float().mean() > 0.7


def errors_px(settings: MatchingSettings) -> tuple[Tensor, Tensor]:
    """Errors in pixels of two planes seen in noisy photos of little parallax, and where trusted."""
    cameras = cameras_in_a_row(baseline=0.5)
    images, depth = photograph(TWO_PLANES, cameras)
    images += 0.05 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    prior = match_views(images.clamp(0, 1), cameras, settings)
    sweep = plan_sweeps(cameras[0], HEIGHT, WIDTH, settings)[0]
    step = sweep.rho_step / cameras.near[0, 0].item()
    return (prior.inverse_depth - 1 / depth).abs() / step * sweep.step_px, prior.trusted


def test_stiffness_at_little_parallax_makes_noisy_photos_match_more_precisely():
    stiff, trusted = errors_px(MatchingSettings())
    loose, loosely_trusted = errors_px(MatchingSettings(small_jump_growth=(0.0, 0.0)))
    assert stiff[trusted].mean() < 0.85 * loose[loosely_trusted].mean()
    assert (stiff > 1).sum() < 0.6 * (loose > 1).sum()


def test_only_precise_matches_hold_the_second_pass():
    precise, _ = errors_px(MatchingSettings())
    vague, _ = errors_px(MatchingSettings(anchor_tolerance_px=MatchingSettings().tolerance_px))
    assert (precise > 1).sum() < 0.8 * (vague > 1).sum()


def test_jumps_cost_more_where_planes_are_few_and_sums_stay_in_16_bits():
    settings = MatchingSettings()
    small = np.array(
        [
            [jump_penalties(n, settings, second)[0] for second in (False, True)]
            for n in range(4, 400)
        ]
    )
    assert (np.diff(small, axis=0) <= 0).all()
    few = np.arange(4, 400) < 90
    assert (small[few, 1] > small[few, 0]).all()
    assert (small[0] == np.array(settings.small_jump_most) * COST_SCALE).all()
    assert (small[-1] == settings.small_jump_least * COST_SCALE).all()
    for second in (False, True):
        lowest, large = jump_penalties(4, settings, second)
        assert large.min() > lowest
        # A path's cost is at most one cost, a byte, above the penalty of the largest jump.
        assert 8 * (255 + int(large.max())) < np.iinfo(np.int16).max


@pytest.mark.parametrize("array", [np.array, torch.tensor])
def test_fits_give_way_unless_the_other_view_speaks_for_them(array):
    settings = MatchingSettings(fill_mismatch=0.05, fill_unseen_mismatch=0.15)
    cases = [  # the fit's verdict and mismatch, the choice's, whether the fit is taken
        (SEEN, 0.10, SEEN, 0.08, True),
        (SEEN, 0.20, SEEN, 0.08, False),
        (SEEN, 0.10, HIDDEN, 0.90, True),
        (SEEN, 0.20, HIDDEN, 0.90, False),
        (SEEN, 0.20, OUTSIDE, 1.00, False),
        (HIDDEN, 0.00, SEEN, 0.30, False),
        (OUTSIDE, 1.00, HIDDEN, 0.30, False),
        (CONTRADICTED, 0.00, SEEN, 0.30, False),
        (HIDDEN, 0.90, CONTRADICTED, 0.00, True),
    ]
    fit, fit_mismatch, choice, choice_mismatch, taken = map(array, zip(*cases, strict=True))
    assert (fit_holds(fit, fit_mismatch, choice, choice_mismatch, settings) == taken).all()


@pytest.mark.parametrize("other", [0, 2])
def test_colors_differ_least_at_the_true_depth(other: int):
    cameras = cameras_in_a_row(3)
    images, depth = photograph(SLANTED, cameras)
    sweeps = plan_sweeps(cameras[0], HEIGHT, WIDTH, MatchingSettings())
    photos = list(np.ascontiguousarray(images[0].movedim(1, -1).numpy()))
    sweep = sweeps[other]
    truth = (cameras.near[0, other].item() / depth[0, other].numpy() - sweep.rho_first) / (
        sweep.rho_step
    )
    found = [
        color_difference((truth + off).astype(np.float32), other, photos, sweeps)[8:-8, 12:-12]
        for off in (-4, 0, 4)
    ]
    assert np.median(found[1]) < 0.01
    assert np.median(found[1]) < 0.5 * min(np.median(found[0]), np.median(found[2]))


def test_unit_of_length_and_world_frame_do_not_matter():
    cameras = cameras_in_a_row()
    images, _ = photograph(TWO_PLANES, cameras)
    turn = torch.linalg.matrix_exp(torch.tensor([[0, -0.5, 0.2], [0.5, 0, -0.8], [-0.2, 0.8, 0.0]]))
    motion = torch.eye(4)
    motion[:3, :3], motion[:3, 3] = turn, torch.tensor([1.0, -2.0, 0.5])
    prior = match_views(images, cameras)
    moved = match_views(images, cameras.scaled(3.0).transformed(motion))
    ratio = moved.inverse_depth * 3 / prior.inverse_depth
    assert ((ratio - 1).abs() < 1e-3).float().mean() > 0.99
    assert (moved.trusted == prior.trusted).float().mean() > 0.99


def test_swapping_the_views_swaps_the_results():
    cameras = cameras_in_a_row()
    images, _ = photograph(TWO_PLANES, cameras)
    prior = match_views(images, cameras)
    swapped = match_views(images.flip(1), cameras[:, [1, 0]])
    for field in fields(MatchingPrior):
        one, two = getattr(prior, field.name), getattr(swapped, field.name)
        torch.testing.assert_close(two, one.flip(1) if one.dim() > 1 else one)


@pytest.mark.parametrize("backend", ["compiled", "torch"])
@pytest.mark.parametrize("near", [3.0, 0.01])  # the foreground is nearer; all is in one plane
def test_depth_stays_within_near_and_far(near: float, backend):
    cameras = cameras_in_a_row(near=near, far=5.0)
    images, _ = photograph(TWO_PLANES, cameras)
    prior = match_views(images, cameras, backend=backend)
    for values in (prior.inverse_depth, prior.candidates):
        assert values.min() >= 1 / 5.0 - 1e-5
        assert values.max() <= 1 / near + 1e-5


def test_three_views_agree_with_the_truth():
    cameras = cameras_in_a_row(views=3, baseline=0.2)
    images, depth = photograph(TWO_PLANES, cameras)
    prior = match_views(images, cameras)
    assert prior.inverse_depth.shape == (1, 3, HEIGHT, WIDTH)
    assert wrong_share(prior, depth, 1.0, cameras) < 0.1


def test_a_batch_gives_what_its_scenes_give_alone():
    cameras = cameras_in_a_row()
    wide = cameras_in_a_row(baseline=0.5)
    images = [photograph(SLANTED, cameras)[0], photograph(TWO_PLANES, wide)[0]]
    both = match_views(torch.cat(images), Cameras.stack([cameras[0], wide[0]]))
    for index, (image, camera) in enumerate(zip(images, (cameras, wide), strict=True)):
        alone = match_views(image, camera)
        for field in fields(MatchingPrior):
            torch.testing.assert_close(getattr(both, field.name)[index : index + 1],
                                       getattr(alone, field.name))  # fmt: skip


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_photos_without_texture_stay_finite(value: float):
    cameras = cameras_in_a_row()
    prior = match_views(torch.full((1, 2, 3, HEIGHT, WIDTH), value), cameras)
    for field in fields(MatchingPrior):
        assert torch.isfinite(getattr(prior, field.name).float()).all(), field.name
    assert (prior.inverse_depth > 0).all()


def test_views_without_overlap_stay_finite_and_untrusted():
    cameras = cameras_in_a_row()
    turned = cameras.camera_to_world.clone()
    turned[0, 1, :3, :3] = torch.diag(torch.tensor([-1.0, 1.0, -1.0]))
    images, _ = photograph(TWO_PLANES, cameras)
    prior = match_views(images, replace(cameras, camera_to_world=turned))
    assert not prior.trusted.any()
    assert torch.isfinite(prior.inverse_depth).all()
    assert not prior.evidence[:, :, EVIDENCE_NAMES.index("inside")].any()


def test_shapes_ranges_and_the_first_candidate():
    cameras = cameras_in_a_row()
    images, _ = photograph(TWO_PLANES, cameras)
    prior = match_views(images, cameras)
    assert prior.candidates.shape == (1, 2, len(CANDIDATE_NAMES), HEIGHT, WIDTH)
    assert prior.evidence.shape == (1, 2, len(EVIDENCE_NAMES), HEIGHT, WIDTH)
    assert prior.coarse_cost.shape == (1, 2, 32, HEIGHT // 8, WIDTH // 8)
    for values in (prior.candidate_cost, prior.evidence, prior.coarse_cost, prior.color):
        assert values.min() >= 0
        assert values.max() <= 1
    torch.testing.assert_close(prior.candidates[:, :, 0], prior.inverse_depth)
    assert (prior.consistency_px[prior.trusted] <= MatchingSettings().tolerance_px).all()


def test_coarse_cost_is_lowest_near_the_truth():
    cameras = cameras_in_a_row()
    images, depth = photograph(SLANTED, cameras)
    prior = match_views(images, cameras)
    best = prior.coarse_cost.argmin(2).float()
    near, far = cameras.near[0, 0], cameras.far[0, 0]
    truth = (1 / depth - 1 / far) / (1 / near - 1 / far) * 31
    error = (best - truth[..., 4::8, 4::8])[..., 1:-1, 3:-3].abs()
    assert (error <= 1.5).float().mean() > 0.95


def test_mean_color_comes_from_both_photos():
    cameras = cameras_in_a_row()
    images, _ = photograph(SLANTED, cameras)
    darker = images.clone()
    darker[:, 1] -= 0.02
    prior = match_views(darker, cameras)
    trusted = prior.trusted[0, 0] & (prior.consistency_px[0, 0] < 0.5)
    difference = (prior.color[0, 0] - images[0, 0])[:, trusted].mean()
    assert difference == pytest.approx(-0.01, abs=2e-3)


@pytest.mark.parametrize("backend", ["compiled", "torch"])
def test_a_photo_that_does_not_see_a_pixel_gives_it_no_color(backend):
    cameras = cameras_in_a_row(views=3, baseline=0.25)
    images, depth = photograph(TWO_PLANES, cameras)
    prior = match_views(images, cameras, backend=backend)
    points = cameras.positions[0, 0] + depth[0, 0][..., None] * cameras.rays(HEIGHT, WIDTH)[0, 0]
    x, y, z = cameras[0, 2].project(points.flatten(0, 1)).unflatten(0, depth.shape[-2:]).unbind(-1)
    column, row = (x * WIDTH).long().clamp(0, WIDTH - 1), (y * HEIGHT).long().clamp(0, HEIGHT - 1)
    hidden = (depth[0, 2][row, column] < z - 0.5) & (x > 0) & (x < 1)
    found = 1 / prior.inverse_depth[0, 0]
    hidden &= prior.trusted[0, 0] & ((found - depth[0, 0]).abs() < 0.2)
    assert hidden.sum() > 30
    difference = (prior.color[0, 0] - images[0, 0])[:, hidden].abs()
    assert difference.mean() < 0.02


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, 1, 3, 64, 96), "two views"), ((1, 2, 3, 60, 96), "multiples of 8")],
)
def test_impossible_inputs_are_refused(shape: tuple[int, ...], message: str):
    with pytest.raises(ValueError, match=message):
        match_views(torch.zeros(shape), cameras_in_a_row(shape[1]))


def test_an_empty_depth_range_is_refused():
    cameras = cameras_in_a_row()
    with pytest.raises(ValueError, match="near < far"):
        match_views(torch.zeros(1, 2, 3, HEIGHT, WIDTH), replace(cameras, far=cameras.near))


class _Matched(Dataset):
    """Matches in whichever process asks."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Tensor:
        cameras = cameras_in_a_row()
        return match_views(photograph(SLANTED, cameras)[0], cameras).inverse_depth


def test_matching_works_in_forked_data_loader_workers():
    dataset = _Matched()
    here = dataset[0]
    loader = DataLoader(dataset, num_workers=1, batch_size=None, multiprocessing_context="fork")
    for there in loader:
        torch.testing.assert_close(there, here)
