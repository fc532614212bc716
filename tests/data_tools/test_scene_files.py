import gzip
import io
import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement

from hisplat_data_tools.ply import to_ply_bytes
from hisplat_data_tools.scene_files import (
    SCENE_READERS,
    SCENE_WRITERS,
    read_scene,
    scene_from_bytes,
    write_scene,
)
from hisplat_data_tools.scene_values import SceneFileError
from hisplat_data_tools.spz import MAGIC, to_spz_bytes
from hisplat_models.gaussians import Gaussians, quaternions_to_matrices

from .random_scenes import ALLOWED, assert_alike, scene

READABLE = [e for e in SCENE_WRITERS if e != ".glb"]


@pytest.mark.parametrize("degree", [0, 1, 3, 4])
@pytest.mark.parametrize("ending", READABLE)
def test_a_scene_survives_within_the_precision_of_its_format(
    tmp_path: Path, ending: str, degree: int
) -> None:
    original = scene(count=300, degree=degree)
    write_scene(tmp_path / f"scene{ending}", original)
    assert_alike(read_scene(tmp_path / f"scene{ending}"), original, ALLOWED[ending])
    assert [p.name for p in tmp_path.iterdir()] == [f"scene{ending}"]


@pytest.mark.parametrize("ending", READABLE)
def test_a_copy_of_the_copy_is_as_close(ending: str) -> None:
    once = scene_from_bytes(SCENE_WRITERS[ending](scene(count=500)), f"s{ending}")
    twice = scene_from_bytes(SCENE_WRITERS[ending](once), f"s{ending}")
    assert_alike(twice, once, ALLOWED[ending])


@pytest.mark.parametrize("ending", SCENE_WRITERS)
class TestEveryWriter:
    """What anything in the registry must do."""

    def test_is_what_the_page_takes(self, ending: str) -> None:
        exchange = pytest.importorskip("hisplat_viewer.exchange")
        assert isinstance(SCENE_WRITERS[ending], exchange.SceneWriter)
        assert isinstance(SCENE_WRITERS[ending](scene()), bytes)

    def test_refuses_what_is_not_one_finite_scene(self, ending: str) -> None:
        write = SCENE_WRITERS[ending]
        good = scene()
        with pytest.raises(ValueError, match="index the batch"):
            write(good[None])
        with pytest.raises(ValueError, match="NaN or infinite values in means"):
            write(replace(good, means=good.means / 0))

    def test_gives_the_same_bytes_again(self, ending: str) -> None:
        assert SCENE_WRITERS[ending](scene()) == SCENE_WRITERS[ending](scene())

    def test_leaves_the_scene_as_it_is(self, ending: str) -> None:
        used, untouched = scene(), scene()
        SCENE_WRITERS[ending](used)
        assert torch.equal(used.harmonics, untouched.harmonics)
        assert torch.equal(used.means, untouched.means)

    def test_writes_nothing_where_there_is_no_folder(self, ending: str, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="nowhere"):
            write_scene(tmp_path / "nowhere" / f"s{ending}", scene())


@pytest.mark.parametrize("ending", READABLE)
def test_empty_scenes_and_single_gaussians_survive(ending: str) -> None:
    for count in (0, 1):
        content = SCENE_WRITERS[ending](scene(count=count, degree=1))
        assert scene_from_bytes(content, f"s{ending}").count == count


def test_equal_gaussians_do_not_divide_by_their_spread() -> None:
    same = scene(count=1)[torch.zeros(300, dtype=torch.long)]
    read = scene_from_bytes(SCENE_WRITERS[".compressed.ply"](same), "s.ply")
    torch.testing.assert_close(read.means, same.means)
    torch.testing.assert_close(read.scales, same.scales)


def test_covariances_of_a_spz_are_those_of_the_scene() -> None:
    original = scene(count=50)
    read = scene_from_bytes(to_spz_bytes(original), "s.spz")
    torch.testing.assert_close(read.covariances(), original.covariances(), rtol=0.08, atol=2e-4)


