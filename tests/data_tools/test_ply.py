from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hisplat_data_tools.ply import PlyError, read_ply, to_ply_bytes, write_ply
from hisplat_models.gaussians import Gaussians


def scene(count: int = 60, degree: int = 2) -> Gaussians:
    """Random Gaussians, coarsest level first."""
    g = torch.Generator().manual_seed(0)
    rotations = torch.nn.functional.normalize(torch.randn(count, 4, generator=g), dim=-1)
    return Gaussians(
        means=5 * torch.randn(count, 3, generator=g),
        scales=torch.exp(torch.randn(count, 3, generator=g) - 3),
        quaternions_wxyz=rotations,
        opacities=torch.rand(count, generator=g),
        harmonics=torch.randn(count, (degree + 1) ** 2, 3, generator=g),
        level=torch.sort(torch.randint(0, 3, (count,), generator=g)).values,
    )


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_write_then_read_is_identity(tmp_path: Path, degree: int) -> None:
    original = scene(degree=degree)
    write_ply(tmp_path / "scene.ply", original)
    read = read_ply(tmp_path / "scene.ply")
    for name in ("means", "quaternions_wxyz", "harmonics", "level"):
        assert torch.equal(getattr(read, name), getattr(original, name)), name
    # Stored as logarithm and logit: equal up to the rounding of those to float32.
    assert torch.allclose(read.scales, original.scales, rtol=1e-6, atol=0)
    assert torch.allclose(read.opacities, original.opacities, rtol=0, atol=1e-7)
    assert [p.name for p in tmp_path.iterdir()] == ["scene.ply"]


def test_a_second_round_trip_changes_no_byte(tmp_path: Path) -> None:
    write_ply(tmp_path / "scene.ply", scene())
    assert to_ply_bytes(read_ply(tmp_path / "scene.ply")) == (tmp_path / "scene.ply").read_bytes()


def test_layout_is_the_one_of_other_tools() -> None:
    gaussians = scene(count=2, degree=1)
    content = to_ply_bytes(gaussians)
    header, body = content.split(b"end_header\n")
    lines = header.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    assert [line.split()[-1] for line in lines if line.startswith("property float")] == (
        ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
        + [f"f_rest_{i}" for i in range(9)]
        + ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    )
    row = np.frombuffer(body, "<f4").reshape(2, 26)[1]
    opacity = float(gaussians.opacities[1])
    assert np.array_equal(row[3:6], [0, 0, 0])
    assert np.array_equal(row[6:9], gaussians.harmonics[1, 0])
    assert np.array_equal(row[9:12], gaussians.harmonics[1, 1:, 0])  # red first
    assert row[18] == pytest.approx(np.log(opacity / (1 - opacity)), rel=1e-5)
    assert row[19:22] == pytest.approx(np.log(gaussians.scales[1].numpy()), rel=1e-6)
    assert np.array_equal(row[22:], gaussians.quaternions_wxyz[1])


def test_opacities_zero_and_one_are_finite_in_the_file_and_exact_after_it(tmp_path: Path) -> None:
    extremes = torch.tensor([0.0, 1.0, 1e-30, 1 - 2**-24])
    write_ply(tmp_path / "s.ply", replace(scene(count=4), opacities=extremes))
    assert torch.allclose(read_ply(tmp_path / "s.ply").opacities, extremes, rtol=1e-5, atol=0)
    assert read_ply(tmp_path / "s.ply").opacities[:2].tolist() == [0.0, 1.0]


def test_degree_four_is_cut_to_three(tmp_path: Path) -> None:
    original = scene(degree=4)
    write_ply(tmp_path / "s.ply", original)
    assert torch.equal(read_ply(tmp_path / "s.ply").harmonics, original.harmonics[:, :16])


def test_gaussians_are_stored_coarsest_first_with_their_levels(tmp_path: Path) -> None:
    mixed = replace(scene(count=6), level=torch.tensor([2, 0, 2, 1, 0, 2]))
    write_ply(tmp_path / "s.ply", mixed)
    read = read_ply(tmp_path / "s.ply")
    assert read.level.tolist() == [0, 0, 1, 2, 2, 2]
    assert torch.equal(read.means, mixed.means[[1, 4, 3, 0, 2, 5]])


def test_empty_scene_survives(tmp_path: Path) -> None:
    write_ply(tmp_path / "s.ply", scene()[:0])
    assert read_ply(tmp_path / "s.ply").count == 0


def test_levels_are_zero_where_another_tool_dropped_gaussians(tmp_path: Path) -> None:
    content = to_ply_bytes(scene(count=9, degree=0))
    shorter = content.replace(b"element vertex 9", b"element vertex 8")[: -17 * 4]
    (tmp_path / "s.ply").write_bytes(shorter)
    assert read_ply(tmp_path / "s.ply").level.tolist() == [0] * 8


def test_unnormalised_rotations_of_other_tools_are_normalised(tmp_path: Path) -> None:
    gaussians = scene()
    doubled = replace(gaussians, quaternions_wxyz=2 * gaussians.quaternions_wxyz)
    write_ply(tmp_path / "s.ply", doubled)
    read = read_ply(tmp_path / "s.ply").quaternions_wxyz
    assert torch.allclose(read, gaussians.quaternions_wxyz, atol=1e-6)


@pytest.mark.parametrize("field", [f.name for f in fields(Gaussians) if f.name != "level"])
def test_nan_is_refused_by_name(field: str) -> None:
    gaussians = scene()
    broken = getattr(gaussians, field).clone()
    broken[3] = float("nan")
    with pytest.raises(ValueError, match=f"NaN or infinite values in {field}"):
        to_ply_bytes(replace(gaussians, **{field: broken}))


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    gaussians = scene()
    with pytest.raises(ValueError, match="not positive"):
        to_ply_bytes(replace(gaussians, scales=0 * gaussians.scales))
    with pytest.raises(ValueError, match="index the batch"):
        to_ply_bytes(gaussians[None])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_ply(tmp_path / "nowhere" / "s.ply", gaussians)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no ply", "not a complete"),
        (b"\xff\xd8\xff\xe0 a photo", "not a complete"),
        (to_ply_bytes(scene())[:-40], "not a complete"),
        (
            b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\n"
            b"property float z\nend_header\n0 0 0\n",
            "mesh or a point cloud",
        ),
        (
            b"ply\nformat ascii 1.0\nelement chunk 1\nproperty float min_x\nend_header\n0\n",
            "compressed",
        ),
    ],
)
def test_other_files_are_refused_by_name(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "odd.ply").write_bytes(content)
    with pytest.raises(PlyError, match=rf"odd\.ply.*{reason}"):
        read_ply(tmp_path / "odd.ply")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.ply"):
        read_ply(tmp_path / "gone.ply")
