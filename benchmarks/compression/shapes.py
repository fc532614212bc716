"""Shapes: made-up pictures of 24x24 pixels in ten classes, five outlines times two stripings.

An outline of random place, size and turn is filled with stripes that lie along or across it;
short strokes clutter the picture and noise lies over all. Outline and striping must both be seen.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .tasks import Data, ImageBatch

SIZE_PX = 24
OUTLINES = 5  # disc, square, triangle, cross, ring
STRIPINGS = 2  # horizontal, vertical
NOISE = 0.35
CLUTTER_STROKES = 4
STRIPE_PERIOD_PX = 4.0


def shapes(train: int = 2000, test: int = 2000, seed: int = 0) -> Data:
    """Both parts, drawn with this seed."""
    generator = torch.Generator().manual_seed(seed)
    return Data(
        train=_pictures(train, generator),
        test=_pictures(test, generator),
        classes=OUTLINES * STRIPINGS,
    )


def _pictures(count: int, generator: torch.Generator) -> ImageBatch:
    labels = torch.randint(OUTLINES * STRIPINGS, (count,), generator=generator)
    images = torch.stack([_picture(int(label), generator) for label in labels])
    noise = NOISE * torch.randn(images.shape, generator=generator)
    return ImageBatch((images + noise)[:, None], labels)


def _picture(label: int, generator: torch.Generator) -> Float[Tensor, "height width"]:
    """One picture without noise, values about -1..1."""
    outline, striping = divmod(label, STRIPINGS)
    rows, columns = torch.meshgrid(
        torch.arange(SIZE_PX) + 0.5, torch.arange(SIZE_PX) + 0.5, indexing="ij"
    )
    centre_x, centre_y, radius, turn, phase = _between(
        generator, (8, 16), (8, 16), (5.5, 8), (-0.35, 0.35), (0, 2 * math.pi)
    )
    x, y = columns - centre_x, rows - centre_y
    u = (math.cos(turn) * x + math.sin(turn) * y) / radius
    v = (-math.sin(turn) * x + math.cos(turn) * y) / radius
    along = v if striping == 0 else u
    stripes = torch.sin(2 * math.pi * radius * along / STRIPE_PERIOD_PX + phase)
    picture = torch.zeros(SIZE_PX, SIZE_PX)
    for _ in range(CLUTTER_STROKES):
        picture[_stroke(rows, columns, generator)] = 0.8
    inside = _inside(outline, u, v)
    picture[inside] = 0.4 + 0.6 * stripes[inside]
    return picture


def _inside(
    outline: int, u: Float[Tensor, "height width"], v: Float[Tensor, "height width"]
) -> Bool[Tensor, "height width"]:
    """Pixels of the outline, whose own coordinates reach to about 1."""
    distance = torch.hypot(u, v)
    if outline == 0:
        return distance < 1
    if outline == 1:
        return torch.maximum(u.abs(), v.abs()) < 0.85
    if outline == 2:
        return (v < 0.75) & (v > 2 * u.abs() - 1)
    if outline == 3:
        return (torch.minimum(u.abs(), v.abs()) < 0.33) & (torch.maximum(u.abs(), v.abs()) < 1)
    return (distance < 1) & (distance > 0.5)


def _stroke(
    rows: Float[Tensor, "height width"],
    columns: Float[Tensor, "height width"],
    generator: torch.Generator,
) -> Bool[Tensor, "height width"]:
    """A straight line of a few pixels anywhere, one pixel wide."""
    x, y, angle, length = _between(generator, (0, SIZE_PX), (0, SIZE_PX), (0, math.pi), (2, 5))
    along = math.cos(angle) * (columns - x) + math.sin(angle) * (rows - y)
    across = -math.sin(angle) * (columns - x) + math.cos(angle) * (rows - y)
    return (along.abs() < length) & (across.abs() < 0.6)


def _between(generator: torch.Generator, *ranges: tuple[float, float]) -> tuple[float, ...]:
    """One number of each range."""
    shares = torch.rand(len(ranges), generator=generator).tolist()
    return tuple(
        low + share * (high - low) for share, (low, high) in zip(shares, ranges, strict=True)
    )