def test_a_spz_stands_upright_in_axes_that_point_up() -> None:
    content = gzip.decompress(to_spz_bytes(replace(scene(1), means=torch.tensor([[1.0, 2, 3]]))))
    bits = content[13]
    x, y, z = (int.from_bytes(content[i : i + 3], "little", signed=True) for i in (16, 19, 22))
    assert (x / 2**bits, y / 2**bits, z / 2**bits) == (1, -2, -3)


def test_harmonics_of_a_spz_turn_with_its_axes() -> None:
    """A colour seen from a direction is the same from the turned direction in the file's axes."""
    original = replace(scene(count=20, degree=3), level=torch.zeros(20, dtype=torch.long))
    content = gzip.decompress(to_spz_bytes(original))
    stored = np.frombuffer(content[-20 * 45 :], np.uint8).reshape(20, 15, 3) / 128.0 - 1
    direction = torch.nn.functional.normalize(torch.tensor([0.3, -0.5, 0.8]), dim=0)
    flipped = direction * torch.tensor([1.0, -1.0, -1.0])
    seen = torch.einsum("k,nkc->nc", basis(direction), original.harmonics[:, 1:])
    in_file = torch.einsum("k,nkc->nc", basis(flipped), torch.from_numpy(stored).float())
    torch.testing.assert_close(in_file, seen, atol=0.05, rtol=0)


def basis(direction: torch.Tensor) -> torch.Tensor:
    """The view-dependent harmonics of 3DGS up to factors, which the signs do not depend on."""
    x, y, z = direction.tolist()
    return 0.5 * torch.tensor([
        -y, z, -x,
        x * y, -y * z, 2 * z * z - x * x - y * y, -x * z, x * x - y * y,
        -y * (3 * x * x - y * y), x * y * z, -y * (4 * z * z - x * x - y * y),
        z * (2 * z * z - 3 * x * x - 3 * y * y), -x * (4 * z * z - x * x - y * y),
        z * (x * x - y * y), -x * (x * x - 3 * y * y),
    ])  # fmt: skip


def test_large_and_small_scenes_get_the_binary_places_they_allow() -> None:
    for size, worst in ((0.01, 1e-6), (1e4, 2e-3)):
        original = replace(scene(), means=scene().means / 15 * size)
        read = scene_from_bytes(to_spz_bytes(original), "s.spz")
        torch.testing.assert_close(read.means, original.means, atol=worst, rtol=0)
    with pytest.raises(ValueError, match="it ends at"):
        to_spz_bytes(replace(scene(), means=scene().means * 1e6))


@pytest.mark.parametrize("version", [1, 2])
def test_older_spz_are_read(version: int) -> None:
    """By hand: one Gaussian at (1, 2, 3) in OpenCV axes, turned about x by 90 degrees."""
    header = struct.pack("<4sIIBBBB", MAGIC, version, 1, 0, 12, 0, 0)
    position = np.array([1, -2, -3], "<f2").tobytes()
    if version == 2:
        position = b"".join((v * 4096).to_bytes(3, "little", signed=True) for v in (1, -2, -3))
    turned = bytes([round(127.5 + 127.5 * 0.5**0.5), 128, 128])
    values = bytes([51]) + bytes([128] * 3) + bytes([160, 144, 176]) + turned
    read = scene_from_bytes(gzip.compress(header + position + values), "old.spz")
    assert read.means.tolist() == [[1, 2, 3]]
    assert read.opacities.tolist() == pytest.approx([0.2])
    assert read.scales[0].tolist() == pytest.approx([1, np.exp(-1), np.exp(1)], rel=1e-6)
    about_x = quaternions_to_matrices(read.quaternions_wxyz)[0]
    wanted = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    torch.testing.assert_close(about_x, wanted, atol=0.02, rtol=0)


