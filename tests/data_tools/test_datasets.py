import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hisplat_data_tools.datasets import PosedFolderDataset, read_stereo_folder
from hisplat_models.metrics import psnr
from tests.two_planes import (
    FOCAL,
    SIZE,
    two_planes_cameras,
    two_planes_views,
    write_posed_folder,
    write_stereo_folder,
)


@pytest.fixture
def posed(tmp_path: Path) -> Path:
    return write_posed_folder(tmp_path / "planes")


@pytest.fixture
def stereo(tmp_path: Path) -> Path:
    return write_stereo_folder(tmp_path / "stereo")


def edit(path: Path, change) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_posed_folder_gives_photos_and_cameras_of_its_pair(posed: Path) -> None:
    example = PosedFolderDataset(posed, long_side=128, size_multiple=16)[0]
    photos, _ = two_planes_views(two_planes_cameras())
    assert example.name == "planes/left-right"
    assert example.context_images.shape == (2, 3, *SIZE)
    assert psnr(example.context_images, photos[[0, 2]]).min() > 50  # 8-bit rounding
    assert psnr(example.target_images, photos[1:2]).min() > 50
    expected = two_planes_cameras()
    torch.testing.assert_close(example.context_cameras.intrinsics, expected.intrinsics[[0, 2]])
    torch.testing.assert_close(
        example.target_cameras.camera_to_world, expected.camera_to_world[1:2]
    )
    assert example.context_cameras.near.tolist() == pytest.approx([1.4, 1.4])


def test_context_sides_are_multiples_while_targets_keep_their_proportions(posed: Path) -> None:
    example = PosedFolderDataset(posed, long_side=100, size_multiple=16)[0]
    assert all(side % 16 == 0 for side in example.context_images.shape[-2:])
    assert example.target_images.shape[-2:] == (75, 100)


def test_stretched_context_still_shows_what_its_cameras_say(posed: Path) -> None:
    """A world point falls on the same part of the photo whatever size it is stretched to."""
    small = PosedFolderDataset(posed, long_side=80, size_multiple=32)[0]
    large = PosedFolderDataset(posed, long_side=128, size_multiple=16)[0]
    point = torch.tensor([[0.1, -0.2, 4.0]]).expand(2, 1, 3)
    torch.testing.assert_close(
        small.context_cameras.project(point), large.context_cameras.project(point)
    )
    stretched = torch.nn.functional.interpolate(
        large.context_images, small.context_images.shape[-2:], mode="bilinear", antialias=True
    )
    assert psnr(small.context_images, stretched).min() > 25


def test_range_of_the_scene_stands_in_for_that_of_the_pair(posed: Path) -> None:
    def move(document: dict) -> None:
        document["near"] = document["pairs"][0].pop("near")
        document["far"] = document["pairs"][0].pop("far")

    edit(posed / "cameras.json", move)
    assert PosedFolderDataset(posed)[0].context_cameras.far.tolist() == pytest.approx([6.0, 6.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("pairs"), "no pairs"),
        (lambda d: d["pairs"][0].update(targets=[]), "no pairs with targets"),
        (lambda d: d["pairs"][0].update(near=7.0), "near < far"),
        (lambda d: d["pairs"][0].pop("far"), "near < far"),
        (lambda d: d["pairs"][0].update(left="nobody.png"), "nobody.png"),
        (lambda d: d["images"][0].pop("fx"), "fx"),
    ],
)
def test_malformed_cameras_are_refused(posed: Path, change, message: str) -> None:
    edit(posed / "cameras.json", change)
    with pytest.raises(ValueError, match=message):
        PosedFolderDataset(posed)


def test_missing_photo_and_missing_cameras_are_refused(posed: Path) -> None:
    (posed / "middle.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"middle\.png"):
        PosedFolderDataset(posed)
    (posed / "cameras.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"cameras\.json"):
        PosedFolderDataset(posed)


def test_stereo_disparity_and_depth_are_inverse(stereo: Path) -> None:
    pair = read_stereo_folder(stereo)
    assert pair.calibrated
    assert pair.size == SIZE
    assert pair.disparity[:3].isnan().all()
    depth = torch.full((2, 2), pair.depth_of_disparity(9.0))
    torch.testing.assert_close(pair.disparity_of_depth(depth), torch.full((2, 2), 9.0))


def test_stereo_cameras_shift_points_by_their_disparity(stereo: Path) -> None:
    edit(stereo / "calib.json", lambda d: d.update(doffs=4.0))
    pair = read_stereo_folder(stereo)
    cameras = pair.cameras(100.0, 10_000.0)
    depth = pair.depth_of_disparity(7.0)
    point = torch.tensor([[0.1 * depth, 0.05 * depth, depth]]).expand(2, 1, 3)
    x, y, _ = cameras.project(point)[:, 0].unbind(-1)
    assert (x[0] - x[1]).item() * SIZE[1] == pytest.approx(7.0, abs=1e-3)
    assert y[0].item() == pytest.approx(y[1].item())


def test_uncalibrated_stereo_gets_stated_defaults(stereo: Path) -> None:
    unknown = dict.fromkeys(("fx", "fy", "cx", "cy", "doffs", "baseline_mm"))
    (stereo / "calib.json").write_text(json.dumps(unknown))
    pair = read_stereo_folder(stereo)
    assert not pair.calibrated
    assert pair.focal_px == pytest.approx(1.2 * SIZE[1])
    assert pair.principal_px == (SIZE[1] / 2, SIZE[0] / 2)
    assert pair.baseline == 1.0


@pytest.mark.parametrize("name", ["left.png", "right.png", "disparity.npy", "calib.json"])
def test_incomplete_stereo_folder_is_refused(stereo: Path, name: str) -> None:
    (stereo / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        read_stereo_folder(stereo)


def test_contradicting_stereo_files_are_refused(stereo: Path) -> None:
    good = np.load(stereo / "disparity.npy")
    np.save(stereo / "disparity.npy", good[:-1])
    with pytest.raises(ValueError, match="shape"):
        read_stereo_folder(stereo)
    (stereo / "disparity.npy").write_bytes(b"not an array")
    with pytest.raises(ValueError, match="numpy"):
        read_stereo_folder(stereo)
    np.save(stereo / "disparity.npy", good)
    edit(stereo / "calib.json", lambda d: d.update(fx=-FOCAL))
    with pytest.raises(ValueError, match="fx"):
        read_stereo_folder(stereo)


def test_real_folders_are_read(data_dir: Path) -> None:
    dataset = PosedFolderDataset(data_dir / "fox", 384, 16)
    assert len(dataset) == 4
    example = dataset[0]
    assert example.context_images.shape == (2, 3, 384, 224)
    assert example.target_images.shape == (3, 3, 384, 216)
    pair = read_stereo_folder(data_dir / "stereo_motorcycle")
    assert pair.calibrated
    assert pair.offset_px == pytest.approx(31.086)
    assert 0.9 < torch.isfinite(pair.disparity).float().mean() < 0.95


def test_targets_may_have_a_size_of_their_own(posed: Path) -> None:
    example = PosedFolderDataset(posed, 64, 16, target_long_side=128)[0]
    assert example.context_images.shape[-2:] == (48, 64)
    assert example.target_images.shape[-2:] == SIZE
