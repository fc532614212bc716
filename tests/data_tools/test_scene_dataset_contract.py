"""What training and evaluation expect of a dataset, kept by every source of scenes."""

from pathlib import Path

import pytest
import torch

from hisplat_data_tools.datasets import (
    DATASETS,
    BoundedSampler,
    ChunkScenes,
    SceneCollection,
    SceneDataset,
    SceneFolders,
)
from hisplat_models.training.feed import OrderedDataset, ScheduledDataset, mirrored
from tests.chunk_files import two_planes_scene, write_chunks
from tests.two_planes import write_posed_folder

SAMPLER = BoundedSampler(least_gap=(1, 2), greatest_gap=(2, 2), warm_up_steps=4, target_views=2)


@pytest.fixture(params=["chunks", "folders"])
def scenes(request: pytest.FixtureRequest, tmp_path: Path) -> SceneCollection:
    if request.param == "folders":
        return SceneFolders([write_posed_folder(tmp_path / n) for n in "abc"], 1.4, 6.0)
    files = [[two_planes_scene(n, 3) for n in "ab"], [two_planes_scene("c", 3)]]
    return ChunkScenes(write_chunks(tmp_path, files), "test", DATASETS["chunks"])


def test_scenes_of_every_source_train_and_evaluate(scenes: SceneCollection) -> None:
    assert isinstance(scenes, SceneCollection)
    dataset = SceneDataset(scenes, SAMPLER, (48, 64))
    assert isinstance(dataset, ScheduledDataset)
    assert isinstance(dataset, OrderedDataset)
    assert len(dataset) == 3
    assert sorted(dataset.epoch_order(0, 3)) == [0, 1, 2]
    assert [dataset[i].name for i in range(3)] == ["a", "b", "c"]
    one, again = (dataset.example(1, seed=2**62, step=9) for _ in range(2))
    assert one.name == again.name == dataset.key(1)
    assert torch.equal(one.target_images, again.target_images)
    assert one.context_images.shape == (2, 3, 48, 64)
    assert one.target_images.shape == (2, 3, 48, 64)
    assert one.context_cameras.batch_shape == (2,)
    assert one.target_cameras.batch_shape == (2,)


def test_mirrored_example_shows_the_mirrored_point_mirrored(scenes: SceneCollection) -> None:
    """x -> 1 - x in every picture, also for the off-centre principal point of these scenes."""
    example = SceneDataset(scenes, SAMPLER, (48, 60)).example(0, seed=1, step=9)
    mirror = mirrored(example)
    point = torch.tensor([[0.3, -0.2, 3.0]]).expand(2, 1, 3)
    for before, after in (
        (example.context_cameras, mirror.context_cameras),
        (example.target_cameras, mirror.target_cameras),
    ):
        assert (before.intrinsics[:, 0, 2] - 0.5).abs().min() > 0.005
        x, y, depth = before.project(point).unbind(-1)
        flipped = after.project(point * torch.tensor([-1.0, 1.0, 1.0]))
        torch.testing.assert_close(flipped, torch.stack([1 - x, y, depth], dim=-1))
    assert torch.equal(mirror.context_images, example.context_images.flip(-1))
    assert torch.equal(mirror.target_images, example.target_images.flip(-1))
