"""What every renderer takes and gives."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ..cameras import Cameras
from ..gaussians import Gaussians


@dataclass(frozen=True)
class Rendering:
    """Images of Gaussians seen by cameras.

    Attributes:
        color: RGB over the background, not clamped above 1.
        depth: Sum of blending weight times z-depth, world units (not divided by alpha).
        alpha: Sum of blending weights, in [0, 1].
    """

    color: Float[Tensor, "batch view 3 height width"]
    depth: Float[Tensor, "batch view height width"]
    alpha: Float[Tensor, "batch view height width"]

    def expected_depth(self) -> Float[Tensor, "batch view height width"]:
        """Mean z-depth of what each pixel shows, 0 where it shows nothing."""
        return torch.where(self.alpha > 1e-6, self.depth / self.alpha.clamp_min(1e-6), 0.0)


@runtime_checkable
class Renderer(Protocol):
    """Draws batched Gaussians (batch, n, ...) into batched cameras (batch, view).

    Differentiable with respect to every floating-point field of ``gaussians`` and to
    ``cameras.camera_to_world``. Raises ValueError for NaN or infinite parameters.
    """

    def __call__(
        self,
        gaussians: Gaussians,
        cameras: Cameras,
        image_size: tuple[int, int],
        background: Float[Tensor, "3"] | None = None,
    ) -> Rendering:
        """Renders at ``image_size`` = (height, width); ``background`` is black by default."""
        ...
