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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from plyfile import PlyData, PlyElement

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

_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
    "float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2",
    "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8",
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
    return from_ply_bytes(_content(path), str(path))


def read_ply_points(path: Path | str) -> Float[np.ndarray, "n 3"]:
    """The positions of a .ply's vertices, whatever else they have; without infinite and NaN ones.

    Raises:
        FileNotFoundError: if there is no such file.
        PlyError: if it is not a .ply, or one without vertices, or damaged.
    """
    content, name = _content(path), str(path)
    vertices = _read_elements(_read_header(content, name), content, name).get("vertex")
    if vertices is None or not {"x", "y", "z"} <= set(vertices.dtype.names or ()):
        raise PlyError(f"{name} holds no points: expected vertices with x, y and z.")
    points = np.stack([vertices[axis].astype(np.float64) for axis in "xyz"], axis=1)
    return points[np.isfinite(points).all(axis=1)]


def _content(path: Path | str) -> bytes:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    return path.read_bytes()


def from_ply_bytes(content: bytes, name: str = "the file") -> Gaussians:
    """The scene in the content of a .ply, called ``name`` in messages.

    Raises:
        PlyError: if it is not a .ply, or one without Gaussians, or damaged.
    """
    header = _read_header(content, name)
    elements = _read_elements(header, content, name)
    level = levels_from_comments(header.comments, len(elements.get("vertex", ())))
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


@dataclass(frozen=True)
class _Header:
    """What a .ply says of itself: byte order ("" for text), rows and columns of each element."""

    order: str
    elements: dict[str, tuple[int, dict[str, str]]]
    comments: list[str]
    body: int

    @property
    def least_bytes(self) -> int:
        """What the values need at least, the line end after the last one left out."""
        if self.order:
            return sum(n * np.dtype(list(c.items())).itemsize for n, c in self.elements.values())
        return max(0, sum(2 * n * len(c) for n, c in self.elements.values()) - 1)


def _read_header(content: bytes, name: str) -> _Header:
    """The header, once the file is known to hold what it promises.

    Not plyfile's, which asks for the memory that a header promises before it looks for the values.
    """
    end = re.search(rb"\nend_header\r?\n", content[:MAX_HEADER_BYTES])
    if not content.startswith(b"ply") or end is None:
        raise PlyError(f"{name} is not a complete .ply file: it has no header of one.")
    order: str | None = None
    elements: dict[str, tuple[int, dict[str, str]]] = {}
    comments: list[str] = []
    columns: dict[str, str] = {}
    for line in content[: end.start()].decode("latin-1").splitlines()[1:]:
        match line.split():
            case ["comment" | "obj_info", *_]:
                comments.append(line.split(" ", 1)[-1])
            case ["format", kind, _] if kind in _ORDERS:
                order = _ORDERS[kind]
            case ["element", element, rows] if re.fullmatch(r"\d{1,18}", rows):
                columns = {}
                elements[element] = (int(rows), columns)
            case ["property", "list", *_]:
                raise PlyError(f"{name} holds no scene: it has lists, as meshes do.")
            case ["property", kind, column] if kind in _TYPES and column not in columns:
                columns[column] = (order or "") + _TYPES[kind]
            case []:
                pass
            case _:
                raise PlyError(f"{name} is not a complete .ply file: {line[:80]!r} in its header.")
    if order is None:
        raise PlyError(f"{name} is not a complete .ply file: its header tells no known format.")
    if any(rows and not cells for rows, cells in elements.values()):
        raise PlyError(f"{name} is not a complete .ply file: an element without values.")
    header = _Header(order, elements, comments, end.end())
    if len(content) - header.body < header.least_bytes:
        raise PlyError(
            f"{name} is not a complete .ply file: its header promises {header.least_bytes} bytes "
            f"of values, {len(content) - header.body} are there."
        )
    return header


def _read_elements(header: _Header, content: bytes, name: str) -> dict[str, np.ndarray]:
    """Records by the name of their element."""
    if not header.order:
        return _read_text(header, content, name)
    elements, start = {}, header.body
    for element, (rows, columns) in header.elements.items():
        kind = np.dtype(list(columns.items()))
        if rows:
            elements[element] = np.frombuffer(content, kind, rows, start)
        else:
            elements[element] = np.zeros(0, kind)
        start += rows * kind.itemsize
    return elements


def _read_text(header: _Header, content: bytes, name: str) -> dict[str, np.ndarray]:
    words = content[header.body :].split()
    elements, start = {}, 0
    for element, (rows, columns) in header.elements.items():
        stop = start + rows * len(columns)
        if stop > len(words):
            raise PlyError(f"{name} is not a complete .ply file: values are missing at its end.")
        try:
            values = np.array(words[start:stop], dtype=np.float64)
            elements[element] = np.zeros(rows, dtype=list(columns.items()))
            with np.errstate(invalid="raise", over="ignore"):
                for column, cells in zip(
                    columns, values.reshape(rows, len(columns)).T, strict=True
                ):
                    elements[element][column] = cells
        except (ValueError, FloatingPointError) as error:
            raise PlyError(f"{name} is not a complete .ply file: {error}") from error
        start = stop
    return elements
