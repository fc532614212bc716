"""How far a student is from its teacher: of classes, of depth, of features, of pictures.

Gradients flow into whichever side is not detached; ``detached`` does so for a teacher.
Sources: KL is the loss of ST (NeurIPS 2022; repository Sunshine-Ye/NIPS22-ST, training script);
KL- that of ST++ (arXiv 2305.02507; same script, option ``norm_kd``). What is said of depth,
features and pictures is our choice: nothing public covers such outputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from .task import Knowledge

NORM_EPSILON = 1e-7
"""Added to the variance of logits; published."""
LOG_DISPARITY_KNEE = 0.1
"""Where ``log_disparity`` turns from squares to absolute values, about 10 %; our choice."""


def detached(knowledge: Knowledge) -> dict[str, Tensor]:
    """The same knowledge without a graph, as a target."""
    return {name: values.detach() for name, values in knowledge.items()}


def averaged(before: Knowledge, new: Knowledge, keep: float) -> dict[str, Tensor]:
    """The exponential moving average ``keep * before + (1 - keep) * new``, without a graph."""
    return {
        name: keep * values.detach() + (1 - keep) * new[name].detach()
        for name, values in before.items()
    }


def normalised_logits(
    logits: Float[Tensor, "*batch classes"], amplitude: float = 1.0
) -> Float[Tensor, "*batch classes"]:
    """Logits of mean 0 and standard deviation ``amplitude``: their direction alone is left."""
    return amplitude * functional.layer_norm(logits, logits.shape[-1:], eps=NORM_EPSILON)


def kl(
    teacher: Float[Tensor, "batch classes"],
    student: Float[Tensor, "batch classes"],
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """Divergence of the student's class distribution from the teacher's, mean over the batch.

    Times the squared temperature, so that gradients keep their size.
    """
    return temperature**2 * _divergence(teacher / temperature, student / temperature).mean()


def kl_minus(
    teacher: Float[Tensor, "batch classes"],
    student: Float[Tensor, "batch classes"],
    amplitude: float = 1.0,
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """KL of layer-normalised logits: blind to positive scale and shift of either side."""
    return kl(
        normalised_logits(teacher, amplitude), normalised_logits(student, amplitude), temperature
    )


@dataclass(frozen=True)
class LogitDistillation:
    """A choice of loss for classifiers; called with the teacher's and the student's logits."""

    kind: Literal["kl", "kl_minus"] = "kl"
    """KL is published for ST, KL- for ST++."""
    amplitude: float = 1.0
    """Standard deviation of normalised logits in KL-; 1 is published."""
    temperature: float = 1.0
    """Softens both sides; 1 is published."""

    def __call__(
        self, teacher: Float[Tensor, "batch classes"], student: Float[Tensor, "batch classes"]
    ) -> Float[Tensor, ""]:
        """The loss of this choice."""
        if self.kind == "kl":
            return kl(teacher, student, self.temperature)
        return kl_minus(teacher, student, self.amplitude, self.temperature)


def depth_distribution_kl(
    teacher: Float[Tensor, "view candidates height width"],
    student: Float[Tensor, "view candidates height width"],
    confidence: Float[Tensor, "view height width"] | None = None,
    amplitude: float | None = None,
) -> Float[Tensor, ""]:
    """Divergence of distributions over depth candidates, mean over pixels.

    Args:
        teacher: Logits of the candidates.
        student: As many logits.
        confidence: Weights of pixels, such as the teacher's highest probability; alike if None.
        amplitude: If given, both sides are normalised over the candidates first, to this standard
            deviation (KL-). Absolute sharpness is then unseen, and with it the expected depth:
            pair it with ``log_disparity``. Some 2-4 keeps peaks of 3-5 candidates.
    """
    teacher, student = teacher.movedim(1, -1), student.movedim(1, -1)
    if amplitude is not None:
        teacher = normalised_logits(teacher, amplitude)
        student = normalised_logits(student, amplitude)
    return _weighted_mean(_divergence(teacher, student), confidence)


def log_disparity(
    teacher: Float[Tensor, "view *pixel"],
    student: Float[Tensor, "view *pixel"],
    confidence: Float[Tensor, "view *pixel"] | None = None,
) -> Float[Tensor, ""]:
    """Smooth L1 between logarithms of disparity, mean over pixels: relative errors of depth."""
    error = functional.smooth_l1_loss(student, teacher, reduction="none", beta=LOG_DISPARITY_KNEE)
    return _weighted_mean(error, confidence)


def feature_cosine(
    teacher: Float[Tensor, "view channel *pixel"], student: Float[Tensor, "view channel *pixel"]
) -> Float[Tensor, ""]:
    """One minus the cosine between features, mean over pixels: blind to their scale, as KL- is."""
    return (1 - functional.cosine_similarity(teacher, student, dim=1)).mean()


def rendered(
    teacher: Float[Tensor, "*picture height width"], student: Float[Tensor, "*picture height width"]
) -> Float[Tensor, ""]:
    """Mean squared difference of pictures rendered from both; blind to how scenes are built."""
    return functional.mse_loss(student, teacher)


def at_size_of(
    teacher: Float[Tensor, "view channel height width"],
    student: Float[Tensor, "view channel height2 width2"],
) -> Float[Tensor, "view channel height2 width2"]:
    """The teacher's map, brought to the size of a student that saw smaller images."""
    if teacher.shape[-2:] == student.shape[-2:]:
        return teacher
    return functional.interpolate(
        teacher, student.shape[-2:], mode="bilinear", align_corners=False, antialias=True
    )


def weighted_sum(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Sum of named losses.

    Raises:
        ValueError: if a loss has no weight, or a weight no loss.
    """
    if losses.keys() != weights.keys():
        raise ValueError(f"Expected weights of {sorted(losses)}, got those of {sorted(weights)}")
    return sum((weights[name] * loss for name, loss in losses.items()), start=_zero(losses))


def _zero(losses: Mapping[str, Tensor]) -> Tensor:
    return next(iter(losses.values())).new_zeros(())


def _divergence(
    teacher: Float[Tensor, "*pixel classes"], student: Float[Tensor, "*pixel classes"]
) -> Float[Tensor, "*pixel"]:
    """Kullback-Leibler divergence over the last axis."""
    log_teacher = teacher.log_softmax(-1)
    return (log_teacher.exp() * (log_teacher - student.log_softmax(-1))).sum(-1)


def _weighted_mean(
    values: Float[Tensor, "*pixel"], weights: Float[Tensor, "*pixel"] | None
) -> Float[Tensor, ""]:
    if weights is None:
        return values.mean()
    return (weights * values).sum() / weights.sum().clamp_min(1e-12)