def test_a_point_cloud_for_blender_is_upright_and_in_linear_light() -> None:
    gaussians = replace(scene(count=5, degree=0), level=torch.zeros(5, dtype=torch.long))
    content = SCENE_WRITERS[".glb"](gaussians)
    magic, version, length, json_length, kind = struct.unpack_from("<4sIII4s", content)
    assert (magic, version, length, kind) == (b"glTF", 2, len(content), b"JSON")
    document = json.loads(content[20 : 20 + json_length])
    binary = content[20 + json_length + 8 :]
    means = np.frombuffer(binary, "<f4", 15).reshape(5, 3)
    assert np.array_equal(means, gaussians.means)
    assert document["accessors"][0]["min"] == pytest.approx(means.min(axis=0).tolist())
    assert document["nodes"][0]["rotation"] == [1, 0, 0, 0]  # (x, y, z) becomes (x, -y, -z)
    rgba = np.frombuffer(binary[60:], "<u2").reshape(5, 4) / 65535
    srgb = np.where(rgba <= 0.0031308, rgba * 12.92, 1.055 * rgba ** (1 / 2.4) - 0.055)[:, :3]
    assert srgb == pytest.approx(gaussians.base_colors.clamp(0, 1).numpy(), abs=1e-3)
    assert rgba[:, 3] == pytest.approx(gaussians.opacities.numpy(), abs=1e-4)


def test_trimesh_opens_the_point_cloud() -> None:
    trimesh = pytest.importorskip("trimesh")
    gaussians = scene(count=9)
    loaded = trimesh.load(io.BytesIO(SCENE_WRITERS[".glb"](gaussians)), file_type="glb")
    (cloud,) = loaded.dump()
    wanted = gaussians.means.numpy() * [1, -1, -1]
    assert np.asarray(cloud.vertices) == pytest.approx(wanted, abs=1e-5)


def others_ply(gaussians: Gaussians, **changes: object) -> bytes:
    """The same scene as another program may write it."""
    data = PlyData.read(io.BytesIO(to_ply_bytes(gaussians)))
    vertices = data["vertex"].data
    extra = [("segment", "<i4"), ("confidence", "<f8")]
    names = [n for n in reversed(vertices.dtype.names or ()) if n not in ("nx", "ny", "nz")]
    records = np.zeros(len(vertices), dtype=[*((n, "<f8") for n in names), *extra])
    for name in names:
        records[name] = vertices[name]
    cameras = np.array([(1.0, 2)], dtype=[("time", "<f4"), ("id", "u1")])
    elements = [PlyElement.describe(cameras, "shot"), PlyElement.describe(records, "vertex")]
    buffer = io.BytesIO()
    PlyData(elements, comments=["made elsewhere"], **changes).write(buffer)  # pyright: ignore
    return buffer.getvalue()


@pytest.mark.parametrize("changes", [{"text": True}, {"byte_order": ">"}, {"byte_order": "<"}])
@pytest.mark.parametrize("degree", [0, 2, 3, 5])
def test_layouts_of_other_programs_are_read(changes: dict[str, object], degree: int) -> None:
    original = scene(count=40, degree=min(degree, 3))
    content = others_ply(original, **changes)
    if degree > 3:
        content = others_ply_of_degree_five(original)
    assert_alike(
        scene_from_bytes(content, "theirs.ply"),
        original,
        replace(ALLOWED[".ply"], keeps_levels=False),
    )


def others_ply_of_degree_five(gaussians: Gaussians) -> bytes:
    data = PlyData.read(io.BytesIO(to_ply_bytes(gaussians)))["vertex"].data
    rest = [f"f_rest_{i}" for i in range(3 * 35)]
    plain = [n for n in data.dtype.names or () if not n.startswith("f_rest_")]
    records = np.full(len(data), 9, dtype=[(n, "<f4") for n in [*plain, *rest]])
    for name in plain:
        records[name] = data[name]
    for channel in range(3):
        for i in range(15):
            records[f"f_rest_{channel * 35 + i}"] = data[f"f_rest_{channel * 15 + i}"]
    buffer = io.BytesIO()
    PlyData([PlyElement.describe(records, "vertex")]).write(buffer)
    return buffer.getvalue()


