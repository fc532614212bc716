"""What files of Gaussian scenes share: checks before writing, tidying after reading."""

import logging
import re
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int

from hisplat_models.gaussians import Gaussians

logger = logging.getLogger(__name__)

MAX_SH_DEGREE = 3
"""What other readers understand; higher bands are cut off."""

SH_COUNTS = (1, 4, 9, 16)
"""Coefficients a colour channel, by degree."""

SMALLEST_SCALE = 2.0611536e-09
"""exp(-20): what a standard deviation of zero is read as; nothing so small is ever seen."""


_LEVELS = "hisplat levels"


class SceneFileError(ValueError):
    """A file holds no scene that can be read; the message names it and says why."""


def ready_to_write(gaussians: Gaussians) -> Gaussians:
    """The set on the CPU, coarsest level first, harmonics cut to degree 3.

    Raises:
        ValueError: if the set is batched, or holds NaN, infinite or non-positive scales.
    """
    if gaussians.means.dim() != 2:
        raise ValueError(
            f"Expected one scene with means of shape (n, 3), got {tuple(gaussians.means.shape)}; "
            "index the batch first."
        )
    gaussians = gaussians.detach().to("cpu")
    for name in ("means", "scales", "quaternions_wxyz", "opacities", "harmonics"):
        bad = int((~torch.isfinite(getattr(gaussians, name))).sum())
        if bad:
            raise ValueError(f"Cannot write a scene with {bad} NaN or infinite values in {name}.")
    if bool((gaussians.scales <= 0).any()):
        raise ValueError("Cannot write a scene with scales that are not positive.")
    return cut_harmonics(gaussians[torch.argsort(gaussians.level, stable=True)])


def cut_harmonics(gaussians: Gaussians) -> Gaussians:
    """The set without the bands above degree 3."""
    if gaussians.sh_degree <= MAX_SH_DEGREE:
        return gaussians
    return Gaussians(
        gaussians.means,
        gaussians.scales,
        gaussians.quaternions_wxyz,
        gaussians.opacities,
        gaussians.harmonics[..., : SH_COUNTS[MAX_SH_DEGREE], :],
        gaussians.level,
    )


def tidied(
    name: str,
    means: Float[np.ndarray, "n 3"],
    scales: Float[np.ndarray, "n 3"],
    quaternions_wxyz: Float[np.ndarray, "n 4"],
    opacities: Float[np.ndarray, "n"],
    harmonics: Float[np.ndarray, "n sh 3"],
    level: Int[np.ndarray, "n"] | None = None,
) -> Gaussians:
    """The set of values read from a file, as float32, rotations normalised.

    Gaussians that nothing can draw (NaN, infinite, a rotation of zero length) are left out, which
    is logged as a warning. Harmonics above degree 3 are cut off.

    Args:
        name: What to call the file in messages.
        means: As in ``Gaussians``.
        scales: Likewise; zero is read as a very small one.
        quaternions_wxyz: Rotations of any length.
        opacities: In [0, 1].
        harmonics: Of any degree.
        level: Zero if None.

    Raises:
        SceneFileError: if there are Gaussians but none that can be drawn.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        # Unit quaternions are left as they are, so that a second round trip changes nothing.
        norms = np.linalg.norm(quaternions_wxyz.astype(np.float64), axis=1, keepdims=True)
        unit = np.abs(norms - 1) < 1e-6
        quaternions = np.where(unit, quaternions_wxyz, quaternions_wxyz / norms)
        fields = [
            means,
            np.maximum(scales, SMALLEST_SCALE),
            quaternions,
            opacities,
            harmonics[:, : SH_COUNTS[MAX_SH_DEGREE]],
        ]
        fields = [f.astype(np.float32) for f in fields]
    usable = (norms[:, 0] > 0) & (fields[1] > 0).all(axis=1)
    for field in fields:
        usable &= np.isfinite(field).all(axis=tuple(range(1, field.ndim)))
    levels = np.zeros(len(means), dtype=np.int64) if level is None else level.astype(np.int64)
    lost = int((~usable).sum())
    if lost:
        if lost == len(means):
            raise SceneFileError(
                f"{name} holds no usable Gaussian: all {lost} have NaN or infinite values, or a "
                "rotation of zero length."
            )
        logger.warning("%s: left out %d of %d Gaussians that are NaN.", name, lost, len(means))
        fields, levels = [f[usable] for f in fields], levels[usable]
    return Gaussians(*(torch.from_numpy(f) for f in (*fields, levels)))


def levels_comment(level: Int[np.ndarray, "n"]) -> str:
    """The comment in a .ply that says how many Gaussians each level has."""
    counts = np.bincount(level, minlength=1)
    return " ".join([_LEVELS, *(str(n) for n in counts)])


def levels_from_comments(comments: Sequence[str], count: int) -> Int[np.ndarray, "n"]:
    """The level of each of ``count`` Gaussians, zero if no comment tells."""
    for comment in comments:
        if re.fullmatch(rf"{_LEVELS}( \d{{1,18}}){{1,100}}", comment):
            counts = [int(n) for n in comment[len(_LEVELS) :].split()]
            # Other tools copy comments but may drop Gaussians: then the counts say nothing.
            if sum(counts) == count:
                return np.repeat(np.arange(len(counts)), counts)
    return np.zeros(count, dtype=np.int64)
