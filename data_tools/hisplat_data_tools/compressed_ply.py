"""Gaussian scenes in the compressed .ply of PlayCanvas and SuperSplat: 16 bytes a Gaussian.

Chunks of 256 Gaussians share bounds for position, logarithm of scale and colour; inside them values
are 11, 10 and 11 bits (8 for colours and opacity). Rotations store three components in 10
bits each and which one is left out. Harmonics are bytes over [-4, 4). Gaussians that lie close
together share a chunk (Morton order inside each level), so the bounds are tight.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int, Int64, UInt8, UInt32

from hisplat_models.gaussians import SH_C0, Gaussians

from .scene_values import (
    SH_COUNTS,
    SceneFileError,
    levels_comment,
    ready_to_write,
    tidied,
)

CHUNK = 256
LOG_SCALE_RANGE = (-20.0, 20.0)
"""What other readers clamp to."""

_BOUNDS = [f"{side}_{axis}" for side in ("min", "max") for axis in "xyz"]
_SCALE_BOUNDS = [f"{side}_scale_{axis}" for side in ("min", "max") for axis in "xyz"]
_COLOR_BOUNDS = [f"{side}_{channel}" for side in ("min", "max") for channel in "rgb"]
_PACKED = ["packed_position", "packed_rotation", "packed_scale", "packed_color"]
_VECTOR_BITS = (11, 10, 11)
_COLOR_BITS = (8, 8, 8, 8)
_HALF = np.sqrt(0.5)  # no component but the largest exceeds it


def to_compressed_ply_bytes(gaussians: Gaussians) -> bytes:
    """The content of a compressed .ply, coarsest level first.

    Raises:
        ValueError: if the set is batched, or holds NaN, infinite or non-positive scales.
    """
    gaussians = ready_to_write(gaussians)
    order = np.lexsort((morton_codes(gaussians.means.numpy()), gaussians.level.numpy()))
    gaussians = gaussians[order]
    positions, position_bounds = _in_chunks(gaussians.means.double().numpy())
    logs = gaussians.scales.double().log().clamp(*LOG_SCALE_RANGE).numpy()
    scales, scale_bounds = _in_chunks(logs)
    colors, color_bounds = _in_chunks(gaussians.base_colors.double().numpy())
    opacities = gaussians.opacities.double().numpy()[:, None]
    vertices = np.stack(
        [
            _pack(positions, _VECTOR_BITS),
            _pack_rotations(gaussians.quaternions_wxyz.double().numpy()),
            _pack(scales, _VECTOR_BITS),
            _pack(np.concatenate([colors, opacities], axis=1), _COLOR_BITS),
        ],
        axis=1,
    )
    chunks = np.concatenate([position_bounds, scale_bounds, color_bounds], axis=1)
    rest = _pack_harmonics(gaussians.harmonics[:, 1:].double().numpy())
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment {levels_comment(gaussians.level.numpy())}",
        f"element chunk {len(chunks)}",
        *(f"property float {name}" for name in [*_BOUNDS, *_SCALE_BOUNDS, *_COLOR_BOUNDS]),
        f"element vertex {gaussians.count}",
        *(f"property uint {name}" for name in _PACKED),
    ]
    if rest.shape[1]:
        header += [f"element sh {gaussians.count}"]
        header += [f"property uchar f_rest_{i}" for i in range(rest.shape[1])]
    text = "\n".join([*header, "end_header", ""]).encode()
    bounds = chunks.astype("<f4").tobytes()
    return text + bounds + vertices.astype("<u4").tobytes() + rest.tobytes()


def decompress(
    elements: Mapping[str, np.ndarray], name: str, level: Int[np.ndarray, "n"]
) -> Gaussians:
    """The scene in the elements ``chunk``, ``vertex`` and perhaps ``sh`` of a .ply.

    Args:
        elements: Records by the name of their element.
        name: What to call the file in messages.
        level: Of each Gaussian.

    Raises:
        SceneFileError: if something is missing or does not fit together.
    """
    _check(elements, name)
    chunks, vertices = elements["chunk"], elements["vertex"]
    chunk = np.arange(len(vertices)) // CHUNK

    def between(names: list[str], parts: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        bounds = np.stack([chunks[n].astype(np.float64) for n in names], axis=1)[chunk]
        return bounds[:, :3] * (1 - parts) + bounds[:, 3:] * parts

    with np.errstate(over="ignore", invalid="ignore"):
        logs = between(_SCALE_BOUNDS, _unpack(vertices["packed_scale"], _VECTOR_BITS))
        means = between(_BOUNDS, _unpack(vertices["packed_position"], _VECTOR_BITS))
        color = _unpack(vertices["packed_color"], _COLOR_BITS)
        has_bounds = set(_COLOR_BOUNDS) <= set(chunks.dtype.names or ())
        rgb = between(_COLOR_BOUNDS, color[:, :3]) if has_bounds else color[:, :3]
        constant = ((rgb - 0.5) / SH_C0)[:, None]
        rest = _unpack_harmonics(elements["sh"]) if "sh" in elements else constant[:, :0]
        return tidied(
            name,
            means,
            np.exp(logs),
            _unpack_rotations(vertices["packed_rotation"]),
            color[:, 3],
            np.concatenate([constant, rest], axis=1),
            level,
        )


def morton_codes(points: Float[np.ndarray, "n 3"]) -> Int64[np.ndarray, "n"]:
    """Positions on a curve that visits close points one after another: 21 bits an axis."""
    if not len(points):
        return np.zeros(0, dtype=np.int64)
    points = points.astype(np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    cells = ((points - low) / np.maximum(high - low, 1e-30) * (2**21 - 1)).astype(np.int64)
    codes = np.zeros(len(points), dtype=np.int64)
    for bit in range(21):
        for axis in range(3):
            codes |= ((cells[:, axis] >> bit) & 1) << (3 * bit + axis)
    return codes


def _check(elements: Mapping[str, np.ndarray], name: str) -> None:
    chunks, vertices = elements["chunk"], elements.get("vertex", np.zeros(0, dtype=[("x", "f4")]))
    missing = set(_BOUNDS + _SCALE_BOUNDS) - set(chunks.dtype.names or ())
    missing |= set(_PACKED) - set(vertices.dtype.names or ())
    if missing:
        raise SceneFileError(
            f"{name} is no compressed .ply of a known kind: it has no {', '.join(sorted(missing))}."
        )
    if any(vertices.dtype[n].kind != "u" or vertices.dtype[n].itemsize != 4 for n in _PACKED):
        raise SceneFileError(f"{name} is no compressed .ply: its packed values are no uint.")
    if len(chunks) != -(-len(vertices) // CHUNK):
        raise SceneFileError(
            f"{name} has {len(chunks)} chunks for {len(vertices)} Gaussians; expected one for "
            f"each {CHUNK}."
        )
    if "sh" in elements:
        rest = elements["sh"]
        names = rest.dtype.names or ()
        known = [3 * (n - 1) for n in SH_COUNTS[1:]]
        bytes_only = all(rest.dtype[n] == np.uint8 for n in names)
        whole = set(names) == {f"f_rest_{i}" for i in range(len(names))} and len(names) in known
        if len(rest) != len(vertices) or not bytes_only or not whole:
            raise SceneFileError(
                f"{name} has harmonics of an unknown kind: {len(rest)} rows of {len(names)}; "
                f"expected {len(vertices)} rows of 9, 24 or 45 bytes."
            )


def _in_chunks(
    values: Float[np.ndarray, "n 3"],
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "chunks 6"]]:
    """Values in [0, 1] between the bounds of their chunk, and these (least, then greatest)."""
    count = len(values)
    padded = np.pad(values, ((0, -count % CHUNK), (0, 0)), mode="edge") if count else values
    padded = padded.reshape(-1, CHUNK, 3)
    # Bounds are stored as float32: parts are taken of what a reader will see.
    low = padded.min(axis=1, initial=np.inf).astype(np.float32).astype(np.float64)
    high = padded.max(axis=1, initial=-np.inf).astype(np.float32).astype(np.float64)
    span = np.maximum(high - low, 1e-30)
    parts = ((padded - low[:, None]) / span[:, None]).clip(0, 1).reshape(-1, 3)[:count]
    return parts, np.concatenate([low, high], axis=1)


def _pack(parts: Float[np.ndarray, "n k"], bits: tuple[int, ...]) -> UInt32[np.ndarray, "n"]:
    packed = np.zeros(len(parts), dtype=np.uint32)
    for column, width in enumerate(bits):
        top = (1 << width) - 1
        packed = (packed << np.uint32(width)) | np.rint(parts[:, column] * top).astype(np.uint32)
    return packed


def _unpack(packed: UInt32[np.ndarray, "n"], bits: tuple[int, ...]) -> Float[np.ndarray, "n k"]:
    columns, shift = [], 32
    for width in bits:
        shift, top = shift - width, (1 << width) - 1
        columns.append(((packed >> np.uint32(shift)) & np.uint32(top)) / top)
    return np.stack(columns, axis=1)


def _pack_rotations(quaternions: Float[np.ndarray, "n 4"]) -> UInt32[np.ndarray, "n"]:
    quaternions = quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)
    largest = np.abs(quaternions).argmax(axis=1)
    sign = np.where(np.take_along_axis(quaternions, largest[:, None], axis=1) < 0, -1.0, 1.0)
    others = (quaternions * sign)[_other_components(largest)].reshape(-1, 3)
    parts = (others * _HALF + 0.5).clip(0, 1)
    return _pack(np.concatenate([largest[:, None] / 3, parts], axis=1), (2, 10, 10, 10))


def _unpack_rotations(packed: UInt32[np.ndarray, "n"]) -> Float[np.ndarray, "n 4"]:
    largest = (packed >> np.uint32(30)).astype(np.int64)
    others = (_unpack(packed, (2, 10, 10, 10))[:, 1:] - 0.5) / _HALF
    quaternions = np.zeros((len(packed), 4))
    quaternions[_other_components(largest)] = others.reshape(-1)
    rest = np.sqrt(np.maximum(0, 1 - (others**2).sum(axis=1)))
    np.put_along_axis(quaternions, largest[:, None], rest[:, None], axis=1)
    return quaternions


def _other_components(largest: Int[np.ndarray, "n"]) -> np.ndarray:
    """Mask of the three components that are stored."""
    return np.arange(4) != largest[:, None]


def _pack_harmonics(rest: Float[np.ndarray, "n sh 3"]) -> UInt8[np.ndarray, "n k"]:
    """Bytes, channel by channel."""
    levels = np.floor((rest / 8 + 0.5) * 256).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(levels.swapaxes(1, 2).reshape(len(rest), 3 * rest.shape[1]))


def _unpack_harmonics(records: np.ndarray) -> Float[np.ndarray, "n sh 3"]:
    count = len(records.dtype.names or ())
    levels = np.stack([records[f"f_rest_{i}"] for i in range(count)], axis=1).astype(np.float64)
    # The outermost bytes stand for the ends of the range, all others for their middle.
    parts = np.where(levels == 0, 0.0, np.where(levels == 255, 1.0, (levels + 0.5) / 256))
    return ((parts - 0.5) * 8).reshape(len(records), 3, count // 3).swapaxes(1, 2)
