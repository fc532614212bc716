import numpy as np
import pytest
import torch

from hisplat_data_tools.multi_view import estimate_multi_view
from hisplat_data_tools.two_view import MEDIAN_DEPTH, TwoViewError
from tests.data_tools.test_two_view import INTRINSICS, STILL, photo, rotation, texture

PLACES = [
    (np.eye(3), [0.0, 0.0, 0.0]),
    (rotation(1, -5), [0.6, 0.1, 0.05]),
    (rotation(-3, 4, 5), [-0.4, 0.4, -0.1]),
    (rotation(0, -8), [1.1, 0.0, 0.2]),
]


def photos_from(places: list[tuple[np.ndarray, list[float]]]) -> list[np.ndarray]:
    return [photo(turn, np.array(position)) for turn, position in places]


def names(count: int) -> list[str]:
    return [f"{i}.jpg" for i in range(count)]


@pytest.mark.parametrize("count", [3, 4])
@pytest.mark.parametrize(("assumed", "uncertainty"), [(1.0, 0.0), (1.2, 0.2)])
def test_cameras_of_rendered_planes_are_found(
    count: int, assumed: float, uncertainty: float
) -> None:
    places = PLACES[:count]
    intrinsics = INTRINSICS * torch.tensor([[assumed, 1, 1], [1, assumed, 1], [1, 1, 1]])
    estimate = estimate_multi_view(
        photos_from(places), [intrinsics] * count, names(count), uncertainty
    )
    cameras = estimate.cameras
    assert torch.allclose(cameras.camera_to_world[0], torch.eye(4), atol=1e-6)
    assert torch.allclose(cameras.intrinsics, INTRINSICS.expand(count, 3, 3), rtol=0.03)
    found = cameras.positions.numpy()[1:]
    expected = np.array([position for _, position in places[1:]])
    scale = np.linalg.norm(expected) / np.linalg.norm(found)
    assert np.allclose(found * scale, expected, atol=0.05)
    for camera, (turn, _) in zip(cameras.camera_to_world.numpy(), places, strict=True):
        cosine = (np.trace(camera[:3, :3].T @ turn) - 1) / 2
        assert np.rad2deg(np.arccos(np.clip(cosine, -1, 1))) < 0.5
    assert estimate.median_error_px < 0.5
    assert (cameras.near < MEDIAN_DEPTH).all()
    assert (cameras.far > MEDIAN_DEPTH).all()


def test_order_of_the_photos_does_not_matter_to_their_places() -> None:
    photos = photos_from(PLACES[:3])
    forth = estimate_multi_view(photos, [INTRINSICS] * 3, names(3)).cameras
    back = estimate_multi_view(photos[::-1], [INTRINSICS] * 3, names(3)).cameras
    # Distances between cameras don't depend on which one is the world, but for the scale.
    ratios = torch.pdist(forth.positions) / torch.pdist(back.positions.flip(0))
    assert torch.allclose(ratios, ratios.mean().expand(3), rtol=0.03)


def test_a_photo_of_another_place_is_named() -> None:
    other = texture(7)[:300, :400]
    photos = [*photos_from(PLACES[:2]), np.ascontiguousarray(other)]
    with pytest.raises(TwoViewError, match=r"other\.jpg shows too little"):
        estimate_multi_view(photos, [INTRINSICS] * 3, ["a.jpg", "b.jpg", "other.jpg"])


def test_photos_of_nothing_in_common_are_refused() -> None:
    photos = [np.ascontiguousarray(texture(seed)[:300, :400]) for seed in (5, 6, 7)]
    with pytest.raises(TwoViewError, match="No two of the photos"):
        estimate_multi_view(photos, [INTRINSICS] * 3, names(3))


def test_two_photos_are_not_many() -> None:
    with pytest.raises(ValueError, match="three photos or more"):
        estimate_multi_view([STILL, STILL], [INTRINSICS] * 2, names(2))
