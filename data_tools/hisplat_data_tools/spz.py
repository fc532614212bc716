"""Gaussian scenes as Niantic's .spz: about 20 bytes a Gaussian, compressed.

Written is version 3, which all of today's readers know; read are versions 1 to 4. The axes of a
.spz are x right, y up, z backward, so y and z change their signs on the way and back: exact, and
other programs see the scene upright. Colours and opacities are bytes, scales bytes of a logarithmic
scale (steps of 6 %), positions 24-bit fixed point with as many binary places as the scene allows,
harmonics bytes over [-1, 1). Levels are lost.
"""

import gzip
import logging
import struct
import zlib

import numpy as np
from jaxtyping import Float, UInt8

from hisplat_models.gaussians import Gaussians

from .scene_values import SceneFileError, ready_to_write, tidied

logger = logging.getLogger(__name__)

MAGIC = b"NGSP"
VERSION = 3
MAX_FRACTIONAL_BITS = 20
MIN_FRACTIONAL_BITS = 4
COLOR_SCALE = 0.15
HAS_EXTENSIONS = 2

MAX_COMPRESSION = 100
"""A file that unpacks to more than that many times its size is refused, unless it is small."""

SMALL_BYTES = 1 << 26

# Signs of the 15 view-dependent harmonics when y and z are negated: a basis function is odd in
# an axis where its polynomial is.
_SH_SIGNS = np.array([-1, -1, 1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, -1, 1], dtype=np.float64)
_AXIS_SIGNS = np.array([1.0, -1.0, -1.0])
_HALF = np.sqrt(0.5)


def to_spz_bytes(gaussians: Gaussians) -> bytes:
    """The content of a .spz, version 3, coarsest level first.

    Raises:
        ValueError: if the set is batched, holds NaN, infinite or non-positive scales, or reaches
            further than the format can (500 000 units).
    """
    gaussians = ready_to_write(gaussians)
    means = gaussians.means.double().numpy() * _AXIS_SIGNS
    bits = _fractional_bits(float(np.abs(means).max(initial=0.0)))
    fixed = np.rint(means * 2**bits).astype("<i4")
    colors = gaussians.harmonics[:, 0].double().numpy()
    rest = gaussians.harmonics[:, 1:].double().numpy() * _signs(gaussians.harmonics.shape[1])
    parts = [
        struct.pack("<4sIIBBBB", MAGIC, VERSION, gaussians.count, gaussians.sh_degree, bits, 0, 0),
        np.ascontiguousarray(fixed).view(np.uint8).reshape(-1, 4)[:, :3].tobytes(),
        _bytes(gaussians.opacities.double().numpy() * 255).tobytes(),
        _bytes((colors * COLOR_SCALE + 0.5) * 255).tobytes(),
        _bytes((gaussians.scales.double().log().numpy() + 10) * 16).tobytes(),
        _pack_rotations(gaussians.quaternions_wxyz.double().numpy()).tobytes(),
        _bytes(rest * 128 + 128).tobytes(),
    ]
    return gzip.compress(b"".join(parts), compresslevel=6, mtime=0)


def from_spz_bytes(content: bytes, name: str = "the file") -> Gaussians:
    """The scene in the content of a .spz, called ``name`` in messages.

    Raises:
        SceneFileError: if it is no .spz of versions 1 to 4, or damaged.
        ImportError: for version 4 without the package zstandard.
    """
    if content.startswith(MAGIC):
        return _from_streams(content, name)
    unpacked = _Unpacker(content, name)
    header = unpacked.take(16)
    magic, version, count, degree, bits, flags, _ = struct.unpack("<4sIIBBBB", header)
    if magic != MAGIC or version not in (1, 2, 3):
        raise SceneFileError(f"{name} is no .spz of versions 1 to 4 (it says {version}).")
    sizes = _sizes(version, count, _checked_degree(degree, name))
    _check_sizes(sizes, len(content), name)
    streams = [unpacked.take(size) for size in sizes]
    if flags & HAS_EXTENSIONS:
        logger.warning("%s has extensions, which are ignored.", name)
    return _decoded(streams, version, bits, degree, name)


