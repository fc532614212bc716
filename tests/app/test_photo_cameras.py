from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import hisplat_app
from hisplat_app.photo_cameras import PhotoCameras, Photos, find_photo_cameras
from hisplat_data_tools.cameras_json import ImageCamera, read_cameras
from hisplat_data_tools.images import Photo, load_photo

DEMO = Path(hisplat_app.__file__).parent / "demo"
CUT_PX = 120
"""So much is cut off the lower side of both photos, so that the lens's axis is off the middle."""


def cut(photo: Photo) -> Photo:
    pixels = np.ascontiguousarray(photo.pixels[:-CUT_PX])
    size = pixels.shape[0], pixels.shape[1]
    return replace(photo, pixels=pixels, original_size=size, stored_size=size)


@pytest.fixture(scope="module")
def photos() -> Photos:
    return cut(load_photo(DEMO / "left.jpg")), cut(load_photo(DEMO / "right.jpg"))


@pytest.fixture(scope="module")
def views() -> tuple[ImageCamera, ImageCamera]:
    file = read_cameras(DEMO / "cameras.json")
    return file.find("left.jpg"), file.find("right.jpg")


def turn_error_deg(found: PhotoCameras, views: tuple[ImageCamera, ImageCamera]) -> float:
    stated = (np.linalg.inv(views[0].camera_to_world) @ views[1].camera_to_world)[:3, :3]
    turn = found.cameras.camera_to_world[1, :3, :3].double().numpy()
    return float(np.rad2deg(2 * np.arcsin(np.linalg.norm(turn.T @ stated - np.eye(3)) / 8**0.5)))


def test_principal_point_makes_cameras_of_cut_photos_right(
    photos: Photos, views: tuple[ImageCamera, ImageCamera]
) -> None:
    focal, centre = views[0].fx, (views[0].cx, views[0].cy)
    with_it = find_photo_cameras(photos, focal_px=focal, principal_point=centre)
    without = find_photo_cameras(photos, focal_px=focal)
    assert turn_error_deg(with_it, views) < 0.5 * turn_error_deg(without, views)
    assert with_it.image_cameras[0].cy == pytest.approx(centre[1], abs=1e-3)
    assert without.image_cameras[0].cy == pytest.approx(photos[0].height / 2)


def test_known_intrinsics_are_kept_and_named(
    photos: Photos, views: tuple[ImageCamera, ImageCamera]
) -> None:
    width, height = photos[0].width, photos[0].height
    pixels = [[view.fx, view.fy, view.cx, view.cy] for view in views]
    known = [
        torch.tensor([[fx / width, 0, cx / width], [0, fy / height, cy / height], [0, 0, 1]])
        for fx, fy, cx, cy in pixels
    ]
    found = find_photo_cameras(photos, intrinsics=known)
    torch.testing.assert_close(found.cameras.intrinsics, torch.stack(known))
    assert turn_error_deg(found, views) < 0.1
    assert found.source == "estimated from the photos, with the given intrinsics"
    assert found.warnings == ()


@pytest.mark.parametrize("point", [(-1.0, 10.0), (10.0, 1e4), (float("nan"), 10.0)])
def test_principal_point_out_of_the_photo_is_refused(
    photos: Photos, point: tuple[float, float]
) -> None:
    with pytest.raises(ValueError, match=r"Expected a principal point in left\.jpg"):
        find_photo_cameras(photos, focal_px=500.0, principal_point=point)


def test_lens_beside_cameras_that_have_one_is_refused(photos: Photos) -> None:
    with pytest.raises(ValueError, match="Given cameras have focal lengths and principal points"):
        find_photo_cameras(photos, DEMO / "cameras.json", principal_point=(10.0, 10.0))
    known = [torch.eye(3), torch.eye(3)]
    with pytest.raises(ValueError, match="Given intrinsics have focal lengths"):
        find_photo_cameras(photos, focal_px=500.0, intrinsics=known)
