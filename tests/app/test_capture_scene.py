"""A scene of a made-up capture, and how it depends on what is given."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hisplat_app.capture_scene import CaptureScene, CaptureSettings, reconstruct_capture
from hisplat_data_tools.cameras_json import read_cameras, to_cameras
from hisplat_data_tools.images import Photo, load_photo
from hisplat_data_tools.procedural import capture as made_up
from hisplat_models.cameras import Cameras
from hisplat_models.checkpoints import load_model
from hisplat_models.metrics import psnr
from hisplat_models.network import HiSplat

HELD_OUT = 3


@pytest.fixture(scope="module")
def network() -> HiSplat:
    return load_model()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("capture")
    made_up.write_capture(path, made_up.CaptureSettings(views=8, samples_per_pixel=2))
    return path


@pytest.fixture(scope="module")
def views(folder: Path) -> tuple[list[Photo], Cameras]:
    """All photos and cameras; near and far are not known."""
    images = read_cameras(folder / "transforms.json").images
    return [load_photo(folder / image.file) for image in images], to_cameras(images, 1.0, 2.0)


@pytest.fixture(scope="module")
def scene(views: tuple[list[Photo], Cameras], network: HiSplat) -> CaptureScene:
    photos, cameras = _without(views, HELD_OUT)
    return reconstruct_capture(photos, cameras, network)


def _without(views: tuple[list[Photo], Cameras], index: int) -> tuple[Sequence[Photo], Cameras]:
    photos, cameras = views
    kept = [i for i in range(len(photos)) if i != index]
    return [photos[i] for i in kept], cameras[kept]


def _score(scene: CaptureScene, photo: Photo, camera: Cameras, network: HiSplat) -> float:
    size = photo.height, photo.width
    drawn = network.create_renderer("cpu")(scene.gaussians[None], camera[None], size)
    return float(psnr(drawn.color[0, 0].clamp(0, 1), photo.image))


def test_held_out_photo_is_shown(
    views: tuple[list[Photo], Cameras], scene: CaptureScene, network: HiSplat
):
    photos, cameras = views
    score = _score(scene, photos[HELD_OUT], cameras[[HELD_OUT]], network)
    copied = float(psnr(photos[HELD_OUT - 1].image, photos[HELD_OUT].image))
    assert score > 21
    assert score > copied + 1


def test_range_of_depths_is_found(scene: CaptureScene):
    # The nearest things are 1.7 m away, the far wall 4.2 m.
    assert scene.cameras.near.min() > 0.8
    assert scene.cameras.near.max() < 2.6
    assert scene.cameras.far.min() > 3.5
    assert scene.cameras.far.max() < 12


def test_more_pairs_make_more_gaussians_than_are_kept(
    views: tuple[list[Photo], Cameras], network: HiSplat
):
    photos, cameras = views
    settings = CaptureSettings()
    many = replace(settings, pairs=replace(settings.pairs, uncovered=0.02, least_gain=0.01))
    scene = reconstruct_capture(photos, cameras, network, many)
    assert len(scene.pairs) > 1
    assert scene.gaussians.count < 0.8 * scene.made
    assert set(scene.gaussians.level.unique().tolist()) == {0, 1, 2}


def test_scene_scales_with_the_cameras(
    views: tuple[list[Photo], Cameras], scene: CaptureScene, network: HiSplat
):
    photos, cameras = _without(views, HELD_OUT)
    larger = reconstruct_capture(photos, cameras.scaled(4.0), network)
    assert larger.pairs == scene.pairs
    sizes = [torch.quantile(s.gaussians.means.norm(dim=-1), 0.5) for s in (larger, scene)]
    assert sizes[0] / sizes[1] == pytest.approx(4.0, rel=0.02)


def test_known_points_give_the_range(views: tuple[list[Photo], Cameras], network: HiSplat):
    photos, cameras = _without(views, HELD_OUT)
    places = cameras.positions[0] + torch.tensor([[0.0, 3.0, 0.0]])
    points = places + torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    scene = reconstruct_capture(photos, cameras, network, points=points)
    assert scene.cameras.near.min() > 1.0
    assert scene.cameras.far.max() < 7.0


def test_photos_and_cameras_must_be_as_many(views: tuple[list[Photo], Cameras], network: HiSplat):
    photos, cameras = views
    with pytest.raises(ValueError, match="8 photos and 7 cameras"):
        reconstruct_capture(photos, cameras[:7], network)
