"""How deep a pair's scene is, from its triangulated matches under known cameras."""

from jaxtyping import Float
from torch import Tensor

from hisplat_data_tools.datasets import StereoFolder
from hisplat_data_tools.known_cameras import scene_range_from_known_cameras
from hisplat_data_tools.two_view import TwoViewError
from hisplat_models.cameras import Cameras

from .sgbm import to_bytes


def median_depth(images: Float[Tensor, "2 3 height width"], cameras: Cameras) -> float:
    """Middle z-depth of the matches that fit the cameras, over both views.

    Where too few do, it is the harmonic middle of the cameras' stated range.
    """
    left, right = to_bytes(images)
    try:
        return scene_range_from_known_cameras(left, right, cameras).median_depth
    except TwoViewError:
        middle = 0.5 * (1.0 / cameras.near + 1.0 / cameras.far)
        return float((1.0 / middle).mean())


def disparity_range(pair: StereoFolder) -> tuple[float, float]:
    """Lowest and highest disparity to search, pixels of the stored photos, with a margin.

    Raises:
        ValueError: if the photos have too few matches to tell.
    """
    left, right = to_bytes(pair.images)
    try:
        # The cameras' own range is not looked at.
        found = scene_range_from_known_cameras(left, right, pair.cameras(1.0, 2.0))
    except TwoViewError as error:
        raise ValueError(
            f"The stereo pair {pair.name} has no range of disparity: {error}"
        ) from error
    reach = pair.focal_px * pair.baseline
    return reach / found.far - pair.offset_px, reach / found.near - pair.offset_px