def test_gaussians_of_nan_are_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    data = PlyData.read(io.BytesIO(to_ply_bytes(scene(count=6))))
    records = data["vertex"].data.copy()
    records["x"][1] = np.nan
    records["rot_0"][2] = records["rot_1"][2] = records["rot_2"][2] = records["rot_3"][2] = 0
    records["opacity"][3] = np.inf  # fully opaque
    records["scale_0"][4] = -np.inf  # flat
    buffer = io.BytesIO()
    PlyData([PlyElement.describe(records, "vertex")], comments=data.comments).write(buffer)
    read = scene_from_bytes(buffer.getvalue(), "odd.ply")
    expected = scene(count=6)
    assert torch.equal(read.means, expected.means[[0, 3, 4, 5]])
    assert torch.equal(read.level, expected.level[[0, 3, 4, 5]])
    assert read.opacities[1] == 1
    assert 0 < read.scales[2, 0] < 1e-8
    assert "left out 2 of 6" in caplog.text


def ply_header(*lines: str, kind: str = "binary_little_endian") -> bytes:
    return "\n".join(["ply", f"format {kind} 1.0", *lines, "end_header", ""]).encode()


def spz(version: int, count: int, degree: int, body: bytes = b"") -> bytes:
    return gzip.compress(struct.pack("<4sIIBBBB", MAGIC, version, count, degree, 12, 0, 0) + body)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("s.ply", b"", "no header"),
        ("s.ply", ply_header("element vertex 4000000000", "property float x"), "promises 16000"),
        (
            "s.ply",
            ply_header("element vertex 99999999", "property float x", kind="ascii"),
            "promises",
        ),
        ("s.ply", ply_header("element vertex 999999999999"), "element without values"),
        ("s.ply", ply_header("element vertex -3", "property float x"), "element vertex -3"),
        ("s.ply", ply_header("element face 1", "property list uchar int v"), "lists, as meshes"),
        ("s.ply", ply_header("element vertex 1", "property thing x") + b"12345678", "complete"),
        ("s.splat", b"123", "multiple of 32"),
        ("s.splat", np.full(16, np.nan, "<f4").tobytes(), "no usable Gaussian"),
        ("s.spz", b"", "ends too early"),
        ("s.spz", b"\x1f\x8bnonsense", "no complete"),
        ("s.spz", gzip.compress(b"x" * 40), "no .spz of versions"),
        ("s.spz", spz(7, 1, 0), "says 7"),
        ("s.spz", spz(3, 10, 9), "degree 9"),
        ("s.spz", spz(3, 10, 0), "ends too early"),
        ("s.spz", spz(3, 4_000_000_000, 0), "promises 4000000000"),
        ("s.spz", struct.pack("<4sIIBBBBI12x", MAGIC, 4, 2, 0, 12, 0, 6, 32), "table of contents"),
        ("s.spz", to_spz_bytes(scene(9))[:-30], "no complete"),
        ("s.obj", b"v 0 0 0", "known are .ply"),
    ],
)
def test_files_that_are_no_scenes_are_refused_by_name(
    name: str, content: bytes, reason: str
) -> None:
    with pytest.raises(SceneFileError, match=f"{name}.*{reason}"):
        scene_from_bytes(content, name)


def test_a_compression_bomb_is_refused_before_it_unpacks() -> None:
    squeezer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = squeezer.compress(struct.pack("<4sIIBBBB", MAGIC, 3, 2**31, 0, 12, 0, 0))
    bomb += squeezer.compress(bytes(2**24)) + squeezer.flush()
    with pytest.raises(SceneFileError, match="far more than"):
        scene_from_bytes(bomb, "bomb.spz")


def test_unknown_endings_are_told_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(SceneFileError, match=r"\.compressed\.ply, \.splat, \.spz, \.glb"):
        write_scene(tmp_path / "scene.xyz", scene())
    with pytest.raises(FileNotFoundError, match=r"gone\.ply"):
        read_scene(tmp_path / "gone.ply")
    assert set(SCENE_READERS) < set(SCENE_WRITERS)
