"""The dome around each scene: where rays meet it, and its clouds; as ``render`` has it."""

from jaxtyping import Float32
from torch import Tensor

from ..render import CLOUD_HEIGHT, SKY_CENTRE, SKY_RADIUS, SKY_REPEATS, SKY_TEXTURE
from .scenes import SceneBatch
from .surfaces import lookup


def dome_distance(
    sky: Float32[Tensor, "n 12"],
    origins: Float32[Tensor, "3 n"],
    directions: Float32[Tensor, "3 n"],
) -> Float32[Tensor, " n"]:
    """Ray parameters where rays from inside the dome meet it."""
    place = origins - sky[:, SKY_CENTRE : SKY_CENTRE + 3].T
    a = (directions * directions).sum(dim=0)
    b = (place * directions).sum(dim=0)
    c = (place * place).sum(dim=0) - sky[:, SKY_RADIUS] ** 2
    return (-b + (b * b - a * c).clamp(min=0).sqrt()) / a


def dome_colour(
    scenes: SceneBatch,
    sky: Float32[Tensor, "n 12"],
    origins: Float32[Tensor, "3 n"],
    directions: Float32[Tensor, "3 n"],
    spread: Float32[Tensor, " n"],
) -> Float32[Tensor, "n 3"]:
    """Linear colours of the sky where rays meet the dome."""
    t = dome_distance(sky, origins, directions)
    x, y, z = (origins + t * directions - sky[:, SKY_CENTRE : SKY_CENTRE + 3].T) / sky[
        :, SKY_RADIUS
    ]
    # Looking up to a flat layer of clouds avoids the poles of a spherical map.
    stretch = sky[:, SKY_REPEATS] / (2 * (z.abs() + CLOUD_HEIGHT))
    texture = sky[:, SKY_TEXTURE].long()
    colour = lookup(scenes, texture, x * stretch, y * stretch, spread * stretch)
    return colour * colour
