"""Photos of rendered light on the device: exposure, vignetting, blur, noise and JPEG.

The same faults, in the same order, as ``photo_effects`` gives them. Chance has decided everything
beforehand, grain included, so that a photo does not depend on the device but for rounding; JPEG is
``jpeg.through_jpeg``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn.functional import pad

from ..photo_effects import DARK_NOISE, MEDIAN_SHARE, SHOULDER, SHOULDER_WIDTH, Faults
from ..plans import Shots
from .jpeg import through_jpeg

Pictures = Float32[Tensor, "picture height width 3"]


@dataclass(frozen=True)
class ShotBatch:
    """How the photos of many samples are taken.

    Attributes:
        brightness: What the light of each sample's first photo is brought to.
        tints: Factor per channel of each photo's exposure.
        base_tints: Those of the clean pictures.
        vignetting: Of each photo, all samples' first to last: share of light lost in the corners.
        strengths: Exponents of the vignetting.
        blur_px: Standard deviations; 0 for none.
        noise: Standard deviations at brightness 1 - ``DARK_NOISE``.
        grain: Standard normal; one all-black pixel if no photo has any.
        jpeg_qualities: In percent; 0 without JPEG.
    """

    brightness: Float32[Tensor, " sample"]
    tints: Float32[Tensor, "sample view 3"]
    base_tints: Float32[Tensor, "sample 3"]
    vignetting: Float32[Tensor, " picture"]
    strengths: Float32[Tensor, " picture"]
    blur_px: Float32[Tensor, " picture"]
    noise: Float32[Tensor, " picture"]
    grain: Float32[Tensor, "picture height width 3"]
    jpeg_qualities: Float32[Tensor, " picture"]

    @classmethod
    def of(cls, shots: Sequence[Shots]) -> "ShotBatch":
        """The photos of several samples, which have the same number and size of them."""
        clean = Faults(0.0, 1.0, 0.0, 0.0, np.zeros((1, 1, 3), np.float32), None)
        faults = [one or clean for shot in shots for one in shot.faults]
        base = np.stack([shot.metering.tint for shot in shots])
        return cls(
            brightness=_floats([shot.metering.brightness for shot in shots]),
            tints=_floats(base[:, None] * np.array([shot.tints for shot in shots])),
            base_tints=_floats(base),
            vignetting=_floats([one.vignetting for one in faults]),
            strengths=_floats([one.strength for one in faults]),
            blur_px=_floats([one.blur_px for one in faults]),
            noise=_floats([one.noise for one in faults]),
            grain=torch.from_numpy(np.stack([one.grain for one in faults])),
            jpeg_qualities=_floats([float(one.jpeg_quality or 0) for one in faults]),
        )

    def to(self, device: torch.device) -> "ShotBatch":
        """The same on another device."""
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)}
        return ShotBatch(**moved)

    def pin_memory(self) -> "ShotBatch":
        """The same in memory that a GPU reads by itself; data loaders call it by this name."""
        return ShotBatch(**{f.name: getattr(self, f.name).pin_memory() for f in fields(self)})


def _floats(values: Sequence[float] | np.ndarray) -> Float32[Tensor, "..."]:
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def take(
    shots: ShotBatch,
    context: Float32[Tensor, "sample view height width 3"],
    target: Float32[Tensor, "sample target height width 3"],
) -> tuple[
    Float32[Tensor, "sample view height width 3"], Float32[Tensor, "sample target height width 3"]
]:
    """Photos of the context views' light, and clean pictures of the target views'.

    Both in sRGB within [0, 1]; the clean ones have the first photo's exposure.
    """
    gains = shots.brightness / _level(context[:, 0]).clamp(min=1e-4)
    exposures = gains[:, None, None] * shots.tints
    photos = _photographs(context.flatten(0, 1), exposures.flatten(0, 1), shots)
    clean = develop(target, (gains[:, None] * shots.base_tints)[:, None, None, None])
    return photos.unflatten(0, context.shape[:2]), clean


def _level(light: Pictures) -> Float32[Tensor, " picture"]:
    """What a meter reads: between the median and the mean."""
    values = light.flatten(1)
    count = values.shape[1]
    ordered = values.sort(dim=1).values
    median = 0.5 * (ordered[:, (count - 1) // 2] + ordered[:, count // 2])
    return median * MEDIAN_SHARE + values.mean(dim=1) * (1 - MEDIAN_SHARE)


def develop(
    light: Float32[Tensor, "*picture height width 3"], gains: Float32[Tensor, "..."]
) -> Float32[Tensor, "*picture height width 3"]:
    """See ``photo_effects.develop``."""
    light = light * gains
    rolled = SHOULDER + (1 - SHOULDER) * torch.tanh((light - SHOULDER) / SHOULDER_WIDTH)
    light = torch.where(light > SHOULDER, rolled, light)
    curve = 1.055 * light.clamp(min=1e-8) ** (1 / 2.4) - 0.055
    return torch.where(light < 0.0031308, 12.92 * light, curve).clamp(0, 1)


def _photographs(
    light: Pictures, exposures: Float32[Tensor, "picture 3"], shots: ShotBatch
) -> Pictures:
    kept = 1 - shots.vignetting[:, None, None, None] * _squared_radius(light)
    light = light * kept ** shots.strengths[:, None, None, None]
    pictures = develop(light, exposures[:, None, None])
    pictures = _blurred(pictures, shots.blur_px)
    grain = shots.noise[:, None, None, None] * shots.grain
    pictures = pictures + grain * (DARK_NOISE + pictures).sqrt()
    stored = (shots.jpeg_qualities > 0).nonzero()[:, 0]
    if len(stored):
        pictures[stored] = through_jpeg(pictures[stored], shots.jpeg_qualities[stored])
    return pictures.clamp(0, 1)


def _squared_radius(light: Pictures) -> Float32[Tensor, "height width 1"]:
    """Squared distance from the middle, 1 in the corners."""
    height, width, device = light.shape[1], light.shape[2], light.device
    y = (torch.arange(height, device=device)[:, None] + 0.5) / width - 0.5 * height / width
    x = (torch.arange(width, device=device)[None] + 0.5) / width - 0.5
    return ((x * x + y * y) / (0.25 + 0.25 * (height / width) ** 2))[..., None]


def _blurred(pictures: Pictures, deviations: Float32[Tensor, " picture"]) -> Pictures:
    """Each picture blurred by its own Gaussian; those with deviation 0 stay."""
    # As OpenCV cuts off kernels of float pictures: at four deviations.
    reach = torch.floor((8 * deviations + 1).round() / 2)
    most = int(reach.max())
    if most == 0:
        return pictures
    place = torch.arange(-most, most + 1, device=pictures.device)
    weights = torch.exp(-0.5 * (place / deviations.clamp(min=1e-3)[:, None]) ** 2)
    weights = weights * (place.abs() <= reach[:, None])
    weights = weights / weights.sum(dim=1, keepdim=True)
    for axis, border in ((1, (0, 0, 0, 0, most, most)), (2, (0, 0, most, most))):
        sides = pad(pictures, border, "reflect")
        # Written out, as matrix units may round to 10 bits.
        blurred = torch.zeros_like(pictures)
        for shift, weight in enumerate(weights.T):
            moved = sides.narrow(axis, shift, pictures.shape[axis])
            blurred.addcmul_(weight[:, None, None, None], moved)
        pictures = blurred
    return pictures


def depth_ranges(
    depth: Float32[Tensor, "sample view height width"],
    is_sky: Tensor,
    quantiles: tuple[float, float],
) -> Float32[Tensor, "sample 2"]:
    """Quantiles of the depths that aren't sky, between the two nearest values, as NumPy's."""
    ordered = depth.masked_fill(is_sky, torch.inf).flatten(1).sort(dim=1).values
    last = (~is_sky).flatten(1).sum(dim=1, keepdim=True) - 1
    place = last.double() * torch.tensor(quantiles, dtype=torch.float64, device=depth.device)
    low = place.floor().long()
    values = [ordered.gather(1, index) for index in (low, torch.minimum(low + 1, last))]
    return torch.lerp(values[0], values[1], (place - low).float())
