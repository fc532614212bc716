"""Gaussian scenes as the .ply that 3DGS viewers read.

One binary little-endian float32 record a Gaussian: position, unused normals, harmonics (constant
band, then the rest channel by channel), logit of opacity, logarithms of the standard deviations
and the rotation as wxyz. The scene stays in its own frame and at its own scale. Levels have no
property of their own, since viewers know none: Gaussians are stored coarsest level first and a
comment says how many each level has.
"""

import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from plyfile import PlyData, PlyElement, PlyElementParseError, PlyHeaderParseError
from torch import Tensor

from hisplat_models.gaussians import Gaussians

from .atomic_write import write_atomically

MAX_SH_DEGREE = 3
"""What other readers understand; higher bands are cut off."""

LOGIT_RANGE = (-88.0, 20.0)
"""Logits stored for opacities 0 and 1; both give exactly 0 and 1 again as float32."""

_LEVELS = "hisplat levels"


class PlyError(ValueError):
    """A file is not a Gaussian .ply that can be read."""


def write_ply(path: Path | str, gaussians: Gaussians) -> None:
    """Writes a scene; the file appears only once it is complete.

    Gaussians are stored coarsest level first, otherwise in their order. Harmonics above degree 3
    are cut off.

    Raises:
        ValueError: if the set is batched, or holds NaN, infinite or non-positive scales.
        FileNotFoundError: if the folder does not exist.
    """
    write_atomically(path, to_ply_bytes(gaussians))


def to_ply_bytes(gaussians: Gaussians) -> bytes:
    """The content ``write_ply`` would write.

    Raises:
        ValueError: if the set is batched, or holds NaN, infinite or non-positive scales.
    """
    gaussians = _checked(gaussians)
    gaussians = gaussians[torch.argsort(gaussians.level, stable=True)]
    bands = min(gaussians.sh_degree, MAX_SH_DEGREE)
    harmonics = gaussians.harmonics[:, : (bands + 1) ** 2]
    columns = torch.cat(
        [
            gaussians.means.double(),
            torch.zeros_like(gaussians.means, dtype=torch.float64),
            harmonics[:, 0].double(),
            harmonics[:, 1:].mT.flatten(1).double(),
            torch.logit(gaussians.opacities.double()).clamp(*LOGIT_RANGE)[:, None],
            gaussians.scales.double().log(),
            gaussians.quaternions_wxyz.double(),
        ],
        dim=1,
    )
    names = _property_names(3 * (harmonics.shape[1] - 1))
    records = np.ascontiguousarray(columns.numpy(), dtype="<f4")
    records = records.view([(name, "<f4") for name in names])[:, 0]
    vertices = PlyElement.describe(records, "vertex")
    counts = torch.bincount(gaussians.level) if gaussians.count else torch.zeros(1).long()
    comment = " ".join([_LEVELS, *(str(int(n)) for n in counts)])
    buffer = io.BytesIO()
    PlyData([vertices], text=False, byte_order="<", comments=[comment]).write(buffer)
    return buffer.getvalue()


def read_ply(path: Path | str) -> Gaussians:
    """The scene in a Gaussian .ply of any writer; level 0 where the file tells no levels.

    Raises:
        FileNotFoundError: if there is no such file.
        PlyError: if it is not a .ply, or one without Gaussians, or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        data = PlyData.read(str(path))
    except (PlyHeaderParseError, PlyElementParseError, UnicodeDecodeError, ValueError) as error:
        raise PlyError(f"{path} is not a complete .ply file: {error}") from error
    vertices, rest_count = _vertices(data, path)

    def table(names: Sequence[str]) -> Float[Tensor, "n columns"]:
        columns = [np.asarray(vertices[name], dtype=np.float64) for name in names]
        return torch.from_numpy(np.stack(columns, axis=1))

    values = table([n for n in _property_names(rest_count) if n not in ("nx", "ny", "nz")])
    if not bool(torch.isfinite(values).all()):
        raise PlyError(f"{path} holds NaN or infinite values.")
    means, constant, rest, logits, log_scales, quaternions = values.split(
        [3, 3, rest_count, 1, 3, 4], dim=1
    )
    norms = quaternions.norm(dim=1, keepdim=True)
    if bool((norms == 0).any()):
        raise PlyError(f"{path} holds a rotation of zero length.")
    # Unit quaternions are left as they are, so that a second round trip changes nothing.
    quaternions = torch.where((norms - 1).abs() < 1e-6, quaternions, quaternions / norms)
    rest = rest.unflatten(1, (3, rest_count // 3)).mT
    opacities = torch.where(logits <= LOGIT_RANGE[0], 0.0, torch.sigmoid(logits))[:, 0]
    return Gaussians(
        means=means.float(),
        scales=log_scales.exp().float(),
        quaternions_wxyz=quaternions.float(),
        opacities=opacities.float(),
        harmonics=torch.cat([constant[:, None], rest], dim=1).float(),
        level=_levels(data.comments, len(means)),
    )


def _property_names(rest_count: int) -> list[str]:
    names = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    names += [f"f_rest_{i}" for i in range(rest_count)]
    return [*names, "opacity", *(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]


def _checked(gaussians: Gaussians) -> Gaussians:
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
    return gaussians


def _vertices(data: PlyData, path: Path) -> tuple[PlyElement, int]:
    """The element with the Gaussians and its number of view-dependent coefficients."""
    elements = {element.name: element for element in data.elements}
    if "chunk" in elements:
        raise PlyError(
            f"{path} is a compressed .ply; convert it first, for example with "
            "`npx @playcanvas/splat-transform`."
        )
    found = {p.name for p in elements["vertex"].properties} if "vertex" in elements else set()
    rest_count = len([name for name in found if re.fullmatch(r"f_rest_\d+", name)])
    required = set(_property_names(rest_count)) - {"nx", "ny", "nz"}
    missing = sorted(required - found)
    if missing:
        raise PlyError(
            f"{path} holds no Gaussian scene: its vertices have no {', '.join(missing[:4])}"
            f"{' …' if len(missing) > 4 else ''} (is it a mesh or a point cloud?)."
        )
    if rest_count not in (3 * ((d + 1) ** 2 - 1) for d in range(5)):
        raise PlyError(f"{path} has {rest_count} f_rest properties; expected 0, 9, 24, 45 or 72.")
    return elements["vertex"], rest_count


def _levels(comments: Sequence[str], count: int) -> Int[Tensor, "n"]:
    for comment in comments:
        if re.fullmatch(rf"{_LEVELS}( \d+)+", comment):
            counts = torch.tensor([int(n) for n in comment[len(_LEVELS) :].split()])
            # Other tools copy comments but may drop Gaussians: then the counts say nothing.
            if int(counts.sum()) == count:
                return torch.repeat_interleave(torch.arange(len(counts)), counts)
    return torch.zeros(count, dtype=torch.long)
