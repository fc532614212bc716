"""Random-dot stereo: pairs of dotted pictures with exact disparities, and a net that finds them.

    left, right -> features of each -> correlation per candidate -> blocks -> logits (B, D, H, W)
                                                                 -> expected disparity (B, H, W)

The net is as small as a network with a cost volume can be: what distils depth here can be tried
in seconds before it is tried on one that takes hours.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from hisplat_models.compression.spaces import DepthSpace
from hisplat_models.compression.task import Knowledge

from .networks import BasicBlock

HEIGHT_PX, WIDTH_PX = 16, 28
CANDIDATES = 8
"""Disparities 0, 1, ... pixels."""
SURFACES = 4
"""The background and rectangles in front of it, each of one disparity."""
NOISE = 0.1


@dataclass(frozen=True)
class StereoPairs:
    """Pictures of a left and a right eye; a pixel x of the left lies at x - disparity right."""

    left: Float[Tensor, "pair 1 height width"]
    right: Float[Tensor, "pair 1 height width"]
    disparity: Float[Tensor, "pair height width"]

    def __len__(self) -> int:
        return len(self.left)

    def __getitem__(self, chosen: Int64[Tensor, " chosen"] | slice) -> "StereoPairs":
        return StereoPairs(self.left[chosen], self.right[chosen], self.disparity[chosen])

    def moved(self, most_px: int, generator: torch.Generator) -> "StereoPairs":
        """The pairs as they are: dots are never twice the same.

        Raises:
            ValueError: if they are to be shifted.
        """
        if most_px:
            raise ValueError("Stereo pairs are not shifted: set shift_px to 0")
        return self

    @property
    def visible(self) -> Bool[Tensor, "pair height width"]:
        """Pixels that lie within the right picture (they may still be hidden there)."""
        return torch.arange(self.left.shape[-1]) >= self.disparity


def stereo_pairs(count: int, seed: int) -> StereoPairs:
    """Pairs of rectangles over a background, later ones in front and nearer."""
    generator = torch.Generator().manual_seed(seed)
    columns = torch.arange(WIDTH_PX, dtype=torch.float32)
    left, right = torch.zeros(2, count, HEIGHT_PX, WIDTH_PX)
    disparity = torch.zeros(count, HEIGHT_PX, WIDTH_PX)
    nearness = torch.rand(SURFACES, count, generator=generator).sort(dim=0).values
    for surface, share in enumerate(nearness):
        shift = (CANDIDATES - 1) * share[:, None, None]
        dots = torch.randn(count, HEIGHT_PX, WIDTH_PX + CANDIDATES, generator=generator)
        top, bottom, start, end = _rectangles(count, surface == 0, generator)
        rows = torch.arange(HEIGHT_PX)[None, :, None]
        within = (rows >= top) & (rows < bottom)
        in_left = within & (columns >= start) & (columns < end)
        in_right = within & (columns + shift >= start) & (columns + shift < end)
        left = torch.where(in_left, dots[..., :WIDTH_PX], left)
        right = torch.where(in_right, _shifted(dots, shift), right)
        disparity = torch.where(in_left, shift.expand_as(disparity), disparity)
    noise = NOISE * torch.randn(2, count, HEIGHT_PX, WIDTH_PX, generator=generator)
    return StereoPairs((left + noise[0])[:, None], (right + noise[1])[:, None], disparity)


def _rectangles(
    count: int, everything: bool, generator: torch.Generator
) -> tuple[Float[Tensor, "pair 1 1"], ...]:
    """Top, bottom, start and end of one surface per pair, in pixels of the left picture."""
    if everything:
        zero = torch.zeros(count, 1, 1)
        return zero, zero + HEIGHT_PX, zero, zero + WIDTH_PX + CANDIDATES
    place, size = torch.rand(2, 2, count, 1, 1, generator=generator)
    heights, widths = HEIGHT_PX * (0.25 + 0.4 * size[0]), WIDTH_PX * (0.2 + 0.3 * size[1])
    top, start = place[0] * (HEIGHT_PX - heights), place[1] * (WIDTH_PX - widths)
    return top, top + heights, start, start + widths


def _shifted(
    dots: Float[Tensor, "pair height longer"], shift: Float[Tensor, "pair 1 1"]
) -> Float[Tensor, "pair height width"]:
    """The dots seen so many pixels further right, between pixels by linear interpolation."""
    place = torch.arange(WIDTH_PX) + shift
    before = place.floor().long().expand(-1, dots.shape[1], -1)
    share = place - place.floor()
    return (1 - share) * dots.gather(2, before) + share * dots.gather(2, before + 1)


@dataclass(frozen=True)
class StereoPrediction:
    """Output of ``StereoNet``."""

    logits: Float[Tensor, "pair candidates height width"]
    features: Float[Tensor, "pair channels height width"]

    @property
    def disparity(self) -> Float[Tensor, "pair height width"]:
        """Expected, in pixels."""
        candidates = torch.arange(self.logits.shape[1], dtype=self.logits.dtype)
        return torch.einsum("pdhw,d->phw", self.logits.softmax(1), candidates)

    @property
    def knowledge(self) -> Knowledge:
        """Logits, logarithm of disparity (plus one pixel, so that zero has one) and features."""
        return {
            "depth": self.logits,
            "disparity": torch.log(self.disparity + 1),
            "features": self.features,
        }


class StereoNet(nn.Module):
    """A residual network on each side of a cost volume.

    Attributes:
        features: Blocks run on both pictures.
        refinement: Blocks run on the cost volume, candidates as channels.
    """

    def __init__(self, channels: int = 8, hidden: int = 12, blocks: tuple[int, int] = (3, 4)):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.features = _blocks(channels, blocks[0])
        self.project = nn.Conv2d(channels, channels, 1)
        self.widen = nn.Sequential(
            nn.Conv2d(CANDIDATES, hidden, 3, padding=1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
        )
        self.refinement = _blocks(hidden, blocks[1])
        self.logits = nn.Conv2d(hidden, CANDIDATES, 3, padding=1)

    def forward(
        self,
        left: Float[Tensor, "pair 1 height width"],
        right: Float[Tensor, "pair 1 height width"],
    ) -> StereoPrediction:
        """Logits over disparities and features of the left picture."""
        features = self.features(self.stem(torch.cat([left, right])))
        left_features, right_features = self.project(features).chunk(2)
        volume = correlation(left_features, right_features)
        logits = volume + self.logits(self.refinement(self.widen(volume)))
        return StereoPrediction(logits, left_features)


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(BasicBlock(channels, channels, 1, "batch") for _ in range(count)))


def correlation(
    left: Float[Tensor, "pair channels height width"],
    right: Float[Tensor, "pair channels height width"],
) -> Float[Tensor, "pair candidates height width"]:
    """Mean product of features per candidate; zero where the right picture has no such pixel."""
    width = left.shape[-1]
    products = [
        (left * functional.pad(right, (shift, 0))[..., :width]).mean(1)
        for shift in range(CANDIDATES)
    ]
    return torch.stack(products, dim=1)


def stereo_space(network: StereoNet) -> DepthSpace:
    """Both chains of blocks may be shortened to their first."""
    chains = {"features": network.features, "refinement": network.refinement}
    return DepthSpace(
        blocks=tuple(
            tuple(f"{name}.{block}" for block in range(len(chain)))
            for name, chain in chains.items()
        ),
        minimum=(1, 1),
    )
