"""Photos as a lens without radial distortion would have taken them.

A point at the distance r from the axis, on the plane z = 1, is pictured at r (1 + k1 r^2 + k2 r^4)
(Brown, "Close-range camera calibration", 1971): the model of OpenCV, COLMAP's RADIAL and
nerfstudio's k1 and k2. Barrels have k1 < 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float
from torch import Tensor

from .images import Photo


@dataclass(frozen=True)
class RadialDistortion:
    """Of one lens.

    Attributes:
        k1: Coefficient of the square of the distance from the axis.
        k2: Of its fourth power.
    """

    k1: float
    k2: float = 0.0

    @staticmethod
    def of(coefficients: Sequence[float]) -> "RadialDistortion | None":
        """From k1 or from k1 and k2; None from nothing.

        Raises:
            ValueError: for more of them, or values that are not finite.
        """
        if not coefficients:
            return None
        if len(coefficients) > 2 or not np.isfinite(coefficients).all():
            raise ValueError(
                "Expected k1, or k1 and k2, of the lens as its distortion, got "
                f"{', '.join(f'{c:g}' for c in coefficients)}."
            )
        return RadialDistortion(*coefficients)

    def stretch(self, squared_radius: np.ndarray) -> np.ndarray:
        """How much farther out than without distortion points are pictured."""
        return 1 + squared_radius * (self.k1 + squared_radius * self.k2)


def undistorted(
    photo: Photo, intrinsics: Float[Tensor, "3 3"], distortion: RadialDistortion
) -> Photo:
    """The photo without distortion, of the same size and with the same intrinsics.

    What the lens did not picture, in the corners of pincushions, repeats the photo's border.

    Args:
        photo: Taken with the distortion.
        intrinsics: Normalised; their principal point is the centre of the distortion.
        distortion: Of the lens.

    Raises:
        ValueError: if the distortion would fold the photo's corners back into it.
    """
    size = np.array([[photo.width], [photo.height], [1]])
    matrix = intrinsics.double().cpu().numpy() * size
    x, y = np.meshgrid(np.arange(photo.width) + 0.5, np.arange(photo.height) + 0.5)
    plane_x, plane_y = (x - matrix[0, 2]) / matrix[0, 0], (y - matrix[1, 2]) / matrix[1, 1]
    squared = plane_x**2 + plane_y**2
    if (1 + squared * (3 * distortion.k1 + 5 * squared * distortion.k2)).min() <= 0:
        raise ValueError(
            f"A distortion of k1 = {distortion.k1:g}, k2 = {distortion.k2:g} would fold the "
            f"corners of {photo.name} with a focal length of {matrix[0, 0]:.0f} px; check both."
        )
    stretch = distortion.stretch(squared)
    # OpenCV counts pixel centres as whole numbers.
    from_x = (plane_x * stretch * matrix[0, 0] + matrix[0, 2] - 0.5).astype(np.float32)
    from_y = (plane_y * stretch * matrix[1, 1] + matrix[1, 2] - 0.5).astype(np.float32)
    pixels = cv2.remap(
        photo.pixels, from_x, from_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return replace(photo, pixels=np.ascontiguousarray(pixels))
