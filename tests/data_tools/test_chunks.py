import json
import pickle
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hisplat_data_tools.datasets import (
    DATASETS,
    AllViews,
    BoundedSampler,
    ChunkScenes,
    IndexSampler,
    SceneDataset,
    UnusableScene,
    ViewChoice,
    chunks,
)
from hisplat_data_tools.datasets.cover_crop import CoverCrop
from hisplat_models.cameras import Cameras
from hisplat_models.metrics import psnr
from tests.chunk_files import chunk_scene, gray_scene, path_cameras, two_planes_scene, write_chunks
from tests.two_planes import SIZE, two_planes_views

ANY = DATASETS["chunks"]
SHORT_GAP = BoundedSampler(least_gap=(2, 4), greatest_gap=(4, 6), warm_up_steps=10, target_views=2)


def one_scene(tmp_path: Path, scene: dict) -> ChunkScenes:
    return ChunkScenes(write_chunks(tmp_path, [[scene]]), "test", ANY)


def gray_dataset(tmp_path: Path, counts: list[int], frames: int = 8) -> SceneDataset:
    """Chunks of so many scenes each."""
    files = [[gray_scene(f"{c}-{s}", frames) for s in range(n)] for c, n in enumerate(counts)]
    return SceneDataset(ChunkScenes(write_chunks(tmp_path, files), "test", ANY), SHORT_GAP, (9, 16))


def frames_shown(images: torch.Tensor) -> list[int]:
    """Which frames of a gray scene these are."""
    return [round(level * 255 / 8) for level in images.mean(dim=(1, 2, 3)).tolist()]


def test_chunks_give_the_cameras_and_photos_that_went_in(tmp_path: Path) -> None:
    scenes = one_scene(tmp_path, two_planes_scene("planes", 3))
    example = SceneDataset(scenes, AllViews(), SIZE)[0]
    expected = path_cameras(3)
    photos, _ = two_planes_views(expected)
    assert example.name == "planes"
    assert psnr(example.context_images, photos).min() > 38  # JPEG
    cameras = example.target_cameras
    torch.testing.assert_close(
        cameras.camera_to_world, expected.camera_to_world, atol=1e-6, rtol=1e-5
    )
    torch.testing.assert_close(cameras.intrinsics, expected.intrinsics)
    assert cameras.near.tolist() == [1.0] * 3
    assert cameras.far.tolist() == [100.0] * 3


def test_re10k_photos_are_scaled_and_cut_as_published() -> None:
    crop = CoverCrop.of((360, 640), (256, 256))
    assert crop.scaled == (256, 455)
    assert (crop.top, crop.left) == (0, 99)


@pytest.mark.parametrize("size", [(64, 64), (48, 63), (96, 96), (60, 100), (150, 90)])
def test_cropped_photos_show_what_their_cameras_say(tmp_path: Path, size: tuple[int, int]) -> None:
    """Rendering the scene with the new cameras gives the cropped photos, to half a pixel."""
    example = SceneDataset(one_scene(tmp_path, two_planes_scene("p", 3)), AllViews(), size)[0]
    expected, _ = two_planes_views(example.context_cameras, size)
    right = psnr(example.context_images, expected)
    assert right.min() > 30
    for axis, side in ((0, size[1]), (1, size[0])):
        moved = example.context_cameras.intrinsics.clone()
        moved[:, axis, 2] += 0.5 / side
        shifted, _ = two_planes_views(replace(example.context_cameras, intrinsics=moved), size)
        assert (right > psnr(example.context_images, shifted) + 1).all()


def test_world_point_keeps_its_place_in_the_cropped_photo(tmp_path: Path) -> None:
    scenes = one_scene(tmp_path, two_planes_scene("planes", 2))
    crop = CoverCrop.of(SIZE, (50, 51))
    point = torch.tensor([[0.31, -0.17, 3.0]]).expand(2, 1, 3)
    before = path_cameras(2).project(point)[:, 0, :2] * torch.tensor([SIZE[1], SIZE[0]])
    after = SceneDataset(scenes, AllViews(), (50, 51))[0].context_cameras.project(point)[:, 0, :2]
    scale = torch.tensor([crop.scaled[1] / SIZE[1], crop.scaled[0] / SIZE[0]])
    expected = before * scale - torch.tensor([crop.left, crop.top])
    torch.testing.assert_close(after * torch.tensor([51, 50]), expected, atol=2e-4, rtol=0)


