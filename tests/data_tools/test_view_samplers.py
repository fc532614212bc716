import pytest
import torch

from hisplat_data_tools.datasets import (
    AllViews,
    BoundedSampler,
    IndexSampler,
    UnusableScene,
    ViewChoice,
)
from hisplat_data_tools.datasets.view_samplers import ViewSampler


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaps(sampler: BoundedSampler, step: int | None, frames: int = 300) -> set[int]:
    choices = [sampler.choose("s", frames, seeded(i), step) for i in range(200)]
    return {c.context[-1] - c.context[0] for c in choices}


@pytest.mark.parametrize(
    ("step", "gap"), [(0, 25), (7_499, 25), (7_500, 26), (75_000, 35), (149_999, 44),
                      (150_000, 45), (300_000, 45), (None, 45)],
)  # fmt: skip
def test_published_gap_is_exact_and_grows(step: int | None, gap: int) -> None:
    assert gaps(BoundedSampler(), step) == {gap}


def test_published_targets_lie_anywhere_from_left_to_right_with_repetition() -> None:
    choices = [BoundedSampler().choose("s", 60, seeded(i), None) for i in range(600)]
    offsets = [t - c.context[0] for c in choices for t in c.target]
    assert set(offsets) == set(range(46))
    assert {len(c.target) for c in choices} == {4}
    assert any(len(set(c.target)) < 4 for c in choices)
    assert {c.context[0] for c in choices} == set(range(60 - 45))


def test_unpublished_gaps_fill_the_bounds_and_targets_are_new_frames_between() -> None:
    sampler = BoundedSampler(as_published=False, least_gap=(4, 6), greatest_gap=(6, 12))
    assert gaps(sampler, 0) == {4, 5, 6}
    assert gaps(sampler, None) == set(range(6, 13))
    for seed in range(100):
        choice = sampler.choose("s", 40, seeded(seed), None)
        assert len(set(choice.target)) == 4
        assert all(choice.context[0] < t < choice.context[1] for t in choice.target)


def test_gap_never_exceeds_the_scene() -> None:
    sampler = BoundedSampler(as_published=False, least_gap=(4, 6), greatest_gap=(6, 12))
    assert gaps(sampler, None, frames=9) == {6, 7, 8}


def test_choice_depends_on_the_generator_alone() -> None:
    sampler = BoundedSampler()
    same = [sampler.choose("s", 200, seeded(7), 10) for _ in range(2)]
    assert same[0] == same[1]
    assert len({sampler.choose("s", 200, seeded(i), 10) for i in range(20)}) > 15


@pytest.mark.parametrize(("step", "frames"), [(0, 25), (None, 45)])
def test_short_scene_is_refused_by_name(step: int | None, frames: int) -> None:
    with pytest.raises(UnusableScene, match=rf"fox has {frames} frames"):
        BoundedSampler().choose("fox", frames, seeded(0), step)
    BoundedSampler().choose("fox", frames + 1, seeded(0), step)


@pytest.mark.parametrize("as_published", [True, False])
def test_further_context_views_lie_between(as_published: bool) -> None:
    sampler = BoundedSampler(context_views=4, as_published=as_published)
    for seed in range(50):
        context = sampler.choose("s", 100, seeded(seed), None).context
        assert len(set(context)) == 4
        assert list(context) == sorted(context)


@pytest.mark.parametrize(
    "options",
    [
        {"context_views": 1},
        {"target_views": 0},
        {"warm_up_steps": -1},
        {"context_views": 4, "least_gap": (2, 45)},
        {"least_gap": (50, 60)},
    ],
)
def test_impossible_bounds_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=r"Expected|need a gap"):
        BoundedSampler(**options)


ENTRIES = {
    "plain": ViewChoice((10, 20), (12, 18)),
    "middle is target": ViewChoice((10, 20), (14, 15)),
    "three": ViewChoice((10, 13, 20), (12,)),
    "full": ViewChoice((10, 12), (11,)),
    "null": None,
}


@pytest.mark.parametrize(
    ("key", "count", "context"),
    [
        ("plain", None, (10, 20)),
        ("plain", 2, (10, 20)),
        ("plain", 3, (10, 15, 20)),
        ("plain", 4, (10, 13, 17, 20)),
        ("middle is target", 3, (10, 16, 20)),
        ("three", 3, (10, 13, 20)),
        ("three", 2, (10, 20)),
        ("three", None, (10, 13, 20)),
    ],
)
def test_index_names_the_views(key: str, count: int | None, context: tuple[int, ...]) -> None:
    choice = IndexSampler(ENTRIES, count).choose(key, 21, seeded(0), None)
    assert choice.context == context
    entry = ENTRIES[key]
    assert entry is not None
    assert choice.target == entry.target


def test_index_refuses_what_it_cannot_serve() -> None:
    sampler = IndexSampler(ENTRIES, 3)
    assert sampler.refusal("plain") is None
    assert sampler.refusal("null") == "null in the evaluation index"
    assert sampler.refusal("other") == "not in the evaluation index"
    for key, frames, message in (
        ("null", 30, "null"),
        ("other", 30, "not in"),
        ("plain", 20, "frames \\[20\\] of the scene plain"),
        ("full", 30, "no 3 context views"),
    ):
        with pytest.raises(UnusableScene, match=message):
            sampler.choose(key, frames, seeded(0), None)


@pytest.mark.parametrize(
    ("left", "right", "target", "middle"),
    [(0, 25, 7, 12), (575, 600, 587, 588), (625, 650, 637, 638), (875, 899, 878, 887)],
)
def test_third_view_is_that_of_the_published_three_view_index(
    left: int, right: int, target: int, middle: int
) -> None:
    """Lines of evaluation_index_replica_nctx2.json and _nctx3.json."""
    sampler = IndexSampler({"s": ViewChoice((left, right), (target,))}, 3)
    assert sampler.choose("s", 900, seeded(0), None).context == (left, middle, right)


def test_numbered_entries_are_examples_of_one_scene() -> None:
    entry = ViewChoice((33, 31), (32,))
    sampler = IndexSampler({"scan1_train_00": entry, "scan1_train_01": entry, "a_00": entry})
    assert list(sampler.names("scan1_train")) == ["scan1_train_00", "scan1_train_01"]
    assert list(sampler.names("b")) == ["b"]
    assert sampler.choose("scan1_train_01", 49, seeded(0), None) == entry


def test_all_views_are_given_and_compared() -> None:
    choice = AllViews().choose("s", 3, seeded(0), None)
    assert choice == ViewChoice((0, 1, 2), (0, 1, 2))


@pytest.mark.parametrize("sampler", [BoundedSampler(), IndexSampler(ENTRIES), AllViews()])
def test_every_sampler_keeps_the_contract(sampler: ViewSampler) -> None:
    assert isinstance(sampler, ViewSampler)
    assert list(sampler.names("plain")) == ["plain"]
    assert sampler.refusal("plain") is None
    choice = sampler.choose("plain", 60, seeded(1), 5)
    assert choice == sampler.choose("plain", 60, seeded(1), 5)
    assert all(0 <= i < 60 for i in choice.context + choice.target)
