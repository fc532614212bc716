from dataclasses import replace

import numpy as np
import torch
import viser

from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import Gaussians
from hisplat_viewer.scene import DisplayFrame, Scene
from hisplat_viewer.splats import (
    BUFFER_MULTIPLE,
    RADIUS,
    SMALLEST_SIGMA,
    LevelSplats,
    drawn,
    drawn_within,
)


def cameras_of(scene: Scene) -> Cameras:
    assert scene.cameras is not None
    return scene.cameras


class Unpacked:
    """What rows say."""

    def __init__(self, rows: np.ndarray) -> None:
        self.centers = rows[:, :3].copy().view(np.float32)
        halves = rows[:, 4:7].copy().view(np.float16).astype(np.float64)
        self.covariances = halves[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3)
        rgba = rows[:, 7:].copy().view(np.uint8)
        self.rgbs, self.alpha = rgba[:, :3], rgba[:, 3]


def everything(level: LevelSplats, scale: float = 1.0, points: bool = False) -> Unpacked:
    return Unpacked(level.rows(np.zeros((len(level.indices), 3), np.uint8), scale, points))


def test_rows_are_packed_as_viser_packs_them(scene: Scene):
    level = LevelSplats.of(scene, DisplayFrame.of(scene))[1]
    rng = np.random.default_rng(0)
    rows = level.rows(rng.integers(0, 256, (len(level.indices), 3), dtype=np.uint8))
    unpacked = Unpacked(rows)
    server = viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
    try:
        handle = server.scene.add_gaussian_splats(
            "/splats",
            unpacked.centers,
            unpacked.covariances,
            unpacked.rgbs,
            scene.gaussians.opacities.numpy()[level.indices, None],
        )
        np.testing.assert_array_equal(handle.buffer, rows)
    finally:
        server.stop()


def test_every_level_is_drawn_with_a_multiple_of_four_splats(scene: Scene):
    levels = LevelSplats.of(scene, DisplayFrame.of(scene))
    assert list(levels) == [0, 1, 2]
    for level, ready in levels.items():
        count = int((scene.gaussians.level == level).sum())
        rows = ready.rows(np.zeros((count, 3), np.uint8))
        alpha = Unpacked(drawn(rows, np.ones(count, bool))).alpha
        assert len(alpha) % BUFFER_MULTIPLE == 0
        assert 0 <= len(alpha) - count < BUFFER_MULTIPLE
        assert (alpha[:count] > 0).all()
        assert (alpha[count:] == 0).all()


def test_levels_without_anything_to_see_are_left_out(scene: Scene):
    faint = torch.where(scene.gaussians.level == 1, 0.001, scene.gaussians.opacities)
    scene = replace(scene, gaussians=replace(scene.gaussians, opacities=faint))
    assert list(LevelSplats.of(scene, DisplayFrame.of(scene))) == [0, 2]


def test_covariances_survive_half_precision(scene: Scene):
    means = scene.gaussians.means.clone()
    left = cameras_of(scene).camera_to_world[0]
    means[0] = left[:3, 3] + 1e6 * left[:3, 2]
    scales = scene.gaussians.scales.clone()
    scales[0], scales[1] = 1e6, 1e-9
    scene = replace(scene, gaussians=replace(scene.gaussians, means=means, scales=scales))
    for ready in LevelSplats.of(scene, DisplayFrame.of(scene)).values():
        splats = everything(ready)
        assert np.isfinite(splats.covariances).all()
        assert (np.linalg.eigvalsh(splats.covariances) > 0).all()
        assert np.linalg.norm(splats.centers, axis=1).max() <= RADIUS * 1.001


def test_pulling_in_outliers_keeps_the_view_from_the_origin():
    gaussians = Gaussians(
        means=torch.tensor([[3.0, 0, 4.0], [0, 0, 1000.0]]),
        scales=torch.tensor([[0.5, 0.5, 0.5], [20.0, 10.0, 1e-9]]),
        quaternions_wxyz=torch.tensor([[1.0, 0, 0, 0]] * 2),
        opacities=torch.tensor([0.5, 0.5]),
        harmonics=torch.zeros(2, 1, 3),
        level=torch.zeros(2, dtype=torch.long),
    )
    drawn = drawn_within(gaussians, RADIUS)
    torch.testing.assert_close(drawn.means, torch.tensor([[3.0, 0, 4.0], [0, 0, RADIUS]]))
    torch.testing.assert_close(drawn.scales[0], gaussians.scales[0])
    expected = torch.tensor([20.0, 10.0, 0]) * RADIUS / 1000
    torch.testing.assert_close(drawn.scales[1], expected.clamp_min(SMALLEST_SIGMA))


def test_only_what_is_kept_is_drawn_in_its_colour(scene: Scene):
    level = LevelSplats.of(scene, DisplayFrame.of(scene))[1]
    count = len(level.indices)
    keep = np.arange(count) % 3 == 0
    colors = np.random.default_rng(0).integers(0, 256, (count, 3), dtype=np.uint8)
    splats = Unpacked(drawn(level.rows(colors), keep))
    kept = int(keep.sum())
    np.testing.assert_array_equal(splats.centers[:kept], level.centers[keep])
    np.testing.assert_array_equal(splats.rgbs[:kept], colors[keep])


def test_scale_widens_all_but_the_pixel_of_the_photo(scene: Scene):
    level = LevelSplats.of(scene, DisplayFrame.of(scene))[2]
    once, twice = everything(level), everything(level, scale=2.0)
    nothing = everything(level, scale=1e-6)
    np.testing.assert_allclose(
        twice.covariances - nothing.covariances,
        4 * (once.covariances - nothing.covariances),
        rtol=2e-2,
        atol=1e-4,
    )
    assert (np.linalg.eigvalsh(nothing.covariances) > 0).all()


def test_points_are_small_round_and_opaque(scene: Scene):
    level = LevelSplats.of(scene, DisplayFrame.of(scene))[0]
    points, whole = everything(level, points=True), everything(level)
    sides = np.linalg.eigvalsh(points.covariances)
    np.testing.assert_allclose(sides[:, 0], sides[:, 2], rtol=1e-4)
    assert (points.alpha == 255).all()
    assert np.median(sides[:, 2]) < np.median(np.linalg.eigvalsh(whole.covariances)[:, 2])


def test_making_splats_leaves_the_level_as_it_was(scene: Scene):
    level = LevelSplats.of(scene, DisplayFrame.of(scene))[0]
    before = level.covariances.copy()
    everything(level, scale=3.0)
    np.testing.assert_array_equal(level.covariances, before)