def test_published_principal_point_stays_centred(tmp_path: Path) -> None:
    cameras = path_cameras(2)
    k = cameras.intrinsics.clone()
    k[:, :2, 2] = 0.5
    cameras = replace(cameras, intrinsics=k)
    scene = chunk_scene("wide", cameras, torch.zeros(2, 3, 360, 640))
    scenes = ChunkScenes(write_chunks(tmp_path, [[scene]]), "test", DATASETS["re10k"])
    exact = SceneDataset(scenes, AllViews())[0].context_cameras.intrinsics[0]
    published = SceneDataset(scenes, AllViews(), exact_principal_point=False)
    as_published = published[0].context_cameras.intrinsics[0]
    assert as_published[:2, 2].tolist() == [0.5, 0.5]
    assert (exact[0, 2] - 0.5).item() * 256 == pytest.approx(0.5, abs=1e-4)
    torch.testing.assert_close(exact.diagonal(), as_published.diagonal())
    assert exact[0, 0].item() == pytest.approx(k[0, 0, 0].item() * 455 / 256)


def test_every_published_dataset_has_its_range() -> None:
    ranges = {name: (d.near, d.far) for name, d in DATASETS.items()}
    assert ranges == {
        "re10k": (1, 100), "acid": (1, 100), "dtu": (2.125, 4.525), "replica": (0.5, 15),
        "chunks": (1, 100),
    }  # fmt: skip


def test_old_files_without_mapping_are_read(tmp_path: Path) -> None:
    scenes = one_scene(tmp_path, gray_scene("old", 3))
    path = tmp_path / "test" / "000000.torch"
    torch.save(torch.load(path, weights_only=True), path, _use_new_zipfile_serialization=False)
    assert len(scenes.scene(0)) == 3


class Planted:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("zipped", [True, False])
def test_chunk_that_brings_code_is_refused_and_nothing_runs(tmp_path: Path, zipped: bool) -> None:
    scenes = one_scene(tmp_path, gray_scene("s", 3))
    trace = tmp_path / "ran"
    scene = gray_scene("s", 3) | {"url": Planted(trace)}
    path = tmp_path / "test" / "000000.torch"
    torch.save([scene], path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"Refused to read .*000000\.torch"):
        scenes.scene(0)
    assert not trace.exists()


def test_damaged_chunk_is_named(tmp_path: Path) -> None:
    scenes = one_scene(tmp_path, gray_scene("s", 3))
    path = tmp_path / "test" / "000000.torch"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"chunk .*000000\.torch"):
        scenes.scene(0)


@pytest.mark.parametrize(
    "content", [{"a": 1}, [1], [{"key": "s"}], [{"key": "s", "cameras": torch.zeros(2, 17)}]]
)
def test_chunk_of_another_layout_is_refused(tmp_path: Path, content: object) -> None:
    scenes = one_scene(tmp_path, gray_scene("s", 3))
    torch.save(content, tmp_path / "test" / "000000.torch")
    with pytest.raises(ValueError, match="Expected a list of scenes"):
        scenes.scene(0)


def test_damaged_photo_is_named_with_scene_and_frame(tmp_path: Path) -> None:
    scene = gray_scene("broken", 3)
    scene["images"][2] = scene["images"][2][:100]
    dataset = SceneDataset(one_scene(tmp_path, scene), AllViews(), (9, 16))
    with pytest.raises(UnusableScene, match=r"broken in .*000000\.torch, frame 2 is a damaged"):
        dataset[0]


def test_photo_of_a_wrong_shape_is_named(tmp_path: Path) -> None:
    root = write_chunks(tmp_path, [[gray_scene("small", 3)]])
    scenes = ChunkScenes(root, "test", DATASETS["re10k"])
    with pytest.raises(UnusableScene, match=r"small .* is 64x36 px; expected 640x360"):
        SceneDataset(scenes, AllViews())[0]


def _spoil(scene: dict, columns: slice, value: float) -> dict:
    scene["cameras"][1, columns] = value
    return scene


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: _spoil(s, slice(8, 9), float("nan")), "not finite"),
        (lambda s: _spoil(s, slice(0, 1), -1.0), "focal lengths"),
        (lambda s: _spoil(s, slice(0, 1), 0.3), "sees 118 degrees"),
        (lambda s: _spoil(s, slice(6, 7), 2.0), "no rotations"),
        (lambda s: s | {"images": s["images"][:2]}, "2 photos and 3 cameras"),
    ],
)
def test_impossible_scenes_are_refused_by_name(tmp_path: Path, spoil, message: str) -> None:
    scenes = one_scene(tmp_path, spoil(gray_scene("odd", 3)))
    with pytest.raises(UnusableScene, match=f"odd in .*{message}"):
        scenes.scene(0)


