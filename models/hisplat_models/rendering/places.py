"""Drawing Gaussians that stay in their places while opacities, sizes and colours change.

For scenes that are fitted to pictures step by step: what places and cameras decide is computed
once, and only the gradients that are asked for are made.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..cameras import Cameras
from ..gaussians import SH_C0, Gaussians
from ._cpu_places import CpuPlaces
from .base import Renderer
from .cpu import CpuRenderer


@dataclass(frozen=True)
class Appearance:
    """What may change of Gaussians that stay in their places.

    Attributes:
        opacities: In [0, 1].
        sizes: Factors of all scales, > 0.
        colors: RGB of the constant band, unclamped; view-dependent bands stay.
    """

    opacities: Float[Tensor, "batch n"]
    sizes: Float[Tensor, "batch n"]
    colors: Float[Tensor, "batch n 3"]

    def of(self, gaussians: Gaussians) -> Gaussians:
        """The Gaussians (batch, n) with this appearance."""
        base = ((self.colors - 0.5) / SH_C0)[..., None, :]
        return replace(
            gaussians,
            opacities=self.opacities,
            scales=gaussians.scales * self.sizes[..., None],
            harmonics=torch.cat([base, gaussians.harmonics[..., 1:, :]], dim=-2),
        )


Draw = Callable[[Appearance], Float[Tensor, "batch view 3 height width"]]


def place(
    renderer: Renderer,
    gaussians: Gaussians,
    cameras: Cameras,
    image_size: tuple[int, int],
    chosen: Bool[Tensor, "n"] | None = None,
) -> Draw:
    """Colours, on black, of Gaussians in their places, with gradients to their appearance alone.

    The same pictures as the renderer's, up to rounding.

    Args:
        renderer: Whose rules hold. The CPU's keeps what it can between pictures, in 32 bytes per
            chosen Gaussian and camera (44 with view-dependent colours); others draw anew.
        gaussians: (batch, n); their appearance does not matter.
        cameras: (batch, view).
        image_size: (height, width).
        chosen: Which ones are drawn; all by default. Appearances are still of all n.
    """
    if isinstance(renderer, CpuRenderer):
        places = CpuPlaces.of(renderer.settings, gaussians, cameras, image_size, chosen)
        return lambda looks: places.color(looks.opacities, looks.sizes, looks.colors)

    def drawn(looks: Appearance) -> Tensor:
        scene = looks.of(gaussians)
        scene = scene if chosen is None else scene[:, chosen]
        return renderer(scene, cameras, image_size).color

    return drawn
