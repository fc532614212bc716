import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hisplat_data_tools.datasets import (
    DATASETS,
    AllViews,
    BoundedSampler,
    ChunkScenes,
    PosedScene,
    SceneDataset,
)
from hisplat_data_tools.datasets.chunk_writer import (
    ChunkWriter,
    PictureFormat,
    fitted_depths,
    index_chunks,
    stored_scene,
    write_chunk_index,
)
from hisplat_data_tools.procedural import ProceduralDataset, ProceduralSettings
from hisplat_models.metrics import psnr
from tests.chunk_files import path_cameras, write_chunks
from tests.two_planes import SIZE, two_planes_views

KEEP = PictureFormat(size=None, quality=98)
ANY = DATASETS["chunks"]


def planes(key: str = "planes", frames: int = 4) -> PosedScene:
    cameras = path_cameras(frames)
    pixels = (two_planes_views(cameras)[0] * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return PosedScene(key, cameras, lambda frame: np.ascontiguousarray(pixels[frame]))


def write(folder: Path, keys: str, settings: dict | None = None, chunk_bytes: int = 10**8) -> None:
    with ChunkWriter(folder, settings or {}, chunk_bytes) as writer:
        for key in keys:
            if key not in writer:
                writer.add(stored_scene(planes(key, 2), KEEP))


def test_stored_scene_comes_back(tmp_path: Path) -> None:
    scene = planes()
    write_chunks(tmp_path, [[stored_scene(scene, KEEP, torch.arange(4) * 40, "https://x")]])
    example = SceneDataset(ChunkScenes(tmp_path, "test", ANY), AllViews(), SIZE)[0]
    assert psnr(example.context_images, two_planes_views(scene.cameras)[0]).min() > 32
    torch.testing.assert_close(
        example.context_cameras.camera_to_world, scene.cameras.camera_to_world
    )
    torch.testing.assert_close(example.context_cameras.intrinsics, scene.cameras.intrinsics)


def test_resized_photos_still_fit_their_cameras(tmp_path: Path) -> None:
    stored = stored_scene(planes(), PictureFormat(size=(60, 110), quality=98))
    write_chunks(tmp_path, [[stored]])
    example = SceneDataset(ChunkScenes(tmp_path, "test", ANY), AllViews(), (60, 110))[0]
    expected, _ = two_planes_views(example.context_cameras, (60, 110))
    assert psnr(example.context_images, expected).min() > 30


def test_procedural_scenes_go_through_chunks(tmp_path: Path) -> None:
    settings = ProceduralSettings(height=48, width=64, target_views=3, texture_size=64)
    made = ProceduralDataset(settings, seed=3, length=1)[0]
    pixels = (made.target_images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    scene = PosedScene(
        "room", made.target_cameras, lambda frame: np.ascontiguousarray(pixels[frame])
    )
    with ChunkWriter(tmp_path / "train", {}) as writer:
        writer.add(stored_scene(scene, KEEP))
    scenes = ChunkScenes(tmp_path, "train", ANY)
    sampler = BoundedSampler(least_gap=(2, 2), greatest_gap=(2, 2), target_views=1)
    example = SceneDataset(scenes, sampler, (48, 64)).example(0, seed=1, step=0)
    assert psnr(example.context_images, made.target_images[[0, 2]]).min() > 30
    torch.testing.assert_close(
        example.context_cameras.camera_to_world,
        made.target_cameras.camera_to_world[[0, 2]],
        atol=1e-5,
        rtol=1e-5,
    )


def test_chunks_close_at_their_size_and_the_index_finds_every_scene(tmp_path: Path) -> None:
    scene_bytes = sum(len(i) for i in stored_scene(planes("a", 2), KEEP)["images"])
    write(tmp_path / "test", "abcde", chunk_bytes=2 * scene_bytes)
    scenes = ChunkScenes(tmp_path, "test", ANY)
    assert [len(group) for group in scenes.groups] == [2, 2, 1]
    assert [scenes.scene(i).key for i in range(5)] == list("abcde")
    assert index_chunks(tmp_path / "test") == dict(
        zip(
            scenes.keys,
            json.loads((tmp_path / "test/index.json").read_text()).values(),
            strict=True,
        )
    )
    assert not list((tmp_path / "test").glob(".*"))


def test_stopped_writing_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "test"
    writer = ChunkWriter(folder, {"q": 1})
    writer.add(stored_scene(planes("a", 2), KEEP))
    writer.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    before = (folder / "000000.torch").read_bytes()
    write(folder, "abc", {"q": 1})
    assert ChunkScenes(tmp_path, "test", ANY).groups == [[0], [1, 2]]
    assert (folder / "000000.torch").read_bytes() == before


def test_nothing_made_otherwise_is_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "test"
    write(folder, "a", {"size": (1, 2)})
    with pytest.raises(ValueError, match="nothing is overwritten"):
        ChunkWriter(folder, {"size": (1, 3)})
    (folder / "made_with.json").unlink()
    with pytest.raises(ValueError, match="made by something else"):
        ChunkWriter(folder, {"size": (1, 2)})


def test_two_scenes_of_a_name_are_refused(tmp_path: Path) -> None:
    with ChunkWriter(tmp_path, {}) as writer:
        writer.add(stored_scene(planes("a", 2), KEEP))
        with pytest.raises(ValueError, match="has a scene a already"):
            writer.add(stored_scene(planes("a", 2), KEEP))
    torch.save([stored_scene(planes("a", 2), KEEP)], tmp_path / "copy.torch")
    with pytest.raises(ValueError, match=r"a is in 000000\.torch and again in copy\.torch"):
        index_chunks(tmp_path)


def test_lost_index_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "test"
    write(folder, "ab")
    kept = (folder / "index.json").read_bytes()
    (folder / "index.json").unlink()
    write_chunk_index(folder, index_chunks(folder))
    assert (folder / "index.json").read_bytes() == kept
    with pytest.raises(FileNotFoundError, match="no chunk files"):
        index_chunks(tmp_path)


def test_fitted_depths_change_units_and_nothing_else() -> None:
    scene = planes()
    fitted, fits = fitted_depths(scene, 1.0, 100.0)
    assert fits
    assert fitted.cameras.near.tolist() == pytest.approx([1.0] * 4)
    assert fitted.cameras.far.tolist() == pytest.approx([6.0 / 1.4] * 4)
    point = torch.tensor([[0.2, 0.1, 3.0]]).expand(4, 1, 3)
    before, after = scene.cameras.project(point), fitted.cameras.project(point / 1.4)
    torch.testing.assert_close(before[..., :2], after[..., :2])
    assert not fitted_depths(scene, 1.0, 4.0)[1]


@pytest.mark.parametrize("options", [{"quality": 0}, {"quality": 101}, {"size": (0, 5)}])
def test_impossible_pictures_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="Expected"):
        PictureFormat(**options)