def test_index_is_checked(tmp_path: Path) -> None:
    folder = write_chunks(tmp_path, [[gray_scene("a", 3)]]) / "test"
    index = folder / "index.json"
    index.write_text(json.dumps({"a": "000000.torch", "b": "000007.torch"}))
    with pytest.raises(FileNotFoundError, match=r"1 of 2 chunks .*000007\.torch"):
        ChunkScenes(tmp_path, "test", ANY)
    index.write_text(json.dumps({"b": "000000.torch"}))
    with pytest.raises(ValueError, match="has no scene b"):
        ChunkScenes(tmp_path, "test", ANY).scene(0)
    index.write_text(json.dumps({"a": "../test/000000.torch"}))
    with pytest.raises(ValueError, match="outside its folder"):
        ChunkScenes(tmp_path, "test", ANY)
    index.write_text("[]")
    with pytest.raises(ValueError, match="Expected"):
        ChunkScenes(tmp_path, "test", ANY)
    index.unlink()
    with pytest.raises(FileNotFoundError, match="hisplat data index-chunks"):
        ChunkScenes(tmp_path, "test", ANY)
    with pytest.raises(FileNotFoundError, match="train"):
        ChunkScenes(tmp_path, "train", ANY)


def test_few_chunks_are_in_memory_and_each_is_opened_once_an_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = gray_dataset(tmp_path, [3] * 7)
    alive: list[weakref.ref] = []
    read = chunks.read_chunk

    def watched(path: Path) -> list[dict]:
        scenes = read(path)
        alive.append(weakref.ref(scenes[0]["cameras"]))
        return scenes

    monkeypatch.setattr(chunks, "read_chunk", watched)
    most = 0
    for index in dataset.epoch_order(1, 0):
        dataset.example(index, seed=0, step=0)
        most = max(most, sum(ref() is not None for ref in alive))
    assert most == 2
    assert len(alive) == 7


