"""What one training step of ST, ST++ and GKT must and must not do to gradients."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import nn

from benchmarks.compression.loop import TrainingSettings, train
from benchmarks.compression.tasks import Classification
from hisplat_models.compression.common import CommonTraining, WeightsOnlyStep
from hisplat_models.compression.gkt import GroupKnowledge, GroupKnowledgeSettings
from hisplat_models.compression.st import ST, ST_PLUS_PLUS, Stimulative, StimulativeSettings
from hisplat_models.compression.step import CompressionStep
from tests.models.compression import small_residual as small

TASK = Classification()
Step = Callable[[nn.Module], WeightsOnlyStep]


@pytest.fixture
def drawn_depths(monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """The only depths that ST draws in a test."""
    depths = (1, 2)
    monkeypatch.setattr("hisplat_models.compression.st.uniform_depths", lambda *_: depths)
    return depths


STEPS: dict[str, Step] = {
    "common": lambda net: CommonTraining(net, TASK),
    "st": lambda net: Stimulative(net, small.space(), TASK),
    "st++": lambda net: Stimulative(net, small.space(), TASK, ST_PLUS_PLUS),
    "gkt": lambda net: GroupKnowledge(
        net, small.space(), TASK, GroupKnowledgeSettings(groups=3, loops=2)
    ),
}
SAMPLING = ["st", "st++", "gkt"]


def step_gradients(step: Step) -> dict[str, torch.Tensor]:
    net = small.network()
    step(net).step(small.batch())
    return small.gradients(net)


@pytest.mark.parametrize("name", STEPS)
def test_steps_keep_the_contract(name: str):
    net = small.network()
    step = STEPS[name](net)
    assert isinstance(step, CompressionStep)
    losses = step.step(small.batch())
    assert losses["task"] > 0
    assert all(values.grad is not None for values in net.parameters())
    step.after_step()
    assert step.result().is_whole
    assert list(step.extra_parameters()) == []


@pytest.mark.parametrize("name", STEPS)
def test_steps_change_no_weight_and_leave_the_network_whole(name: str):
    net, untouched = small.network(), small.network()
    STEPS[name](net).step(small.batch())
    assert list(net.state_dict()) == list(untouched.state_dict())
    for (_, values), expected in zip(net.named_parameters(), untouched.parameters(), strict=True):
        assert torch.equal(values, expected)
    for each in (net, untouched):
        each.train()
    images = small.batch(seed=1).images
    assert torch.equal(net(images), untouched(images))


@pytest.mark.parametrize("name", STEPS)
def test_steps_do_not_change_their_batch(name: str):
    batch = small.batch()
    before = batch.images.clone()
    STEPS[name](small.network()).step(batch)
    assert torch.equal(batch.images, before)


@pytest.mark.parametrize("name", SAMPLING)
def test_resumed_steps_draw_what_would_have_been_drawn(name: str):
    def drawn(step: WeightsOnlyStep) -> list[torch.Tensor]:
        net = step.network
        net.zero_grad()
        step.step(small.batch())
        return list(small.gradients(net).values())

    first = STEPS[name](small.network())
    drawn(first)
    first.after_step()
    state = first.state_dict()
    expected = drawn(first)
    resumed = STEPS[name](first.network)
    resumed.load_state_dict(state)
    assert resumed.steps == 1
    for ours, theirs in zip(drawn(resumed), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", SAMPLING)
def test_processes_with_other_data_draw_the_same(name: str):
    first, second = STEPS[name](small.network(0)), STEPS[name](small.network(1))
    first.step(small.batch(4, seed=0))
    second.step(small.batch(6, seed=1))
    assert torch.equal(first.generator.get_state(), second.generator.get_state())


def test_the_subnet_s_loss_reaches_only_the_subnet(drawn_depths: tuple[int, int]):
    settings = StimulativeSettings(main_weight=0.0)
    found = step_gradients(lambda net: Stimulative(net, small.space(), TASK, settings))
    skipped = small.space().subnet(drawn_depths).skipped
    outside = {name for name in found if name.rpartition(".")[0].rpartition(".")[0] in skipped}
    assert len(outside) == 12
    for name, gradient in found.items():
        assert (gradient.abs().sum() == 0) == (name in outside), name


def test_doubling_the_coefficient_doubles_only_what_distillation_adds():
    def weighed(weight: float) -> dict[str, torch.Tensor]:
        settings = StimulativeSettings(distillation_weight=weight)
        return step_gradients(lambda net: Stimulative(net, small.space(), TASK, settings))

    none, once, twice = weighed(0.0), weighed(1.0), weighed(2.0)
    common = step_gradients(STEPS["common"])
    for name in common:
        torch.testing.assert_close(none[name], common[name])
        torch.testing.assert_close(twice[name] - once[name], once[name] - common[name])


@pytest.mark.parametrize("name", ["st", "gkt"])
def test_teachers_carry_no_graph(name: str):
    task = small.Watched()
    net = small.network()
    step = {
        "st": lambda: Stimulative(net, small.space(), task, StimulativeSettings(subnets=2)),
        "gkt": lambda: GroupKnowledge(
            net, small.space(), task, GroupKnowledgeSettings(groups=2, loops=2)
        ),
    }[name]()
    step.step(small.batch())
    assert len(task.taught) in (2, 4)
    assert not any(teacher.requires_grad for teacher, _ in task.taught)
    assert all(student.requires_grad for _, student in task.taught)


def test_st_teaches_each_subnet_by_the_whole_network():
    task = small.Watched()
    net = small.network()
    Stimulative(net, small.space(), task, StimulativeSettings(subnets=3)).step(small.batch())
    whole = small.network().train()(small.batch().images)
    assert len(task.taught) == 3
    for teacher, _ in task.taught:
        assert torch.equal(teacher, whole)


def test_smaller_inputs_are_made_from_the_batch_and_never_for_the_whole_network():
    task = small.Watched()
    step = Stimulative(small.network(), small.space(), task, ST_PLUS_PLUS)
    batch = small.batch()
    for _ in range(10):
        step.step(batch)
    sides = [images.shape[-1] for images in task.seen]
    assert all(side == 12 for side in sides[::7])
    assert all(int(0.43 * 12) <= side <= 12 for side in sides)
    assert min(sides) <= 6
    for images in task.seen:
        expected = task.resized(batch, images.shape[-1] / 12).images
        assert torch.equal(images, expected)


def test_labels_may_teach_instead(drawn_depths: tuple[int, int]):
    settings = StimulativeSettings(main_weight=0.0, target="labels")
    found = step_gradients(lambda net: Stimulative(net, small.space(), TASK, settings))
    net = small.network()
    with small.space().subnet(drawn_depths).active(net, ()):
        TASK.task_loss(TASK.predict(net, small.batch()), small.batch()).backward()
    for name, expected in small.gradients(net).items():
        torch.testing.assert_close(found[name], expected)


def test_subnets_wait_for_their_first_step():
    task = small.Watched()
    settings = StimulativeSettings(first_step=2)
    step = Stimulative(small.network(), small.space(), task, settings)
    for _ in range(3):
        step.step(small.batch())
        step.after_step()
    assert len(task.seen) == 4


def test_gkt_of_one_group_drawn_evenly_from_the_whole_is_st():
    settings = GroupKnowledgeSettings(groups=1, loops=1, inherit=False, decay=1.0)
    for seed in range(5):
        gkt = step_gradients(
            lambda net, seed=seed: GroupKnowledge(net, small.space(), TASK, settings, seed)
        )
        st = step_gradients(lambda net, seed=seed: Stimulative(net, small.space(), TASK, ST, seed))
        assert all(torch.equal(gkt[name], st[name]) for name in st)


def test_gkt_s_chains_are_nested_and_shrink():
    settings = GroupKnowledgeSettings(groups=6)
    space = small.space((3, 4))
    step = GroupKnowledge(small.network(blocks=(3, 4)), space, TASK, settings)
    for _ in range(50):
        chain = [space.full, *step.chain()]
        for above, below in itertools.pairwise(chain):
            assert all(kept <= most for kept, most in zip(below, above, strict=True))
            assert below != above or above == space.minimum


def test_gkt_without_inheritance_draws_each_group_from_the_whole():
    settings = GroupKnowledgeSettings(groups=2, inherit=False)
    step = GroupKnowledge(small.network(), small.space(), TASK, settings)
    chains = [step.chain() for _ in range(100)]
    assert any(below[0] > above[0] for above, below in chains)


def test_gkt_s_groups_are_taught_by_the_average_of_the_group_above():
    task = small.Watched()
    settings = GroupKnowledgeSettings(groups=2, loops=3, averaging=0.6)
    GroupKnowledge(small.network(), small.space(), task, settings).step(small.batch())
    whole = small.network().train()(small.batch().images)
    for teacher, _ in task.taught[::2]:
        assert torch.equal(teacher, whole)
    said = [student.detach() for _, student in task.taught[::2]]
    averages = [said[0], 0.6 * said[0] + 0.4 * said[1]]
    averages.append(0.6 * averages[1] + 0.4 * said[2])
    for (teacher, _), expected in zip(task.taught[1::2], averages, strict=True):
        torch.testing.assert_close(teacher, expected)


def test_gkt_forgets_knowledge_after_each_batch():
    task = small.Watched()
    step = GroupKnowledge(small.network(), small.space(), task, GroupKnowledgeSettings(groups=2))
    for seed in range(2):
        step.step(small.batch(seed=seed))
    assert torch.equal(task.taught[3][0], task.taught[2][1].detach())


def test_gkt_s_teacher_may_be_the_network():
    task = small.Watched()
    settings = GroupKnowledgeSettings(groups=3, teacher="network")
    GroupKnowledge(small.network(), small.space(), task, settings).step(small.batch())
    assert all(torch.equal(teacher, task.taught[0][0]) for teacher, _ in task.taught)


@pytest.mark.parametrize(
    "settings",
    [
        lambda: StimulativeSettings(subnets=0),
        lambda: StimulativeSettings(smallest_input=0.0),
        lambda: GroupKnowledgeSettings(groups=0),
        lambda: GroupKnowledgeSettings(averaging=1.0),
        lambda: GroupKnowledgeSettings(decay=0.0),
    ],
)
def test_settings_without_a_meaning_are_refused(settings: Callable[[], object]):
    with pytest.raises(ValueError, match="Expected"):
        settings()


@pytest.mark.parametrize("name", SAMPLING)
def test_training_follows_its_seed(name: str):
    def trained() -> dict[str, torch.Tensor]:
        net = small.network()
        settings = TrainingSettings(epochs=2, batch_size=4)
        train(net, STEPS[name](net), small.batch(), settings, seed=0)
        return net.state_dict()

    first, second = trained(), trained()
    assert all(torch.equal(first[key], second[key]) for key in first)
