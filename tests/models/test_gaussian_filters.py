from dataclasses import fields, replace

import pytest
import torch

from hisplat_models.gaussian_filters import (
    CropBox,
    Filters,
    filtered,
    kept,
    size_limits,
    sizes,
)
from hisplat_models.gaussians import Gaussians, quaternions_to_matrices

COUNT = 300


@pytest.fixture
def gaussians() -> Gaussians:
    generator = torch.Generator().manual_seed(3)
    return Gaussians(
        means=torch.randn(COUNT, 3, generator=generator),
        scales=torch.rand(COUNT, 3, generator=generator) + 0.01,
        quaternions_wxyz=torch.nn.functional.normalize(
            torch.randn(COUNT, 4, generator=generator), dim=-1
        ),
        opacities=torch.rand(COUNT, generator=generator),
        harmonics=torch.randn(COUNT, 1, 3, generator=generator),
        level=torch.arange(COUNT) % 3,
    )


def test_without_filters_everything_is_kept_as_it_is(gaussians: Gaussians):
    same = filtered(gaussians, Filters())
    for field in fields(Gaussians):
        torch.testing.assert_close(getattr(same, field.name), getattr(gaussians, field.name))


def test_each_filter_keeps_what_it_says(gaussians: Gaussians):
    assert filtered(gaussians, Filters(levels=frozenset({0, 2}))).level.unique().tolist() == [0, 2]
    assert filtered(gaussians, Filters(levels=frozenset())).count == 0
    assert filtered(gaussians, Filters(min_opacity=0.4)).opacities.min() >= 0.4
    size = sizes(filtered(gaussians, Filters(sizes=(0.3, 0.7))))
    assert 0 < len(size) < COUNT
    assert size.min() >= 0.3
    assert size.max() <= 0.7


def test_shares_of_sizes_leave_out_as_many(gaussians: Gaussians):
    ordered = sizes(gaussians).sort().values
    assert kept(gaussians, Filters(sizes=size_limits(ordered, 0, 100))).all()
    for low, high in ((0, 75), (20, 100), (10, 60)):
        left = int(kept(gaussians, Filters(sizes=size_limits(ordered, low, high))).sum())
        assert left == pytest.approx(COUNT * (high - low) / 100, abs=1)
    assert size_limits(ordered[:1], 30, 30) == (ordered[0].item(), ordered[0].item())


def test_filters_together_keep_what_each_keeps(gaussians: Gaussians):
    parts = {"levels": frozenset({1}), "min_opacity": 0.3, "sizes": (0.2, 0.9)}
    each = [kept(gaussians, Filters(**{name: value})) for name, value in parts.items()]
    together = kept(gaussians, Filters(**parts))
    assert torch.equal(together, each[0] & each[1] & each[2])
    assert 0 < together.sum() < min(int(mask.sum()) for mask in each)


def test_box_between_corners_is_the_one_around_their_middle(gaussians: Gaussians):
    box = CropBox.between((-0.5, 0.0, -1.0), (1.0, 0.7, 0.1))
    x, y, z = gaussians.means.T
    expected = (x >= -0.5) & (x <= 1) & (y >= 0) & (y <= 0.7) & (z >= -1) & (z <= 0.1)
    assert torch.equal(box.contains(gaussians.means), expected)
    assert 0 < expected.sum() < COUNT


def test_box_turns_and_moves_with_the_scene(gaussians: Gaussians):
    box = CropBox(torch.eye(4), torch.tensor([0.5, 1.0, 0.8]))
    inside = kept(gaussians, Filters(box=box))
    assert torch.equal(inside, (gaussians.means.abs() <= box.half_size).all(dim=-1))
    assert 0 < inside.sum() < COUNT
    pose = torch.eye(4)
    pose[:3, :3] = quaternions_to_matrices(torch.tensor([0.3, -0.5, 0.2, 0.9]))
    pose[:3, 3] = torch.tensor([3.0, -1.0, 7.0])
    moved = CropBox(torch.linalg.inv(pose), box.half_size)
    assert torch.equal(kept(gaussians.transformed(pose), Filters(box=moved)), inside)


def test_scale_changes_sizes_only(gaussians: Gaussians):
    larger = filtered(gaussians, Filters(scale=2.5))
    torch.testing.assert_close(larger.scales, 2.5 * gaussians.scales)
    torch.testing.assert_close(replace(larger, scales=gaussians.scales).means, gaussians.means)


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        (Filters(min_opacity=1.5), "opacity from 0 to 1"),
        (Filters(sizes=(0.5, 0.2)), "smallest <= largest"),
        (Filters(scale=0.0), "scale above 0"),
    ],
)
def test_senseless_filters_are_refused(gaussians: Gaussians, filters: Filters, message: str):
    with pytest.raises(ValueError, match=message):
        filtered(gaussians, filters)


def test_batches_are_refused(gaussians: Gaussians):
    with pytest.raises(ValueError, match=r"shape \(n, 3\)"):
        filtered(gaussians[None], Filters())