def test_epoch_order_is_a_permutation_of_its_own_for_every_epoch(tmp_path: Path) -> None:
    dataset = gray_dataset(tmp_path, [3, 1, 4, 2, 5])
    orders = [dataset.epoch_order(5, epoch) for epoch in range(4)]
    assert all(sorted(order) == list(range(15)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert orders[2] == dataset.epoch_order(5, 2)
    assert orders[2] != dataset.epoch_order(6, 2)


def test_epoch_order_mixes_the_scenes_of_two_chunks(tmp_path: Path) -> None:
    dataset = gray_dataset(tmp_path, [6] * 4)
    order = [dataset.key(i)[0] for i in dataset.epoch_order(0, 0)]
    for half in (order[:12], order[12:]):
        assert len(set(half)) == 2
        assert half != sorted(half)
        assert half != sorted(half, reverse=True)


def test_example_is_a_function_of_index_seed_and_step(tmp_path: Path) -> None:
    dataset = gray_dataset(tmp_path, [2, 2], frames=9)

    def shown(index: int, seed: int, step: int) -> tuple[list[int], list[int]]:
        example = dataset.example(index, seed=seed, step=step)
        return frames_shown(example.context_images), frames_shown(example.target_images)

    before = shown(1, 3, 4)
    shown(0, 3, 4)
    assert shown(1, 3, 4) == before
    assert len({str(shown(1, seed, 4)) for seed in range(12)}) > 4
    for step, gap in ((0, 2), (5, 3), (10, 4)):
        context, targets = shown(1, 8, step)
        assert context[1] - context[0] == gap
        assert all(context[0] <= t <= context[1] for t in targets)


def test_item_is_always_the_same_at_the_end_of_the_curriculum(tmp_path: Path) -> None:
    dataset = gray_dataset(tmp_path, [2], frames=30)
    first, again = dataset[1], dataset[1]
    assert torch.equal(first.target_images, again.target_images)
    left, right = frames_shown(first.context_images)
    assert right - left == 4
    assert dataset.views(1).context == (left, right)
    with pytest.raises(IndexError):
        dataset[2]


def test_training_replaces_unusable_scenes_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = [[gray_scene("short", 2)], [gray_scene("long", 9), gray_scene("tiny", 2)]]
    dataset = SceneDataset(
        ChunkScenes(write_chunks(tmp_path, files), "test", ANY), SHORT_GAP, (9, 16)
    )
    assert dataset.example(0, seed=1, step=0).name == "long"
    assert dataset.skipped.keys() == {"short"}
    assert "short has 2 frames" in caplog.text
    assert dataset.example(2, seed=1, step=0).name == "long"
    assert dataset.skipped.keys() == {"short", "tiny"}
    with pytest.raises(UnusableScene, match="short"):
        dataset[0]


def test_training_stops_where_no_scene_can_be_used(tmp_path: Path) -> None:
    files = [[gray_scene("a", 2)], [gray_scene("b", 2)]]
    scenes = ChunkScenes(write_chunks(tmp_path, files), "test", ANY)
    with pytest.raises(UnusableScene, match=r"No scene can be used, from b through a\. .*2 frames"):
        SceneDataset(scenes, SHORT_GAP, (9, 16)).example(1, seed=1, step=0)


def test_evaluation_knows_beforehand_what_is_left_out(tmp_path: Path) -> None:
    root = write_chunks(tmp_path, [[gray_scene("a", 4)], [gray_scene("b", 4), gray_scene("c", 4)]])
    entries = {"c": ViewChoice((0, 3), (1, 2)), "a": None, "gone": ViewChoice((0, 2), (1,))}
    dataset = SceneDataset(ChunkScenes(root, "test", ANY), IndexSampler(entries), (9, 16))
    assert [dataset.key(i) for i in range(len(dataset))] == ["c"]
    example = dataset[0]
    assert frames_shown(example.context_images) == [0, 3]
    assert frames_shown(example.target_images) == [1, 2]
    assert dataset.left_out == {
        "a": "null in the evaluation index",
        "b": "not in the evaluation index",
        "gone": "in the evaluation index, but not in the data",
    }
    with pytest.raises(ValueError, match="No scene gives an example"):
        SceneDataset(ChunkScenes(root, "test", ANY), IndexSampler({"a": None}))


def test_scene_with_several_entries_gives_several_examples(tmp_path: Path) -> None:
    """As the published indices of DTU and Replica have it; other scenes keep their own entries."""
    files = [[gray_scene("scan", 6)], [gray_scene("scan_02", 6), gray_scene("none", 6)]]
    entries = {
        "scan_00": ViewChoice((4, 1), (3,)),
        "scan_01": ViewChoice((4, 1), (5,)),
        "scan_02": ViewChoice((0, 2), (1,)),
        "scan_03": None,
    }
    scenes = ChunkScenes(write_chunks(tmp_path, files), "test", ANY)
    dataset = SceneDataset(scenes, IndexSampler(entries), (9, 16))
    shown = {
        e.name: (frames_shown(e.context_images), frames_shown(e.target_images))
        for e in (dataset[i] for i in range(len(dataset)))
    }
    assert shown == {
        "scan_00": ([4, 1], [3]),
        "scan_01": ([4, 1], [5]),
        "scan_02": ([0, 2], [1]),
    }
    assert dataset.left_out == {
        "scan_03": "null in the evaluation index",
        "none": "not in the evaluation index",
    }
    assert sorted(dataset.epoch_order(0, 0)) == [0, 1, 2]


def test_only_frames_in_use_are_decoded(tmp_path: Path) -> None:
    scene = gray_scene("partly", 6)
    scene["images"][5] = scene["images"][5][:100]
    entries = {"partly": ViewChoice((0, 3), (1,))}
    dataset = SceneDataset(one_scene(tmp_path, scene), IndexSampler(entries), (9, 16))
    assert frames_shown(dataset[0].target_images) == [1]


def test_dataset_works_in_other_processes(tmp_path: Path) -> None:
    dataset = gray_dataset(tmp_path, [2])
    expected = dataset[1]
    sent = pickle.dumps(dataset)
    assert len(sent) < 10_000  # no photos travel along
    assert torch.equal(pickle.loads(sent)[1].context_images, expected.context_images)


def test_cameras_are_rigid_to_the_last_bit(tmp_path: Path) -> None:
    """Numbers stored as float32 leave rotations that are not quite; inverses agree nevertheless."""
    cameras: Cameras = one_scene(tmp_path, two_planes_scene("p", 3)).scene(0).cameras
    identity = cameras.world_to_camera @ cameras.camera_to_world
    torch.testing.assert_close(identity, torch.eye(4).expand(3, 4, 4), atol=1e-6, rtol=0)
