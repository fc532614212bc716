"""Scenes of three photos: what the third one repeats is faint, what it alone shows is not."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hisplat_app.photo_overlap import OverlapSettings, without_repetition
from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import Gaussians
from hisplat_models.metrics import psnr
from hisplat_models.network import HiSplat, HiSplatOutput
from hisplat_models.refinement import photo_of_each
from hisplat_models.rendering import CpuRenderer

from ..models.scenes import sideways_cameras, wall_of_gaussians

SIZE = (96, 128)
RENDERER = CpuRenderer()


def taken(cameras: Cameras) -> Tensor:
    """Photos of a wall with a box in front."""
    with torch.no_grad():
        return RENDERER(wall_of_gaussians(), cameras[None], SIZE).color[0].clamp(0, 1)


@pytest.fixture(scope="module")
def cameras() -> Cameras:
    """Left, right, and one far to the right that half looks beyond them."""
    row = sideways_cameras(3, 0.0)
    pose = row.camera_to_world.clone()
    pose[:, 0, 3] = torch.tensor([-0.3, 0.3, 2.5])
    return replace(row, camera_to_world=pose)


@pytest.fixture(scope="module")
def images(cameras: Cameras) -> Tensor:
    return taken(cameras)


@pytest.fixture(scope="module")
def output(untrained: HiSplat, images: Tensor, cameras: Cameras) -> HiSplatOutput:
    with torch.no_grad():
        return untrained(images[None], cameras[None])


@pytest.fixture(scope="module")
def faint(output: HiSplatOutput, images: Tensor, cameras: Cameras) -> Tensor:
    """Factors on the opacities, (n,)."""
    scene = without_repetition(output, images, cameras, OverlapSettings(repeated_opacity=0.25))
    return scene.opacities[0] / output.gaussians.opacities[0]


def test_the_first_two_photos_stand(output: HiSplatOutput, faint: Tensor):
    photo = photo_of_each(output.gaussians.level[0], 3)
    assert (faint[photo < 2] == 1).all()


def test_of_the_third_photo_only_what_it_repeats_is_faint(
    output: HiSplatOutput, faint: Tensor, cameras: Cameras
):
    scene = output.gaussians[0]
    fine = (photo_of_each(scene.level, 3) == 2) & (scene.level == 2)
    shown = torch.zeros(scene.count, dtype=torch.bool)
    for camera in (cameras[0], cameras[1]):
        x, y, _ = camera.project(scene.means).unbind(dim=-1)
        shown |= (x > 0) & (x < 1) & (y > 0) & (y < 1)
    assert (faint[fine & ~shown] == 1).all()
    assert (faint[fine & shown] == 0.25).float().mean() > 0.7
    assert (fine & shown).sum() > 1000
    assert (fine & ~shown).sum() > 1000


def test_the_coarsest_level_yields_where_that_of_an_earlier_photo_goes(
    output: HiSplatOutput, faint: Tensor, cameras: Cameras
):
    scene, coarsest = output.gaussians[0], output.stages[0]
    mine = (photo_of_each(scene.level, 3) == 2) & (scene.level == 0)
    beyond = coarsest.padding / coarsest.opacities.shape[-1]
    x = cameras[1].project(scene.means).unbind(dim=-1)[0]  # its frame ends at 1
    assert (faint[mine & (x > 1.01) & (x < 0.99 + beyond)] == 0.25).all()
    assert (mine & (x > 1.01) & (x < 0.99 + beyond)).sum() > 10
    assert (faint[mine & (x > 1.01 + beyond)] == 1).all()
    assert (mine & (x > 1.01 + beyond)).sum() > 10


def test_only_opacities_change(output: HiSplatOutput, images: Tensor, cameras: Cameras):
    scene, before = without_repetition(output, images, cameras), output.gaussians
    assert not torch.equal(scene.opacities, before.opacities)
    restored = replace(scene, opacities=before.opacities)
    for name in ("means", "scales", "quaternions_wxyz", "opacities", "harmonics", "level"):
        assert torch.equal(getattr(restored, name), getattr(before, name)), name


def test_what_only_the_third_photo_shows_is_still_there(
    output: HiSplatOutput, images: Tensor, cameras: Cameras, untrained: HiSplat
):
    def from_the_third_place(scene: Gaussians) -> float:
        with torch.no_grad():
            drawn = RENDERER(scene, cameras[None, 2:], SIZE).color[0, 0].clamp(0, 1)
        return psnr(drawn, images[2]).item()

    with torch.no_grad():
        pair = untrained(images[None, :2], cameras[None, :2]).gaussians
    scene = without_repetition(output, images, cameras)
    assert from_the_third_place(scene) > from_the_third_place(pair) + 2


def test_two_photos_make_the_scene_they_made(untrained: HiSplat, images: Tensor, cameras: Cameras):
    with torch.no_grad():
        pair = untrained(images[None, :2], cameras[None, :2])
    assert without_repetition(pair, images[:2], cameras[:2]) is pair.gaussians


def test_networks_that_do_not_match_photos_keep_their_scenes(
    output: HiSplatOutput, images: Tensor, cameras: Cameras
):
    unmatched = replace(output, prior=None)
    assert without_repetition(unmatched, images, cameras) is unmatched.gaussians
