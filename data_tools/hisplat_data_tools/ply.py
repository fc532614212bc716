"""Gaussian scenes as the .ply that 3DGS viewers read.

One binary little-endian float32 record a Gaussian: position, unused normals, harmonics (constant
band, then the rest channel by channel), logit of opacity, logarithms of the standard deviations
and the rotation as wxyz. The scene stays in its own frame and at its own scale. Levels have no
property of their own, since viewers know none: Gaussians are stored coarsest level first and a
comment says how many each level has.

Any layout of others is read: ascii or big-endian, unknown properties and elements, any degree of
harmonics, and the compressed layout of ``compressed_ply.py``.
"""

import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from plyfile import PlyData, PlyElement, PlyElementParseError, PlyHeaderParseError

from hisplat_models.gaussians import Gaussians

from .atomic_write import write_atomically
from .compressed_ply import decompress
from .scene_values import (
    MAX_SH_DEGREE,
    SceneFileError,
    levels_comment,
    levels_from_comments,
    ready_to_write,
    tidied,
)

LOGIT_RANGE = (-88.0, 20.0)
"""Logits stored for opacities 0 and 1; both give exactly 0 and 1 again as float32."""

MAX_HEADER_BYTES = 1 << 16

_BYTES = {
    "char": 1, "uchar": 1, "int8": 1, "uint8": 1, "short": 2, "ushort": 2, "int16": 2, "uint16": 2,
    "int": 4, "uint": 4, "int32": 4, "uint32": 4, "float": 4, "float32": 4, "double": 8,
    "float64": 8,
}  # fmt: skip


class PlyError(SceneFileError):
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
    gaussians = ready_to_write(gaussians)
    harmonics = gaussians.harmonics.double().numpy()
    columns = np.concatenate(
        [
            gaussians.means.double().numpy(),
            np.zeros((gaussians.count, 3)),
            harmonics[:, 0],
            harmonics[:, 1:].swapaxes(1, 2).reshape(gaussians.count, 3 * (harmonics.shape[1] - 1)),
            gaussians.opacities.double().logit().clamp(*LOGIT_RANGE)[:, None].numpy(),
            gaussians.scales.double().log().numpy(),
            gaussians.quaternions_wxyz.double().numpy(),
        ],
        axis=1,
    )
    names = _property_names(3 * (harmonics.shape[1] - 1))
    records = np.ascontiguousarray(columns, dtype="<f4")
    records = records.view([(name, "<f4") for name in names])[:, 0]
    vertices = PlyElement.describe(records, "vertex")
    comment = levels_comment(gaussians.level.numpy())
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
    return from_ply_bytes(path.read_bytes(), str(path))


def from_ply_bytes(content: bytes, name: str = "the file") -> Gaussians:
    """The scene in the content of a .ply, called ``name`` in messages.

    Raises:
        PlyError: if it is not a .ply, or one without Gaussians, or damaged.
    """
    _check_size(content, name)
    try:
        data = PlyData.read(io.BytesIO(content))
    except (PlyHeaderParseError, PlyElementParseError, ValueError, OverflowError) as error:
        raise PlyError(f"{name} is not a complete .ply file: {error}") from error
    elements = {e.name: e.data for e in data.elements}
    level = levels_from_comments(data.comments, len(elements.get("vertex", ())))
    try:
        if "chunk" in elements:
            return decompress(elements, name, level)
        return _plain(elements.get("vertex"), level, name)
    except SceneFileError as error:
        raise PlyError(str(error)) from error


def _plain(vertices: np.ndarray | None, level: Int[np.ndarray, "n"], name: str) -> Gaussians:
    rest_count = _rest_count(vertices, name)
    assert vertices is not None

    def table(names: Sequence[str]) -> Float[np.ndarray, "n columns"]:
        return np.stack([np.asarray(vertices[n], dtype=np.float64) for n in names], axis=1)

    kept = 3 * ((MAX_SH_DEGREE + 1) ** 2 - 1)
    channel = rest_count // 3
    rest = [f"f_rest_{c * channel + i}" for i in range(min(channel, kept // 3)) for c in range(3)]
    constant = table([f"f_dc_{i}" for i in range(3)])[:, None]
    view_dependent = (
        table(rest).reshape(len(vertices), len(rest) // 3, 3) if rest else constant[:, :0]
    )
    logits = table(["opacity"])[:, 0]
    with np.errstate(over="ignore", invalid="ignore"):
        opacities = np.where(logits <= LOGIT_RANGE[0], 0.0, 1 / (1 + np.exp(-logits)))
        scales = np.exp(table([f"scale_{i}" for i in range(3)]))
    return tidied(
        name,
        table(["x", "y", "z"]),
        scales,
        table([f"rot_{i}" for i in range(4)]),
        opacities,
        np.concatenate([constant, view_dependent], axis=1),
        level,
    )


def _property_names(rest_count: int) -> list[str]:
    names = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    names += [f"f_rest_{i}" for i in range(rest_count)]
    return [*names, "opacity", *(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]


def _rest_count(vertices: np.ndarray | None, name: str) -> int:
    """The number of view-dependent coefficients, once all that is needed is there."""
    found = set() if vertices is None else set(vertices.dtype.names or ())
    rest_count = len([n for n in found if re.fullmatch(r"f_rest_\d+", n)])
    required = set(_property_names(rest_count)) - {"nx", "ny", "nz"}
    missing = sorted(required - found)
    if missing:
        raise PlyError(
            f"{name} holds no Gaussian scene: its vertices have no {', '.join(missing[:4])}"
            f"{' …' if len(missing) > 4 else ''} (is it a mesh or a point cloud?)."
        )
    degree = round((rest_count / 3 + 1) ** 0.5) - 1
    if rest_count != 3 * ((degree + 1) ** 2 - 1):
        raise PlyError(
            f"{name} has {rest_count} f_rest properties; expected 0, 9, 24, 45, 72, …, three "
            "times the coefficients of whole degrees."
        )
    return rest_count


def _check_size(content: bytes, name: str) -> None:
    """Refuses files whose header promises more than they hold, before memory is asked for."""
    end = re.search(rb"end_header\r?\n?", content[:MAX_HEADER_BYTES])
    if not content.startswith(b"ply") or end is None:
        raise PlyError(f"{name} is not a complete .ply file: it has no header of one.")
    lines = content[: end.start()].decode("latin-1").splitlines()
    is_text = any(line.split() == ["format", "ascii", "1.0"] for line in lines)
    count, row, needed = 0, 0, 0
    for words in (line.split() for line in [*lines, "element end 0"]):
        if words[:1] == ["element"]:
            if count and not row:
                raise PlyError(f"{name} is not a complete .ply file: an element without values.")
            needed += count * row
            if len(words) != 3 or not re.fullmatch(r"\d{1,18}", words[2]):
                raise PlyError(f"{name} is not a complete .ply file: {' '.join(words)!r}.")
            count, row = int(words[2]), 0
        elif words[:2] == ["property", "list"]:
            raise PlyError(f"{name} holds no Gaussian scene: it has lists, as meshes do.")
        elif words[:1] == ["property"]:
            row += 2 if is_text else _BYTES.get(words[1] if len(words) > 1 else "", 1)
    # The last value of a text needs no line end after it.
    if len(content) - end.end() + int(is_text) < needed:
        raise PlyError(
            f"{name} is not a complete .ply file: its header promises {needed} bytes of values, "
            f"{len(content) - end.end()} are there."
        )