def _from_streams(content: bytes, name: str) -> Gaussians:
    """Version 4: a plain header, a table of sizes, and a zstd stream for each property."""
    if len(content) < 32:
        raise SceneFileError(f"{name} is no complete .spz: it ends in its header.")
    values = struct.unpack_from("<4sIIBBBBI", content)
    _, version, count, degree, bits, flags, stream_count, table = values
    if version != 4:
        raise SceneFileError(f"{name} is no .spz of versions 1 to 4 (it says {version}).")
    sizes = _sizes(version, count, _checked_degree(degree, name))
    _check_sizes(sizes, len(content), name)
    needed = len(sizes) if degree else len(sizes) - 1
    if stream_count < needed or table < 32 or table + 16 * stream_count > len(content):
        raise SceneFileError(f"{name} is no complete .spz: its table of contents is damaged.")
    if flags & HAS_EXTENSIONS:
        logger.warning("%s has extensions, which are ignored.", name)
    start, streams = table + 16 * stream_count, []
    for i, size in enumerate(sizes[:needed]):
        packed, unpacked = struct.unpack_from("<QQ", content, table + 16 * i)
        if unpacked != size or start + packed > len(content):
            raise SceneFileError(
                f"{name} is no complete .spz: stream {i} should unpack to {size} bytes, not "
                f"{unpacked}."
            )
        streams.append(_zstd(content[start : start + packed], size, name))
        start += packed
    streams += [b""] * (len(sizes) - needed)
    return _decoded(streams, version, bits, degree, name)


def _zstd(content: bytes, size: int, name: str) -> bytes:
    try:
        import zstandard
    except ImportError as error:
        raise ImportError(
            f"{name} is a .spz of version 4: pip install zstandard to read it."
        ) from error
    try:
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(content) as reader:
            unpacked = reader.read(size + 1) if size else b""
    except zstandard.ZstdError as error:
        raise SceneFileError(f"{name} is damaged: {error}") from error
    if len(unpacked) != size:
        raise SceneFileError(f"{name} is damaged: {len(unpacked)} bytes instead of {size}.")
    return unpacked


