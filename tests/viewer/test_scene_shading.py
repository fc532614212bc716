from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from hisplat_models.gaussian_filters import Filters, kept
from hisplat_models.gaussians import quaternions_to_matrices
from hisplat_viewer.crop_gizmo import crop_box
from hisplat_viewer.photo_errors import BEST_PSNR, PhotoErrors
from hisplat_viewer.photo_overlay import DISTANCE, placed
from hisplat_viewer.scene import DisplayFrame, Scene
from hisplat_viewer.shading import (
    UNKNOWN_COLOR,
    depth_colors,
    error_colors,
    mapped,
    seen_colors,
    shaded,
    shades_of,
)


def errors(scene: Scene) -> PhotoErrors:
    assert scene.cameras is not None
    assert scene.photos is not None
    assert scene.renderer is not None
    return PhotoErrors.between(scene.gaussians, scene.cameras, scene.photos, scene.renderer)


def test_every_shade_gives_every_gaussian_a_colour(scene: Scene):
    frame = DisplayFrame.of(scene)
    shades = shades_of(scene)
    assert shades == ("color", "depth", "opacity", "confidence", "level", "error")
    pictures = [shaded(scene, frame, shade, errors(scene)) for shade in shades]
    for picture in pictures:
        assert picture.shape == (scene.gaussians.count, 3)
        assert len(np.unique(picture, axis=0)) > 1
    for i, picture in enumerate(pictures):
        assert all((picture != other).any() for other in pictures[:i])


def test_what_nobody_knows_is_not_offered(scene: Scene):
    bare = Scene(scene.gaussians.only_level(2), None, None, "from a file")
    assert shades_of(bare) == ("color", "depth", "opacity")
    assert "error" not in shades_of(replace(scene, renderer=None))


def test_colours_depend_on_the_direction_they_are_seen_from(scene: Scene):
    gaussians = scene.gaussians
    bands = torch.zeros(gaussians.count, 4, 3)
    bands[:, :1] = gaussians.harmonics
    plain = replace(scene, gaussians=replace(gaussians, harmonics=bands))
    frame = DisplayFrame.of(scene)
    torch.testing.assert_close(seen_colors(plain, frame), seen_colors(scene, frame))
    bands = bands.clone()
    bands[:, 1:] = 0.3
    turned = replace(scene, gaussians=replace(gaussians, harmonics=bands))
    assert (seen_colors(turned, frame) - seen_colors(scene, frame)).abs().max() > 0.05


def test_near_is_red_and_far_is_blue():
    colors = depth_colors(np.array([1.0, 2.0, 3.0, 50.0, -4.0]))
    red, blue = colors[:, 0].astype(int), colors[:, 2].astype(int)
    assert red[0] > blue[0]
    assert blue[3] > red[3]
    np.testing.assert_array_equal(colors[4], colors[0])


def test_colour_maps_are_rgb():
    assert mapped(np.array([0.0]), cv2.COLORMAP_JET)[0].tolist() == [0, 0, 128]


def test_photos_that_are_the_renders_have_no_error(scene: Scene):
    same = replace(scene, photos=errors(scene).renders)
    assert errors(same).psnr(0) == BEST_PSNR
    assert errors(same).maps.max() == 0
    assert np.nanmax(errors(same).of_gaussians(scene.gaussians)) == 0


def test_psnr_is_that_of_the_mean_square(scene: Scene):
    off = replace(scene, photos=(errors(scene).renders - 0.1).clamp(0, 1))
    assert scene.photos is not None
    mse = (errors(off).renders[1] - off.photos[1]).square().mean().item()  # pyright: ignore[reportOptionalSubscript]
    assert errors(off).psnr(1) == pytest.approx(-10 * np.log10(mse), abs=1e-3)


def test_error_of_a_gaussian_is_that_of_its_pixel(scene: Scene):
    """Where only one photo is wrong, only what it sees is wrong; what no photo sees is unknown."""
    renders = errors(scene).renders.clone()
    renders[1, :, :, :] = 0.0
    half_wrong = errors(replace(scene, photos=renders))
    error = half_wrong.of_gaussians(scene.gaussians)
    assert scene.cameras is not None
    in_frame = []
    for i in range(2):
        xyz = scene.cameras[i].project(scene.gaussians.means)
        inside = ((xyz[:, :2] >= 0) & (xyz[:, :2] < 1)).all(dim=-1) & (xyz[:, 2] > 0)
        in_frame.append(inside.numpy())
    assert np.isnan(error[~in_frame[0] & ~in_frame[1]]).all()
    only_left = ~np.isnan(error) & ~in_frame[1]
    assert (error[only_left] == 0).all()
    assert np.nanmax(error) > 0.05


def test_unknown_errors_are_gray():
    colors = error_colors(np.array([0.0, np.nan, 1.0]))
    assert tuple(colors[1]) == UNKNOWN_COLOR
    assert colors[0].sum() < colors[2].sum()


@pytest.mark.parametrize("share", [1.0, 0.4])
def test_overlay_lies_on_the_rays_of_its_pixels(scene: Scene, share: float):
    assert scene.cameras is not None
    intrinsics = scene.cameras.intrinsics.clone()
    intrinsics[:, 0, 2], intrinsics[:, 1, 2] = 0.4, 0.55  # off the middle
    cameras = replace(scene.cameras, intrinsics=intrinsics)
    frame = DisplayFrame.of(scene)
    pose = frame.poses(cameras)[1]
    center, width, height = placed(pose, share)
    axes = quaternions_to_matrices(torch.tensor(pose.wxyz)).numpy()
    corners = [
        center + x * width / 2 * axes[:, 0] + y * height / 2 * axes[:, 1]
        for x, y in ((-1, -1), (1, 1))
    ]
    moved = cameras.transformed(frame.world_to_view).scaled(frame.scale)[1]
    seen = moved.project(torch.tensor(np.stack(corners), dtype=torch.float32)).numpy()
    expected = [[0, 0, DISTANCE], [share, 1, DISTANCE]]
    np.testing.assert_allclose(seen, expected, atol=2e-3)


def test_box_in_the_page_keeps_what_it_shows(scene: Scene):
    frame = DisplayFrame.of(scene)
    wxyz = torch.nn.functional.normalize(torch.tensor([0.9, 0.1, -0.3, 0.2]), dim=0)
    position, size = np.array([0.5, -0.2, 10.0]), np.array([4.0, 6.0, 5.0])
    box = crop_box(position, wxyz.numpy().astype(np.float64), size, frame)
    inside = kept(scene.gaussians, Filters(box=box))
    shown = frame.points(scene.gaussians.means) - torch.tensor(position, dtype=torch.float32)
    local = shown @ quaternions_to_matrices(wxyz)
    expected = (local.abs() <= torch.tensor(size / 2)).all(dim=-1)
    assert torch.equal(inside, expected)
    assert 0 < inside.sum() < scene.gaussians.count
