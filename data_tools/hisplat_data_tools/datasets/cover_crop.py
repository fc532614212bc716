"""Photos brought to one size as the published networks saw them in training.

The photo is resized with PIL's LANCZOS filter, keeping its proportions up to rounding, until it
just covers the wanted size, and its middle is cut out.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from ..images import CropBox


@dataclass(frozen=True)
class CoverCrop:
    """How photos of one size become pictures of another.

    Attributes:
        scaled: (height, width) after resizing.
        top: Rows cut off above.
        left: Columns cut off on the left.
        size: (height, width) of what remains.
    """

    scaled: tuple[int, int]
    top: int
    left: int
    size: tuple[int, int]

    @staticmethod
    def of(photo: tuple[int, int], size: tuple[int, int]) -> "CoverCrop":
        """The crop for photos of this (height, width)."""
        scale = max(size[0] / photo[0], size[1] / photo[1])
        # Rounding must not undo the covering.
        height = max(size[0], round(photo[0] * scale))
        width = max(size[1], round(photo[1] * scale))
        return CoverCrop((height, width), (height - size[0]) // 2, (width - size[1]) // 2, size)

    @property
    def box(self) -> CropBox:
        """Where the crop lies in the photo."""
        (height, width), (rows, columns) = self.scaled, self.size
        return CropBox(
            self.left / width,
            self.top / height,
            (self.left + columns) / width,
            (self.top + rows) / height,
        )

    def pixels(
        self, photo: UInt8[np.ndarray, "height width 3"]
    ) -> UInt8[np.ndarray, "rows columns 3"]:
        """The picture, 8-bit."""
        if photo.shape[:2] != self.scaled:
            height, width = self.scaled
            photo = np.asarray(
                Image.fromarray(photo).resize((width, height), Image.Resampling.LANCZOS)
            )
        rows, columns = self.size
        return photo[self.top : self.top + rows, self.left : self.left + columns]

    def tensor(self, photo: UInt8[np.ndarray, "height width 3"]) -> Float[Tensor, "3 rows columns"]:
        """The picture as RGB in [0, 1]."""
        pixels = np.ascontiguousarray(self.pixels(photo).transpose(2, 0, 1))
        return torch.from_numpy(pixels).float() / 255


def centred_intrinsics(
    intrinsics: Float[Tensor, "*batch 3 3"], box: CropBox
) -> Float[Tensor, "*batch 3 3"]:
    """Intrinsics of a crop as the published data loader has them: only focal lengths change.

    The principal point keeps its share of the picture, which is right for a crop whose margins are
    equal on both sides and half a pixel off where they cannot be.
    """
    change = intrinsics.new_tensor([1 / (box.right - box.left), 1 / (box.bottom - box.top), 1.0])
    scaled = intrinsics.clone()
    scaled[..., [0, 1], [0, 1]] = intrinsics[..., [0, 1], [0, 1]] * change[:2]
    return scaled