class _Unpacker:
    """Takes a gzip stream apart, never more of it than asked for."""

    def __init__(self, content: bytes, name: str) -> None:
        self._stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self._rest = content
        self._name = name

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes.

        Raises:
            SceneFileError: if there are fewer.
        """
        taken = bytearray()
        while len(taken) < size:
            try:
                part = self._stream.decompress(self._rest, size - len(taken))
            except zlib.error as error:
                raise SceneFileError(f"{self._name} is no complete .spz: {error}.") from error
            self._rest = self._stream.unconsumed_tail
            if not part and (self._stream.eof or not self._rest):
                raise SceneFileError(f"{self._name} is no complete .spz: it ends too early.")
            taken += part
        return bytes(taken)


def _checked_degree(degree: int, name: str) -> int:
    if degree > 4:
        raise SceneFileError(f"{name} says its harmonics have degree {degree}; expected 0 to 4.")
    return degree


def _sizes(version: int, count: int, degree: int) -> list[int]:
    """Bytes of positions, opacities, colours, scales, rotations and harmonics."""
    position = 6 if version == 1 else 9
    rotation = 4 if version >= 3 else 3
    return [count * n for n in (position, 1, 3, 3, rotation, 3 * ((degree + 1) ** 2 - 1))]


def _check_sizes(sizes: list[int], file_bytes: int, name: str) -> None:
    if sum(sizes) > max(SMALL_BYTES, MAX_COMPRESSION * file_bytes):
        raise SceneFileError(
            f"{name} promises {sizes[1]} Gaussians, far more than its {file_bytes} bytes can hold."
        )


def _decoded(streams: list[bytes], version: int, bits: int, degree: int, name: str) -> Gaussians:
    positions, opacities, colors, scales, rotations, rest = (
        np.frombuffer(s, dtype=np.uint8) for s in streams
    )
    count = len(opacities)
    if version == 1:
        means = positions.view("<f2").astype(np.float64).reshape(count, 3)
    else:
        triples = positions.reshape(count, 3, 3)
        fixed = np.concatenate([np.zeros_like(triples[..., :1]), triples], axis=2)
        # The three bytes are moved to the top of an integer, which brings the sign along.
        means = (np.ascontiguousarray(fixed).view("<i4")[..., 0] >> 8) / 2.0 ** min(bits, 60)
    channels = (degree + 1) ** 2 - 1
    bands = min(channels, 15)
    harmonics = (rest.reshape(count, channels, 3)[:, :bands] / 128.0 - 1) * _signs(bands + 1)
    constant = (colors.reshape(count, 1, 3) / 255 - 0.5) / COLOR_SCALE
    unpack = _unpack_rotations if version >= 3 else _unpack_first_three
    return tidied(
        name,
        means * _AXIS_SIGNS,
        np.exp(scales.reshape(count, 3) / 16 - 10),
        unpack(rotations.reshape(count, 4 if version >= 3 else 3)),
        opacities / 255,
        np.concatenate([constant, harmonics], axis=1),
    )


def _fractional_bits(reach: float) -> int:
    """As many binary places as leave room for the farthest coordinate in 24 bits."""
    for bits in range(MAX_FRACTIONAL_BITS, MIN_FRACTIONAL_BITS - 1, -1):
        if reach * 2**bits < 2**23 - 1:
            return bits
    raise ValueError(
        f"Cannot write a scene that reaches {reach:.0f} units from its origin as .spz; it ends at "
        f"{2 ** (23 - MIN_FRACTIONAL_BITS)}."
    )


def _signs(count: int) -> Float[np.ndarray, "sh 1"]:
    return _SH_SIGNS[: count - 1, None]


def _bytes(values: np.ndarray) -> UInt8[np.ndarray, "..."]:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _pack_rotations(quaternions_wxyz: Float[np.ndarray, "n 4"]) -> UInt8[np.ndarray, "n 4"]:
    """Which of x, y, z, w is largest, and the others as sign and nine bits."""
    xyzw = quaternions_wxyz[:, [1, 2, 3, 0]] * [1, -1, -1, 1]
    xyzw = xyzw / np.linalg.norm(xyzw, axis=1, keepdims=True)
    largest = np.abs(xyzw).argmax(axis=1)
    packed = largest.astype(np.uint32)
    xyzw *= np.where(np.take_along_axis(xyzw, largest[:, None], axis=1) < 0, -1, 1)
    for component in _others(xyzw, largest):
        size = np.rint(np.abs(component) / _HALF * 511).clip(0, 511).astype(np.uint32)
        packed = (packed << np.uint32(10)) | ((component < 0).astype(np.uint32) << 9) | size
    return np.ascontiguousarray(packed.astype("<u4")).view(np.uint8).reshape(-1, 4)


def _others(xyzw: Float[np.ndarray, "n 4"], largest: np.ndarray) -> Float[np.ndarray, "3 n"]:
    return xyzw[np.arange(4) != largest[:, None]].reshape(-1, 3).T


def _unpack_rotations(stored: UInt8[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 4"]:
    packed = np.ascontiguousarray(stored).view("<u4")[:, 0].astype(np.int64)
    largest = packed >> 30
    fields = np.stack([packed >> 20, packed >> 10, packed], axis=1) & 1023
    others = (fields & 511) / 511 * _HALF * np.where(fields & 512, -1, 1)
    xyzw = np.zeros((len(packed), 4))
    xyzw[np.arange(4) != largest[:, None]] = others.reshape(-1)
    rest = np.sqrt(np.maximum(0, 1 - (others**2).sum(axis=1)))
    np.put_along_axis(xyzw, largest[:, None], rest[:, None], axis=1)
    return (xyzw * [1, -1, -1, 1])[:, [3, 0, 1, 2]]


def _unpack_first_three(stored: UInt8[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 4"]:
    xyz = stored / 127.5 - 1
    w = np.sqrt(np.maximum(0, 1 - (xyz**2).sum(axis=1)))
    return np.concatenate([w[:, None], xyz * _AXIS_SIGNS], axis=1)
