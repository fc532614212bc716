"""Inputs that no reader may stumble over: damaged copies of valid files, and nonsense.

Used with hypothesis by the tests (few) and by ``benchmarks/fuzz.py`` (many).
"""

import gzip
import io
import json
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from hisplat_data_tools.cameras_json import (
    ImageCamera,
    read_cameras,
    write_cameras,
    write_transforms,
)
from hisplat_data_tools.images import load_photo
from hisplat_data_tools.scene_files import SCENE_WRITERS, scene_from_bytes
from hisplat_data_tools.spz import MAGIC

from .random_scenes import scene


def photos() -> list[bytes]:
    """A small photo in every common format."""
    pixels = np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)
    image, contents = Image.fromarray(pixels), []
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0x920A] = 4.2
    for kind in ("jpeg", "png", "webp", "tiff", "gif", "bmp", "ppm", "tga", "ico", "jpeg2000"):
        buffer = io.BytesIO()
        options = {"exif": exif} if kind in ("jpeg", "png", "webp") else {}
        image.save(buffer, kind, **options)
        contents.append(buffer.getvalue())
    for mode in ("L", "P", "RGBA", "I;16", "1", "CMYK"):
        buffer = io.BytesIO()
        image.convert(mode).save(buffer, "tiff")
        contents.append(buffer.getvalue())
    return contents


def scenes() -> list[tuple[str, bytes]]:
    """Small scenes in every readable format, text and compressed ones too."""
    endings = [e for e in SCENE_WRITERS if e != ".glb"]
    files = [(e, SCENE_WRITERS[e](scene(5, degree))) for e in endings for degree in (0, 1)]
    plain = SCENE_WRITERS[".ply"](scene(3, 0))
    header, body = plain.split(b"end_header\n")
    rows = np.frombuffer(body, "<f4").reshape(3, -1)
    text = "\n".join(" ".join(str(v) for v in row) for row in rows)
    ascii_header = header.replace(b"binary_little_endian", b"ascii")
    files.append((".ply", ascii_header + b"end_header\n" + text.encode() + b"\n"))
    streams = struct.pack("<4sIIBBBBI12x", MAGIC, 4, 2, 0, 12, 0, 6, 32)
    files.append((".spz", streams + bytes(96)))
    return files


def camera_files() -> list[bytes]:
    """Both JSON formats."""
    view = ImageCamera("a.jpg", 64, 48, 60.0, 60.0, 32.0, 24.0, np.eye(4), 0.5, 9.0)
    with tempfile.TemporaryDirectory() as folder:
        own, theirs = Path(folder) / "cameras.json", Path(folder) / "transforms.json"
        write_cameras(own, [view], near=0.5, far=9.0)
        write_transforms(theirs, [view])
        return [own.read_bytes(), theirs.read_bytes()]


def damaged(contents: list[bytes]) -> st.SearchStrategy[bytes]:
    """One of the files with bytes changed, cut out, repeated or appended."""
    edit = st.tuples(
        st.sampled_from(["set", "cut", "repeat", "insert"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=8),
    )

    def apply(content: bytes, edits: list[tuple[str, float, bytes]]) -> bytes:
        changed = bytearray(content)
        for kind, place, data in edits:
            at = int(place * len(changed))
            if kind == "set":
                changed[at : at + len(data)] = data
            elif kind == "cut":
                del changed[at : at + data[0] * len(data)]
            elif kind == "repeat":
                changed[at:at] = changed[at : at + 8 * data[0]]
            else:
                changed[at:at] = data
        return bytes(changed)

    some = st.builds(apply, st.sampled_from(contents), st.lists(edit, min_size=1, max_size=6))
    return st.one_of(some, st.binary(max_size=200))


def edited_text(contents: list[bytes]) -> st.SearchStrategy[bytes]:
    """One of the files with words and numbers exchanged, so that it gets past the first checks."""
    words = [
        "0", "-1", "1e308", "1e999", "nan", "4294967295", "999999999999999999", "null", "true",
        '"x"', "[]", "{}", "[[1]]", "list uchar int", "ascii", "binary_big_endian", "double",
        "uchar", "chunk", "vertex", "x", "f_rest_0", "", " ",
    ]  # fmt: skip
    swap = st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from(words))

    def apply(content: bytes, swaps: list[tuple[float, str]]) -> bytes:
        parts = content.split(b" ")
        for place, word in swaps:
            parts[int(place * len(parts))] = word.encode()
        return b" ".join(parts)

    return st.builds(apply, st.sampled_from(contents), st.lists(swap, min_size=1, max_size=4))


def deep_json() -> st.SearchStrategy[bytes]:
    """Documents of the right keys with anything as their values."""
    leaf = st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
        st.just(np.eye(4).tolist()),
    )  # fmt: skip
    keys = st.sampled_from([
        "images", "frames", "context", "targets", "pairs", "file", "file_path", "c2w", "fx", "fy",
        "cx", "cy", "fl_x", "camera_angle_x", "w", "h", "width", "height", "transform_matrix",
        "near", "left", "right", "k1", "camera_model",
    ])  # fmt: skip
    tree = st.recursive(
        leaf, lambda s: st.one_of(st.lists(s, max_size=3), st.dictionaries(keys, s, max_size=8))
    )
    return st.dictionaries(keys, tree, max_size=6).map(lambda d: json.dumps(d).encode())


def recompressed(contents: list[bytes]) -> st.SearchStrategy[bytes]:
    """Damaged inside an intact gzip stream."""
    return damaged([gzip.decompress(c) for c in contents]).map(
        lambda c: gzip.compress(c, 1, mtime=0)
    )


def read_as_cameras(content: bytes, folder: Path) -> object:
    """Reads a camera file from a folder."""
    (folder / "cameras.json").write_bytes(content)
    return read_cameras(folder / "cameras.json")


Reader = Callable[[bytes, Path], object]


def targets() -> dict[str, tuple[Reader, st.SearchStrategy[bytes]]]:
    """What is read, and what it is given, by name."""
    by_ending: dict[str, list[bytes]] = {}
    for ending, content in scenes():
        by_ending.setdefault("." + ending.split(".")[-1], []).append(content)

    def scene_reader(ending: str) -> Reader:
        return lambda content, _: scene_from_bytes(content, f"scene{ending}")

    ply, spz, splat = (by_ending[e] for e in (".ply", ".spz", ".splat"))
    zipped = [c for c in spz if c[:2] == b"\x1f\x8b"]
    return {
        "photos": (lambda content, _: load_photo(content), damaged(photos())),
        "camera files": (
            read_as_cameras,
            st.one_of(damaged(camera_files()), edited_text(camera_files()), deep_json()),
        ),
        "ply": (scene_reader(".ply"), st.one_of(damaged(ply), edited_text(ply))),
        "splat": (scene_reader(".splat"), damaged(splat)),
        "spz": (scene_reader(".spz"), st.one_of(damaged(spz), recompressed(zipped))),
    }
