"""Spaces hold what is published; samplers draw from all of it, as often as they should."""

import itertools
from collections import Counter

import pytest
import torch
from scipy.stats import chisquare

from hisplat_models.compression.groups import ChannelGroup
from hisplat_models.compression.samplers import (
    decaying_depths,
    nested_depths,
    uniform_depths,
    uniform_share,
    uniform_widths,
)
from hisplat_models.compression.spaces import DepthSpace

DRAWS = 3000


def space(*counts: int, minimum: int = 1) -> DepthSpace:
    blocks = tuple(
        tuple(f"stages.{stage}.{block}" for block in range(count))
        for stage, count in enumerate(counts)
    )
    return DepthSpace(blocks, (minimum,) * len(counts))


RESNET50 = space(3, 4, 6, 3)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_resnet50_has_216_subnets_from_its_smallest_to_itself():
    all_depths = list(RESNET50)
    assert len(RESNET50) == len(set(all_depths)) == 216
    assert all_depths[0] == (1, 1, 1, 1)
    assert all_depths[-1] == RESNET50.full == (3, 4, 6, 3)


def test_inter_stage_space_of_resnet50_is_the_published_one():
    published = set(itertools.product([3], [3, 4], [3, 4, 5, 6], [3]))
    assert set(RESNET50.inter_stage()) == published
    assert set(RESNET50.dropping_at_most((0, 1, 3, 0))) == published


def test_dropping_at_most_never_goes_below_the_minimum():
    assert RESNET50.dropping_at_most((9, 1, 2, 0)).minimum == (1, 3, 4, 3)


def test_subnets_skip_the_ends_of_stages():
    skipped = RESNET50.subnet((1, 4, 5, 3)).skipped
    assert skipped == {"stages.0.1", "stages.0.2", "stages.2.5"}
    assert RESNET50.subnet(RESNET50.full).skipped == frozenset()


@pytest.mark.parametrize("depths", [(0, 1, 1, 1), (3, 4, 7, 3)])
def test_depths_outside_the_space_are_refused(depths: tuple[int, ...]):
    assert depths not in RESNET50
    with pytest.raises(ValueError, match=r"Expected depths from \(1, 1, 1, 1\)"):
        RESNET50.subnet(depths)


@pytest.mark.parametrize(
    ("blocks", "minimum", "message"),
    [
        ((("a",), ("b",)), (1,), "each of 2 stages"),
        ((("a",),), (2,), "0 to 1 blocks"),
        ((("a",), ("a",)), (1, 1), "different names"),
    ],
)
def test_impossible_spaces_are_refused(
    blocks: tuple[tuple[str, ...], ...], minimum: tuple[int, ...], message: str
):
    with pytest.raises(ValueError, match=message):
        DepthSpace(blocks, minimum)


def test_uniform_depths_draw_every_subnet_alike_often():
    generator = seeded()
    drawn = Counter(uniform_depths(space(3, 4), generator) for _ in range(DRAWS))
    assert set(drawn) == set(space(3, 4))
    assert chisquare(list(drawn.values())).pvalue > 0.001


def test_uniform_depths_of_resnet50_have_all_216_and_uniform_marginals():
    generator = seeded(1)
    drawn = [uniform_depths(RESNET50, generator) for _ in range(DRAWS)]
    assert set(drawn) == set(RESNET50)
    for stage, blocks in enumerate(RESNET50.full):
        counts = Counter(depths[stage] for depths in drawn)
        assert len(counts) == blocks
        assert chisquare(list(counts.values())).pvalue > 0.001


def test_decaying_depths_lose_blocks_with_probabilities_of_a_geometric_law():
    generator = seeded()
    parent = (4, 2)
    drawn = Counter(decaying_depths(space(5, 5), parent, 0.5, generator)[0] for _ in range(DRAWS))
    losses = [parent[0] - depths for depths in drawn.elements()]
    weights = [0.5**lost for lost in range(4)]
    expected = [DRAWS * weight / sum(weights) for weight in weights]
    assert chisquare([losses.count(lost) for lost in range(4)], expected).pvalue > 0.001


def test_decay_prefers_large_subnets():
    def mean_blocks(decay: float) -> float:
        generator = seeded()
        drawn = [decaying_depths(RESNET50, RESNET50.full, decay, generator) for _ in range(DRAWS)]
        return sum(map(sum, drawn)) / DRAWS

    assert mean_blocks(0.5) > mean_blocks(1.0) + 2


def test_nested_depths_shrink_until_nothing_is_left_to_lose():
    generator = seeded()
    for _ in range(100):
        parent = RESNET50.full
        while parent != RESNET50.minimum:
            child = nested_depths(RESNET50, parent, 0.5, generator)
            assert child in RESNET50
            assert child != parent
            assert all(kept <= above for kept, above in zip(child, parent, strict=True))
            parent = child
        assert nested_depths(RESNET50, parent, 0.5, generator) == parent


def test_equal_seeds_draw_equally():
    def chain(seed: int) -> list[tuple[int, ...]]:
        generator = seeded(seed)
        return [uniform_depths(RESNET50, generator) for _ in range(20)]

    assert chain(3) == chain(3)
    assert chain(3) != chain(4)


def test_draws_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    uniform_depths(RESNET50, seeded())
    uniform_share(0.43, seeded())
    assert torch.equal(before, torch.get_rng_state())


def test_uniform_widths_are_multiples_of_divisors_or_whole():
    groups = [ChannelGroup("a", 10, 4, ()), ChannelGroup("b", 6, 1, ())]
    generator = seeded()
    drawn = [uniform_widths(groups, {"a": 4, "b": 5}, generator) for _ in range(200)]
    assert {widths["a"] for widths in drawn} == {4, 8, 10}
    assert {widths["b"] for widths in drawn} == {5, 6}


def test_shares_lie_between_the_smallest_and_one():
    generator = seeded()
    shares = [uniform_share(0.43, generator) for _ in range(500)]
    assert 0.43 <= min(shares) < 0.45
    assert 0.98 < max(shares) <= 1
    assert uniform_share(1.0, generator) == 1
