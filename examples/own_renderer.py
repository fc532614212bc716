"""A renderer of one's own: anything called like ``hisplat_models.rendering.Renderer``.

This one draws at a multiple of the size with another renderer and averages, which smooths edges.
It is handed to the network, which then sees its own errors through it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from hisplat_models.cameras import Cameras
from hisplat_models.config import PRESETS
from hisplat_models.gaussians import Gaussians
from hisplat_models.network import HiSplat
from hisplat_models.rendering import CpuRenderer, Renderer, Rendering


@dataclass(frozen=True)
class Supersampled:
    """Pictures averaged from larger ones.

    Attributes:
        renderer: Draws the larger pictures.
        factor: How much larger their sides are.
    """

    renderer: Renderer
    factor: int = 2

    def __call__(
        self,
        gaussians: Gaussians,
        cameras: Cameras,
        image_size: tuple[int, int],
        background: Float[Tensor, "3"] | None = None,
    ) -> Rendering:
        """Renders at ``image_size`` = (height, width)."""
        height, width = (self.factor * side for side in image_size)
        large = self.renderer(gaussians, cameras, (height, width), background)
        return Rendering(
            color=avg_pool2d(large.color.flatten(0, 1), self.factor).unflatten(
                0, large.color.shape[:2]
            ),
            depth=avg_pool2d(large.depth, self.factor),
            alpha=avg_pool2d(large.alpha, self.factor),
        )


def main() -> None:
    """Runs the untrained network on noise with this renderer."""
    network = HiSplat(PRESETS["hisplat-small"], renderer=Supersampled(CpuRenderer()))
    pose = torch.eye(4).repeat(1, 2, 1, 1)
    pose[0, 1, 0, 3] = 0.2
    intrinsics = torch.tensor([[1.0, 0, 0.5], [0, 1.0, 0.5], [0, 0, 1.0]]).expand(1, 2, 3, 3)
    cameras = Cameras(pose, intrinsics, torch.full((1, 2), 1.0), torch.full((1, 2), 10.0))
    with torch.no_grad():
        output = network(torch.rand(1, 2, 3, 64, 64), cameras)
    print(output.gaussians.count, "Gaussians")


if __name__ == "__main__":
    main()
