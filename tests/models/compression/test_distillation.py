"""Laws of the distances between teachers and students."""

import math

import pytest
import torch
from torch import Tensor

from hisplat_models.compression.distillation import (
    LogitDistillation,
    at_size_of,
    averaged,
    depth_distribution_kl,
    detached,
    feature_cosine,
    kl,
    kl_minus,
    log_disparity,
    normalised_logits,
    rendered,
    weighted_sum,
)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


TEACHER, STUDENT = drawn(6, 10), drawn(6, 10, seed=1)


@pytest.mark.parametrize("distance", [kl, kl_minus])
def test_divergences_are_positive_and_zero_for_equals(distance):
    assert distance(TEACHER, STUDENT) > 0.01
    assert distance(TEACHER, TEACHER).abs() < 1e-6


def test_kl_is_that_of_the_written_out_sum():
    expected = sum(
        p * (math.log(p) - math.log(q))
        for teacher, student in zip(TEACHER.softmax(-1), STUDENT.softmax(-1), strict=True)
        for p, q in zip(teacher.tolist(), student.tolist(), strict=True)
    )
    assert kl(TEACHER, STUDENT).item() == pytest.approx(expected / len(TEACHER), rel=1e-5)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("shift", [-5.0, 0.0, 5.0])
def test_kl_minus_is_blind_to_scale_and_shift_of_either_side(scale: float, shift: float):
    expected = kl_minus(TEACHER, STUDENT)
    for changed in (
        kl_minus(scale * TEACHER + shift, STUDENT),
        kl_minus(TEACHER, scale * STUDENT + shift),
    ):
        torch.testing.assert_close(changed, expected, rtol=1e-4, atol=1e-5)


def test_kl_is_blind_to_shift_alone():
    torch.testing.assert_close(kl(TEACHER + 3, STUDENT), kl(TEACHER, STUDENT))
    assert (kl(TEACHER, 2 * STUDENT) - kl(TEACHER, STUDENT)).abs() > 0.1


def test_gradient_of_kl_minus_is_orthogonal_to_logits_and_to_ones():
    student = STUDENT.double().requires_grad_()
    kl_minus(TEACHER.double(), student).backward()
    assert student.grad is not None
    assert student.grad.norm() > 0.01
    centred = (student - student.mean(-1, keepdim=True)).detach()
    assert (student.grad * centred).sum(-1).abs().max() < 1e-6
    assert student.grad.sum(-1).abs().max() < 1e-12


def test_normalised_logits_have_mean_zero_and_the_asked_deviation():
    normalised = normalised_logits(7 * TEACHER + 2, amplitude=3.0)
    torch.testing.assert_close(normalised.mean(-1), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(normalised.std(-1, correction=0), torch.full((6,), 3.0))


def test_temperature_softens_and_keeps_the_size_of_gradients():
    torch.testing.assert_close(
        kl(TEACHER, STUDENT, temperature=4.0), 16 * kl(TEACHER / 4, STUDENT / 4)
    )

    def gradient(temperature: float) -> float:
        student = STUDENT.clone().requires_grad_()
        kl(TEACHER, student, temperature).backward()
        assert student.grad is not None
        return student.grad.norm().item()

    assert gradient(8.0) == pytest.approx(gradient(16.0), rel=0.2)


def test_a_choice_of_loss_is_the_loss_it_names():
    assert LogitDistillation()(TEACHER, STUDENT) == kl(TEACHER, STUDENT)
    chosen = LogitDistillation("kl_minus", amplitude=2.0, temperature=3.0)
    assert chosen(TEACHER, STUDENT) == kl_minus(TEACHER, STUDENT, 2.0, 3.0)


def test_a_detached_teacher_gets_no_gradient():
    knowledge = {"logits": TEACHER.clone().requires_grad_()}
    target = detached(knowledge)
    assert not target["logits"].requires_grad
    assert torch.equal(target["logits"], TEACHER)


def test_averages_are_exponential_and_without_a_graph():
    parts = [drawn(4, seed=seed).requires_grad_() for seed in range(3)]
    average = {"logits": parts[0]}
    for part in parts[1:]:
        average = averaged(average, {"logits": part}, keep=0.8)
    expected = 0.64 * parts[0] + 0.16 * parts[1] + 0.2 * parts[2]
    torch.testing.assert_close(average["logits"], expected.detach())
    assert not average["logits"].requires_grad


def test_depth_kl_is_a_mean_over_pixels():
    teacher, student = drawn(2, 16, 3, 4), drawn(2, 16, 3, 4, seed=1)
    distance = depth_distribution_kl(teacher, student)
    flat = kl(teacher.movedim(1, -1).reshape(-1, 16), student.movedim(1, -1).reshape(-1, 16))
    torch.testing.assert_close(distance, flat)
    tiled = depth_distribution_kl(teacher.repeat(1, 1, 2, 3), student.repeat(1, 1, 2, 3))
    torch.testing.assert_close(tiled, distance)


def test_depth_kl_of_normalised_logits_is_blind_to_sharpness():
    teacher, student = drawn(1, 16, 3, 4), drawn(1, 16, 3, 4, seed=1)
    plain = depth_distribution_kl(teacher, student, amplitude=3.0)
    sharper = depth_distribution_kl(teacher, 5 * student, amplitude=3.0)
    torch.testing.assert_close(plain, sharper, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("distance", [depth_distribution_kl, log_disparity])
def test_pixels_without_confidence_do_not_count(distance):
    shape = (2, 8, 3, 4) if distance is depth_distribution_kl else (2, 3, 4)
    teacher, student = drawn(*shape), drawn(*shape, seed=1)
    confidence = torch.zeros(2, 3, 4)
    confidence[1, 0] = 0.5
    alone = distance(teacher[1:, ..., :1, :], student[1:, ..., :1, :])
    torch.testing.assert_close(distance(teacher, student, confidence), alone)


def test_log_disparity_sees_ratios():
    nearer, farther = torch.tensor([[2.0, 0.5]]), torch.tensor([[2.2, 0.55]])
    errors = [log_disparity(nearer[:, [i]].log(), farther[:, [i]].log()).item() for i in range(2)]
    assert errors[0] == pytest.approx(errors[1], rel=1e-4)
    assert log_disparity(nearer, nearer) == 0


def test_feature_cosine_is_blind_to_positive_scale():
    teacher, student = drawn(2, 8, 3, 4), drawn(2, 8, 3, 4, seed=1)
    distance = feature_cosine(teacher, student)
    torch.testing.assert_close(feature_cosine(0.1 * teacher, 9 * student), distance)
    assert feature_cosine(teacher, teacher).abs() < 1e-6
    torch.testing.assert_close(feature_cosine(teacher, -teacher), torch.tensor(2.0))


def test_rendered_is_the_mean_square():
    assert rendered(torch.zeros(2, 3, 4, 5), torch.full((2, 3, 4, 5), 0.5)) == 0.25


def test_maps_of_teachers_are_brought_to_the_student_s_size():
    teacher, small = torch.full((1, 4, 8, 12), 3.0), torch.zeros(1, 4, 4, 5)
    torch.testing.assert_close(at_size_of(teacher, small), torch.full((1, 4, 4, 5), 3.0))
    assert at_size_of(teacher, teacher) is teacher


def test_weighted_sum_wants_a_weight_for_every_loss():
    losses = {"depth": torch.tensor(2.0), "features": torch.tensor(3.0)}
    assert weighted_sum(losses, {"depth": 1.0, "features": 0.1}) == pytest.approx(2.3)
    with pytest.raises(ValueError, match="Expected weights of"):
        weighted_sum(losses, {"depth": 1.0})
