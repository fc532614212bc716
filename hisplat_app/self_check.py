"""What a scene and its photos tell about its quality, with no other photo to compare with."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hisplat_data_tools.photo_condition import PhotoCondition
from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import Gaussians
from hisplat_models.matching import EVIDENCE_NAMES
from hisplat_models.metrics import gain_corrected_psnr
from hisplat_models.network import HiSplatOutput
from hisplat_models.prior_maps import PriorMaps
from hisplat_models.rendering.base import Renderer

from .texture import LEAST_TEXTURE, gray_pixels, rgb_pixels, texture

HIGHEST_PSNR = 50.0
"""Where a view from the other photos is perfect, as on made-up scenes."""


@dataclass(frozen=True)
class Signs:
    """Signs of a scene's quality.

    Attributes:
        cross_psnr: Gain-corrected PSNR of each photo's view drawn from the other photos' Gaussians
            alone, over the part that they cover; dB, mean over photos. It flatters a little: where
            depths agree, the small preset's Gaussians have the mean colour of all photos.
        overlap: Share of a photo's view that the other photos' fine Gaussians cover.
        agreed: Share of pixels on whose depth two photos agree; None where photos aren't matched.
        unexplained: Of the textured pixels that another photo should show too, by the depth they
            were given, the share on whose depth the photos do not agree all the same; None where
            photos aren't matched.
        mismatch: The matcher's cost at the depths that were given, mean over pixels, in [0, 1]:
            high where photos differ, and where they are too blurred or even to tell depths apart;
            None where photos aren't matched.
        parallax_deg: Median angle between the rays of two photos to a point of the surface.
        texture: Share of pixels with enough texture to be matched.
        faults: What is wrong with each photo itself, see ``photo_condition``; None if nothing.
    """

    cross_psnr: float
    overlap: float
    agreed: float | None
    unexplained: float | None
    mismatch: float | None
    parallax_deg: float
    texture: float
    faults: tuple[str | None, ...]


def signs_of(
    output: HiSplatOutput,
    images: Float[Tensor, "photo 3 height width"],
    cameras: Cameras,
    renderer: Renderer,
) -> Signs:
    """The signs of one scene; cameras of shape (photo,) as the network got them."""
    size = (images.shape[-2], images.shape[-1])
    psnrs, shares = [], []
    for photo in range(len(images)):
        here = cameras[photo : photo + 1]
        others = _of_other_photos(output, photo, len(images))
        drawn = renderer(others[None], here[None], size)
        finest = others[others.level == others.level.max()]
        covered = renderer(finest[None], here[None], size).alpha[0, 0].cpu() > 0.5
        shares.append(covered.float().mean().item())
        if covered.any():
            color = drawn.color[0, 0].clamp(0, 1).cpu()
            psnrs.append(gain_corrected_psnr(color, images[photo].cpu(), covered).item())
    textured = torch.stack([_textured(image) for image in images])
    return Signs(
        cross_psnr=min(sum(psnrs) / len(psnrs), HIGHEST_PSNR) if psnrs else 0.0,
        overlap=sum(shares) / len(shares),
        agreed=_agreed_share(output),
        unexplained=_unexplained_share(output, textured),
        mismatch=None
        if output.prior is None
        else _evidence(output.prior, "mismatch").mean().item(),
        parallax_deg=_parallax_deg(output, cameras, len(images)),
        texture=textured.float().mean().item(),
        faults=tuple(PhotoCondition.of(rgb_pixels(image)).fault for image in images),
    )


def _agreed_share(output: HiSplatOutput) -> float | None:
    """Share of pixels with a depth on which two photos agree; None without a matching prior."""
    if output.prior is None:
        return None
    return _evidence(output.prior, "trusted").mean().item()


def _unexplained_share(
    output: HiSplatOutput, textured: Bool[Tensor, "photo height width"]
) -> float | None:
    """See ``Signs.unexplained``."""
    if output.prior is None:
        return None
    inside, hidden, agreed = (
        _evidence(output.prior, name) > 0.5 for name in ("inside", "occluded", "trusted")
    )
    is_shown = inside & ~hidden & textured
    return ((is_shown & ~agreed).sum() / is_shown.sum().clamp_min(1)).item()


def _evidence(prior: PriorMaps, name: str) -> Float[Tensor, "photo height width"]:
    """What the matcher knows at the finest stage, on the CPU."""
    return prior.stages[-1].evidence[0, :, EVIDENCE_NAMES.index(name)].cpu()


def _of_other_photos(output: HiSplatOutput, photo: int, photos: int) -> Gaussians:
    """The Gaussians that stand for pixels of all photos but one."""
    # Each stage holds its photos one after the other.
    own = torch.cat(
        [
            torch.arange(photos).repeat_interleave(stage.gaussians.count // photos)
            for stage in output.stages
        ]
    )
    return output.gaussians[0][(own != photo).to(output.gaussians.means.device)]


def _parallax_deg(output: HiSplatOutput, cameras: Cameras, photos: int) -> float:
    """Median over the finest Gaussians of the angle between rays of a photo and its nearest one."""
    surfaces = output.stages[-1].gaussians.means[0].view(photos, -1, 3)
    angles = []
    for photo in range(photos):
        distances = (cameras.positions - cameras.positions[photo]).norm(dim=-1)
        distances[photo] = math.inf
        nearest = int(distances.argmin())
        rays = [
            torch.nn.functional.normalize(surfaces[photo] - cameras.positions[p], dim=-1)
            for p in (photo, nearest)
        ]
        chords = (rays[0] - rays[1]).norm(dim=-1)
        angles.append(2 * torch.asin((chords / 2).clamp(max=1)))
    return math.degrees(torch.cat(angles).median().item())


def _textured(image: Float[Tensor, "3 height width"]) -> Bool[Tensor, "height width"]:
    return torch.from_numpy(texture(gray_pixels(image)) > LEAST_TEXTURE)
