"""Procedural samples: the same everywhere, exact in geometry, consistent in colour."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from hisplat_data_tools.procedural import (
    LAYOUTS,
    ProceduralDataset,
    ProceduralSettings,
    covisible,
    make_sample,
    render,
    render_depth,
    sample_cameras,
    sample_scene,
)
from hisplat_models.cameras import Cameras
from hisplat_models.example import Example, collate

SMALL = ProceduralSettings(height=32, width=48, samples_per_pixel=2, texture_size=64)
EXACT = ProceduralSettings(
    height=64,
    width=96,
    photo_effects=0.0,
    rotation_error_deg=0.0,
    translation_error_deg=0.0,
    texture_size=64,
)


def tensors(example: Example) -> list[torch.Tensor]:
    assert example.context_depth is not None
    assert example.target_depth is not None
    cameras = [example.context_cameras, example.target_cameras]
    fields = [f for c in cameras for f in (c.camera_to_world, c.intrinsics, c.near, c.far)]
    images = [example.context_images, example.target_images]
    return [*fields, *images, example.context_depth, example.target_depth]


def assert_equal(one: Example, other: Example) -> None:
    assert one.name == other.name
    for a, b in zip(tensors(one), tensors(other), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def fingerprint(example: Example) -> str:
    return " ".join(f"{t.double().sum().item():.9e}" for t in tensors(example))


def world_points(cameras: Cameras, depth: torch.Tensor) -> torch.Tensor:
    height, width = depth.shape[-2:]
    return cameras.positions[..., None, None, :] + depth[..., None] * cameras.rays(height, width)


def sampled(image: torch.Tensor, xy: torch.Tensor) -> torch.Tensor:
    """Bilinear values (channel, n) of a (channel, height, width) image at places in [0, 1]²."""
    grid = (2 * xy - 1)[None, None].to(image)
    return torch.nn.functional.grid_sample(image[None], grid, align_corners=False)[0, :, 0]


def test_the_shapes_and_types_are_those_of_an_example() -> None:
    settings = ProceduralSettings(
        height=24, width=40, context_views=3, target_views=2, samples_per_pixel=1, texture_size=32
    )
    example = ProceduralDataset(settings, seed=1, length=2)[1]
    assert example.context_images.shape == (3, 3, 24, 40)
    assert example.target_images.shape == (2, 3, 24, 40)
    assert example.context_cameras.batch_shape == (3,)
    assert example.target_cameras.batch_shape == (2,)
    assert [t.dtype for t in tensors(example)] == [torch.float32] * 12
    assert example.context_depth is not None
    assert example.target_depth is not None
    assert example.context_depth.shape == (3, 24, 40)
    assert example.target_depth.shape == (2, 24, 40)


def test_an_item_is_the_same_in_another_process() -> None:
    code = (
        "from test_procedural import *\n"
        "print(fingerprint(ProceduralDataset(SMALL, seed=5, length=9)[7]))"
    )
    paths = [str(Path(__file__).parent), *sys.path]
    other = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == fingerprint(ProceduralDataset(SMALL, seed=5, length=9)[7])


def test_items_and_seeds_differ() -> None:
    dataset = ProceduralDataset(SMALL, seed=5, length=9)
    prints = [fingerprint(dataset[0]), fingerprint(dataset[1])]
    prints.append(fingerprint(ProceduralDataset(SMALL, seed=6, length=9)[0]))
    assert len(set(prints)) == 3


def test_forked_workers_yield_what_the_main_process_yields() -> None:
    dataset = ProceduralDataset(SMALL, seed=3, length=4)
    alone = [collate([dataset[0], dataset[1]]), collate([dataset[2], dataset[3]])]
    loader = DataLoader(
        dataset, batch_size=2, num_workers=2, collate_fn=collate, multiprocessing_context="fork"
    )
    for mine, theirs in zip(alone, loader, strict=True):
        assert_equal(mine, theirs)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_are_finite_and_every_pixel_sees_something(layout: str) -> None:
    settings = ProceduralSettings(
        height=32, width=48, samples_per_pixel=1, texture_size=64, layouts=(layout,)
    )
    for index in range(3):
        example = ProceduralDataset(settings, seed=2, length=3)[index]
        assert all(t.isfinite().all() for t in tensors(example))
        assert example.context_depth is not None
        assert example.target_depth is not None
        assert example.context_depth.min() > 0
        assert example.target_depth.min() > 0
        assert example.context_images.min() >= 0
        assert example.context_images.max() <= 1
        # Neither black nor blown out nor empty.
        assert 0.08 < example.target_images.mean() < 0.92
        assert example.target_images.std() > 0.01


@pytest.mark.parametrize("layout", LAYOUTS)
def test_points_of_one_view_lie_on_the_surface_seen_by_the_other(layout: str) -> None:
    settings = ProceduralSettings(**{**vars(EXACT), "layouts": (layout,)})
    example = ProceduralDataset(settings, seed=4, length=1)[0]
    assert example.context_depth is not None
    cameras = example.context_cameras
    points = world_points(cameras[0], example.context_depth[0]).reshape(-1, 3)
    place = cameras[1].project(points)
    inside = (place[:, 2] > 0) & (place[:, :2] > 0.02).all(1) & (place[:, :2] < 0.98).all(1)
    assert inside.float().mean() > 0.25
    place = place[inside]
    seen_inverse = sampled(1 / example.context_depth[1][None], place[:, :2])[0]
    error = (1 / place[:, 2] / seen_inverse - 1).abs()
    # Inverse depth is linear on planes, so bilinear values are exact but for edges and curves;
    # the rest is hidden by something nearer.
    assert (error < 2e-3).float().mean() > 0.5
    nearest_around = torch.nn.functional.max_pool2d(1 / example.context_depth[1][None], 3, 1, 1)
    in_front = 1 / place[:, 2] > sampled(nearest_around, place[:, :2])[0] * 1.02
    assert in_front.float().mean() < 0.03


def test_a_point_has_the_same_colour_in_both_views() -> None:
    checked = 0
    for index in range(6):
        rng = np.random.default_rng([9, index])
        scene = sample_scene(rng, texture_size=64)
        matte = scene.appearance.materials.copy()
        matte[:, [10, 12]] = 0.0  # neither highlights nor mirrors
        appearance = scene.appearance._replace(materials=matte)
        scene = type(scene)(scene.layout, scene.geometry, appearance, scene.eyes, scene.focus)
        cameras = sample_cameras(rng, scene, 1.5, baseline_range=(0.03, 0.2))
        if cameras is None:
            continue
        first, second = (render(scene, c, 96, 144, 9) for c in cameras.context)
        visible = covisible(first.depth, cameras.context[0], second.depth, cameras.context[1], 0.01)
        difference = colour_difference(cameras.context, first, second)[visible & ~first.is_sky]
        assert np.median(difference) < 0.08, scene.layout
        checked += 1
    assert checked >= 4


def colour_difference(cameras, first, second) -> np.ndarray:
    """Relative difference of radiance between each pixel and its place in the second view."""
    height, width = first.depth.shape
    views = [
        Cameras(
            torch.from_numpy(c.camera_to_world),
            torch.from_numpy(c.intrinsics),
            torch.ones((), dtype=torch.float64),
            torch.ones((), dtype=torch.float64),
        )
        for c in cameras
    ]
    points = world_points(views[0], torch.from_numpy(first.depth).double()).reshape(-1, 3)
    place = views[1].project(points)[:, :2]
    image = torch.from_numpy(second.radiance).double().permute(2, 0, 1)
    other = sampled(image, place).T.reshape(height, width, 3).numpy()
    return np.abs(first.radiance - other).mean(-1) / (first.radiance.mean(-1) + 0.05)


def test_near_and_far_hold_most_of_what_the_photos_see() -> None:
    shares = []
    for index in range(8):
        example = ProceduralDataset(SMALL, seed=8, length=8)[index]
        assert example.context_depth is not None
        near, far = example.context_cameras.near[0], example.context_cameras.far[0]
        assert (example.context_cameras.near == near).all()
        assert (example.target_cameras.far == far).all()
        assert 0 < near < far
        inside = (example.context_depth > near) & (example.context_depth < far)
        shares.append(inside.float().mean().item())
    # The sky lies beyond: matches never triangulate it.
    assert min(shares) > 0.4
    assert np.mean(shares) > 0.85


def test_photos_overlap_as_asked_and_baselines_fill_the_range() -> None:
    baselines = []
    for index in range(10):
        sample = make_sample(np.random.default_rng([4, index]), SMALL)
        first, second = sample.plan.cameras.context
        depths = [render_depth(sample.plan.scene, camera, 64, 96)[0] for camera in (first, second)]
        shared = covisible(depths[0], first, depths[1], second, 0.08).mean()
        assert shared > 0.33
        assert sample.plan.cameras.covisibility >= 0.4
        baselines.append(sample.plan.cameras.baseline)
    assert min(baselines) >= 0.03
    assert max(baselines) <= 0.6
    assert max(baselines) > 3 * min(baselines)


def test_targets_are_clean_and_share_the_left_photos_exposure() -> None:
    exact = ProceduralSettings(**{**vars(SMALL), "photo_effects": 0.0})
    rng_seeds = [[6, n] for n in range(3)]
    for seed in rng_seeds:
        clean = make_sample(np.random.default_rng(seed), exact)
        photo = make_sample(np.random.default_rng(seed), SMALL)
        np.testing.assert_array_equal(clean.target_images[0], photo.target_images[0])
        assert np.abs(clean.context_images[1] - photo.context_images[1]).max() > 1e-3


def test_camera_errors_stay_within_the_settings_and_spare_the_first_view() -> None:
    wrong = {**vars(EXACT), "height": 16, "width": 24}
    exact = ProceduralDataset(ProceduralSettings(**wrong), seed=1, length=3)
    wrong |= {"rotation_error_deg": 2.0, "translation_error_deg": 3.0}
    disturbed = ProceduralDataset(ProceduralSettings(**wrong), seed=1, length=3)
    largest = 0.0
    for index in range(3):
        true = exact[index].context_cameras.camera_to_world.double()
        given = disturbed[index].context_cameras.camera_to_world.double()
        torch.testing.assert_close(true[0], given[0], rtol=0, atol=0)
        difference = true[1, :3, :3].mT @ given[1, :3, :3]
        cosine = (difference.diagonal().sum() - 1) / 2
        angle = torch.rad2deg(torch.acos(cosine.clamp(-1, 1))).item()
        assert angle < 2.01
        largest = max(largest, angle)
        steps = [(pose[1, :3, 3] - pose[0, :3, 3]) for pose in (true, given)]
        cosine = torch.nn.functional.cosine_similarity(steps[0], steps[1], dim=0)
        assert torch.rad2deg(torch.acos(cosine.clamp(-1, 1))) < 3.01
    assert largest > 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 2}, "8x8"),
        ({"samples_per_pixel": 0}, "at least one"),
        ({"baseline_range": (0.5, 0.1)}, "low <= high"),
        ({"texture_size": 100}, "power of two"),
        ({"layouts": ("moon",)}, "moon"),
    ],
)
def test_settings_that_cannot_be_rendered_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProceduralSettings(**change)


def test_items_out_of_range_are_refused() -> None:
    with pytest.raises(IndexError):
        ProceduralDataset(SMALL, seed=0, length=2)[2]
