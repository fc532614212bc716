"""Random tileable textures with the look of real materials, and their mip-mapped lookup."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, UInt32

from .compiled import compiled

Palette = Float32[np.ndarray, "colour 3"]
Field = Float32[np.ndarray, "size size"]


# --- Scalar fields ------------------------------------------------------------------------------


def _doubled(field: np.ndarray) -> np.ndarray:
    """The periodic field with twice the rows, smooth (a quadratic spline through repeats)."""
    previous, following = np.roll(field, 1, axis=0), np.roll(field, -1, axis=0)
    finer = np.empty((2 * len(field), field.shape[1]), dtype=np.float32)
    finer[0::2] = 0.75 * field + 0.25 * previous
    finer[1::2] = 0.75 * field + 0.25 * following
    return finer


def fractal_noise(
    rng: np.random.Generator, size: int, cells: tuple[int, int] = (4, 4), persistence: float = 0.55
) -> Field:
    """Periodic multi-octave noise in [0, 1]; a persistence of .5 has the 1/f look of photographs.

    ``cells`` (down, across; powers of two) are those of the coarsest octave.
    """
    field = rng.standard_normal(cells, dtype=np.float32)
    gain = 1.0
    while min(field.shape) < size:
        if field.shape[0] < size:
            field = _doubled(field)
        if field.shape[1] < size:
            field = np.ascontiguousarray(_doubled(np.ascontiguousarray(field.T)).T)
        gain *= persistence
        field += gain * rng.standard_normal(field.shape, dtype=np.float32)
    return _stretched(field)


def _stretched(field: Field) -> Field:
    """The field mapped to [0, 1] so that two standard deviations fill the range."""
    deviation = float(field.std()) + 1e-6
    return np.clip(0.5 + (field - field.mean()) / (4 * deviation), 0, 1).astype(np.float32)


# --- Colours ------------------------------------------------------------------------------------


def _rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    """HSV to RGB, all in [0, 1]."""
    sector = (np.array([5.0, 3.0, 1.0]) + hue * 6) % 6
    return value - value * saturation * np.clip(np.minimum(sector, 4 - sector), 0, 1)


def sample_palette(rng: np.random.Generator, count: int = 4) -> Palette:
    """Colours that occur together: mostly dull, warm more often than cold, one may stand out."""
    hue = rng.normal(0.09, 0.06) if rng.random() < 0.65 else rng.random()
    saturation = rng.beta(1.5, 4.5)
    value = rng.uniform(0.15, 0.95)
    contrast = rng.uniform(0.05, 0.35)
    colours = []
    for _ in range(count):
        shade = np.clip(value + rng.normal(0, contrast), 0.05, 0.98)
        dullness = np.clip(saturation + rng.normal(0, 0.12), 0, 0.85)
        colours.append(_rgb((hue + rng.normal(0, 0.04)) % 1, dullness, shade))
    if rng.random() < 0.15:
        colours[-1] = _rgb(rng.random(), rng.uniform(0.3, 0.85), rng.uniform(0.3, 0.9))
    return np.array(colours, dtype=np.float32)


@compiled
def _ramp(field, palette):
    """Colours of a field in [0, 1] running through the palette."""
    rows, columns = field.shape
    colour = np.empty((rows, columns, 3), dtype=np.float32)
    last = palette.shape[0] - 1
    for y in range(rows):
        for x in range(columns):
            place = field[y, x] * last
            k = min(int(place), last - 1)
            share = place - k
            for c in range(3):
                colour[y, x, c] = palette[k, c] * (1 - share) + palette[k + 1, c] * share
    return colour


# --- Materials: each gives (size, size, 3) sRGB colours -----------------------------------------


def _noise(rng: np.random.Generator, size: int) -> np.ndarray:
    cells = int(rng.choice([2, 4, 8]))
    field = fractal_noise(rng, size, (cells, cells), rng.uniform(0.45, 0.75))
    return _ramp(field, sample_palette(rng, int(rng.integers(2, 6))))


def _marble(rng: np.random.Generator, size: int) -> np.ndarray:
    field = fractal_noise(rng, size, (4, 4), 0.5)
    veins = 0.5 + 0.5 * np.sin(2 * np.pi * rng.integers(1, 5) * 3 * field)
    return _ramp((veins ** rng.uniform(0.5, 3)).astype(np.float32), sample_palette(rng, 3))


def _wood(rng: np.random.Generator, size: int) -> np.ndarray:
    """Planks, each with its own shade and long grain."""
    planks = int(rng.integers(3, 9))
    grain = fractal_noise(rng, size, (int(rng.choice([16, 32])), 1), 0.6)
    dark, light = np.sort(rng.uniform(0.15, 0.85, 2))
    hue, saturation = rng.normal(0.08, 0.02), rng.uniform(0.2, 0.6)
    colour = _ramp(
        grain,
        np.stack([_rgb(hue, saturation, dark), _rgb(hue, saturation, light)]).astype(np.float32),
    )
    rows = np.arange(size) * planks // size
    columns = (np.arange(size)[None] + rng.integers(0, size, planks)[rows][:, None]) % size
    colour = np.take_along_axis(colour, columns[..., None], axis=1)
    shade = rng.normal(1, 0.12, planks)[rows][:, None, None]
    edge = (np.arange(size) * planks % size < 0.02 * planks * rng.integers(0, 9))[:, None]
    return colour * np.where((edge | (columns < 2))[..., None], 0.45, shade)


def _bricks(rng: np.random.Generator, size: int) -> np.ndarray:
    """Bricks or tiles in mortar, every one with its own shade."""
    rows = int(rng.integers(2, 9)) * 2
    columns = int(np.clip(rng.integers(1, rows + 1), 2, None))
    y = np.arange(size)[:, None] * rows / size
    shift = rng.choice([0.0, 0.5]) * (np.floor(y) % 2)
    x = np.arange(size)[None] * columns / size + shift
    joint = rng.uniform(0.02, 0.12)
    in_joint = ((y % 1) < joint) | ((x % 1) < joint * columns / rows)
    brick = np.floor(y).astype(int) % rows, np.floor(x).astype(int) % columns
    palette = sample_palette(rng, 4)
    shade = np.clip(rng.normal(0.5, rng.uniform(0.03, 0.25), (rows, columns)), 0, 1)
    grain = 0.8 + 0.4 * fractal_noise(rng, size, (8, 8), 0.8)[..., None]
    colour = _ramp(shade[brick].astype(np.float32), palette) * grain
    return np.where(in_joint[..., None], _rgb(0.1, 0.1, rng.uniform(0.1, 0.9)) * grain, colour)


def _stripes(rng: np.random.Generator, size: int) -> np.ndarray:
    """Stripes, checks or plaid."""
    palette = sample_palette(rng, 4)
    repeats = int(rng.integers(2, 17))

    def bands() -> np.ndarray:
        profile = np.repeat(rng.random(8), rng.integers(1, 5, 8))
        place = np.arange(size) * repeats / size % 1
        return profile[(place * len(profile)).astype(int)].astype(np.float32)

    across, down = bands()[None], bands()[:, None]
    style = rng.random()
    if style < 0.4:
        field = across * np.ones((size, 1), dtype=np.float32)
    elif style < 0.7:
        field = 0.5 * (across + down)
    else:
        field = ((across > 0.5) ^ (down > 0.5)).astype(np.float32)
    weave = 0.9 + 0.2 * fractal_noise(rng, size, (size // 4, size // 4))[..., None]
    return _ramp(field, palette) * weave


@compiled
def _paint_shapes(colour, shapes, shades):
    """Paints ellipses, rectangles and triangles over each other, wrapping round the borders."""
    size = colour.shape[0]
    for n in range(shapes.shape[0]):
        cx, cy, rx, ry, angle, kind = shapes[n]
        cosine, sine = math.cos(angle), math.sin(angle)
        reach = math.ceil(math.sqrt(rx * rx + ry * ry))
        for y in range(int(cy) - reach, int(cy) + reach + 1):
            for x in range(int(cx) - reach, int(cx) + reach + 1):
                u = (cosine * (x - cx) + sine * (y - cy)) / rx
                v = (cosine * (y - cy) - sine * (x - cx)) / ry
                if kind < 1:
                    inside = u * u + v * v < 1
                elif kind < 2:
                    inside = abs(u) < 1 and abs(v) < 1
                else:
                    inside = v < 1 and abs(u) < 0.5 + 0.5 * v
                if inside:
                    shade = 1 + 0.15 * u * shades[n, 3]
                    for c in range(3):
                        colour[y % size, x % size, c] = shades[n, c] * shade


def _dead_leaves(rng: np.random.Generator, size: int) -> np.ndarray:
    """Overlapping shapes whose sizes follow a power law, as in natural images."""
    count = int(rng.integers(60, 500))
    radii = size * 0.01 * rng.uniform(0.02, 1, count) ** -0.7
    radii = np.minimum(radii, size * 0.2)
    shapes = np.stack(
        [
            rng.uniform(0, size, count),
            rng.uniform(0, size, count),
            radii,
            radii * rng.uniform(0.3, 1, count),
            rng.uniform(0, 2 * np.pi, count),
            rng.uniform(0, 3, count) if rng.random() < 0.5 else np.full(count, rng.uniform(0, 3)),
        ],
        axis=1,
    )
    palette = np.concatenate([sample_palette(rng, 5) for _ in range(int(rng.integers(1, 4)))])
    shades = np.ones((count, 4))
    shades[:, :3] = palette[rng.integers(0, len(palette), count)]
    shades[:, :3] *= rng.normal(1, 0.1, (count, 1))
    colour = np.empty((size, size, 3))
    colour[:] = palette[0]
    _paint_shapes(colour, shapes, shades)
    return colour * (0.85 + 0.3 * fractal_noise(rng, size, (4, 4), 0.7)[..., None])


def _print(rng: np.random.Generator, size: int) -> np.ndarray:
    """Rows of small marks like printed text, with a few pictures between them."""
    paper, ink = _rgb(0.1, rng.uniform(0, 0.2), 0.85), _rgb(rng.random(), 0.4, 0.25)
    if rng.random() < 0.6:
        paper, ink = sample_palette(rng, 2)
    rows = size // int(rng.integers(5, 13))
    columns = rows * 4
    marks = rng.random((rows * 4, columns)) < 0.5
    marks[::4] = marks[1::4] & (rng.random((rows, columns)) < 0.2)
    marks &= np.repeat(rng.random((rows, columns // 4)) < 0.85, 4, 0).repeat(4, 1)
    marks[:, ::4] = False
    index = np.arange(size)
    text = marks[index[:, None] * rows * 4 // size, index[None] * columns // size]
    colour = np.where(text[..., None], ink, paper)
    for _ in range(int(rng.integers(0, 5))):
        y, x = rng.integers(0, size * 3 // 4, 2)
        h, w = rng.integers(size // 10, size // 3, 2)
        picture = _noise(rng, size) if rng.random() < 0.5 else np.ones((size, size, 3)) * ink
        colour[y : y + h, x : x + w] = picture[y : y + h, x : x + w]
    return colour


def _facade(rng: np.random.Generator, size: int) -> np.ndarray:
    """A wall with repeated windows, all alike but for the panes' reflections."""
    rows, columns = (int(n) for n in rng.integers(2, 6, 2))
    wall = _bricks(rng, size) if rng.random() < 0.4 else _plaster(rng, size)
    y = (np.arange(size)[:, None] * rows / size) % 1 - 0.5
    x = (np.arange(size)[None] * columns / size) % 1 - 0.5
    half_h, half_w = rng.uniform(0.2, 0.38), rng.uniform(0.15, 0.38)
    frame = rng.uniform(0.02, 0.06)
    window = (np.abs(y) < half_h) & (np.abs(x) < half_w)
    bars = (np.abs(np.abs(y) - half_h * 0.3) < frame / 2) | (np.abs(x) < frame / 2)
    pane = window & (np.abs(y) < half_h - frame) & (np.abs(x) < half_w - frame) & ~bars
    glass = rng.uniform(0.05, 0.5, (rows, columns, 1)) * _rgb(0.58, 0.3, 1.0)
    glass = glass.repeat(-(-size // rows), 0)[:size].repeat(-(-size // columns), 1)[:, :size]
    wall = np.where(window[..., None], _rgb(0.1, 0.1, rng.uniform(0.2, 0.95)), wall)
    sill = (np.abs(y - half_h - 0.02) < 0.02) & (np.abs(x) < half_w + 0.04)
    wall = np.where(sill[..., None], 0.6 * wall, wall)
    return np.where(pane[..., None], glass + 0.1 * y[..., None], wall)


def _plaster(rng: np.random.Generator, size: int) -> np.ndarray:
    """Nearly flat paint with faint stains: the textureless walls of real rooms."""
    colour = sample_palette(rng, 1)[0]
    strength = rng.uniform(0.0, 0.12)
    field = fractal_noise(rng, size, (2, 2), rng.uniform(0.4, 0.8))
    return colour * (1 + strength * (field[..., None] - 0.5))


def _plain(rng: np.random.Generator, size: int) -> np.ndarray:
    """One colour without a trace of texture: cloth and paper behind photographed objects."""
    shades = (np.zeros(3), np.ones(3), np.full(3, rng.random()), sample_palette(rng, 1)[0])
    colour = shades[int(rng.choice(4, p=[0.5, 0.1, 0.2, 0.2]))]
    return np.broadcast_to(colour, (size, size, 3)).astype(np.float32)


def _speckle(rng: np.random.Generator, size: int) -> np.ndarray:
    """Granite, gravel, carpet: fine grains of a few colours."""
    cells = size // int(rng.choice([2, 4, 8]))
    grains = fractal_noise(rng, size, (cells, cells), 0.8)
    palette = sample_palette(rng, 5)
    palette += rng.uniform(0.2, 0.8) * (palette.mean(axis=0) - palette)
    colour = palette[np.minimum((grains * 5).astype(int), 4)]
    return colour * (0.8 + 0.4 * fractal_noise(rng, size)[..., None])


def _gradient(rng: np.random.Generator, size: int) -> np.ndarray:
    wave = 0.5 + 0.5 * np.cos(2 * np.pi * (np.arange(size) / size + rng.random()))
    field = 0.8 * wave[:, None] + 0.2 * fractal_noise(rng, size, (2, 2), 0.5)
    return _ramp(field.astype(np.float32), sample_palette(rng, 3))


def _clouds(rng: np.random.Generator, size: int) -> np.ndarray:
    sky = _rgb(rng.normal(0.58, 0.02), rng.uniform(0.0, 0.5), rng.uniform(0.6, 0.95))
    cover = np.clip(fractal_noise(rng, size, (4, 4), 0.5) * rng.uniform(0.8, 2.2) - 0.5, 0, 1)
    return sky * (1 - cover[..., None]) + rng.uniform(0.75, 1.0) * cover[..., None]


def _foliage(rng: np.random.Generator, size: int) -> np.ndarray:
    """Grass and leaves: many small strokes of greens and browns."""
    count = 900
    radii = size * rng.uniform(0.01, 0.035, count)
    shapes = np.stack(
        [
            rng.uniform(0, size, count),
            rng.uniform(0, size, count),
            radii * rng.uniform(0.15, 0.5),
            radii,
            rng.normal(rng.uniform(0, 3), rng.uniform(0.3, 2), count),
            np.zeros(count),
        ],
        axis=1,
    )
    hue, value = rng.uniform(0.12, 0.33), rng.uniform(0.25, 0.7)
    shades = np.ones((count, 4))
    depth = np.linspace(0.35, 1, count)
    for n in range(count):
        shades[n, :3] = _rgb(hue + 0.02 * ((n * 7) % 5 - 2), 0.5, value * depth[n])
    shades[:, :3] *= rng.normal(1, 0.15, (count, 1))
    colour = np.empty((size, size, 3))
    colour[:] = _rgb(hue, 0.5, 0.3 * value)
    _paint_shapes(colour, shapes, shades)
    return colour


STYLES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "noise": _noise,
    "marble": _marble,
    "wood": _wood,
    "bricks": _bricks,
    "stripes": _stripes,
    "dead_leaves": _dead_leaves,
    "print": _print,
    "facade": _facade,
    "plaster": _plaster,
    "plain": _plain,
    "speckle": _speckle,
    "gradient": _gradient,
    "clouds": _clouds,
    "foliage": _foliage,
}
"""Makers of textures by name."""


def make_texture(
    rng: np.random.Generator, style: str, size: int
) -> Float32[np.ndarray, "size size 3"]:
    """A tileable texture in sRGB within [0.02, 0.98]; ``size`` is a power of two."""
    return np.clip(STYLES[style](rng, size), 0.02, 0.98).astype(np.float32)


# --- Mip maps -----------------------------------------------------------------------------------


@compiled
def _fill_pyramid(colour, texels):
    """Writes all levels of one texture, averaged in (approximately) linear light."""
    size = colour.shape[0]
    start = 0
    level = colour * colour
    while True:
        for y in range(size):
            for x in range(size):
                packed = np.uint32(0)
                for c in range(3):
                    byte = np.uint32(math.sqrt(level[y, x, c]) * 255.0 + 0.5)
                    packed |= byte << np.uint32(8 * c)
                texels[start + y * size + x] = packed
        start += size * size
        if size == 1:
            return
        size //= 2
        smaller = np.empty((size, size, 3), dtype=colour.dtype)
        for y in range(size):
            for x in range(size):
                for c in range(3):
                    smaller[y, x, c] = 0.25 * (
                        level[2 * y, 2 * x, c]
                        + level[2 * y, 2 * x + 1, c]
                        + level[2 * y + 1, 2 * x, c]
                        + level[2 * y + 1, 2 * x + 1, c]
                    )
        level = smaller


def pyramid(
    colour: Float32[np.ndarray, "size size 3"],
) -> UInt32[np.ndarray, " texel"]:
    """All mip levels of a texture, finest first, row by row; 8 bits a channel, red lowest."""
    size = colour.shape[0]
    texels = np.zeros((4 * size * size - 1) // 3, dtype=np.uint32)
    _fill_pyramid(colour, texels)
    return texels


@compiled
def _bilinear(texels, n, start, size, u, v):
    x, y = u * size - 0.5, v * size - 0.5
    i, j = math.floor(x), math.floor(y)
    a, b = x - i, y - j
    # Sizes are powers of two, so wrapping is a mask.
    i0, i1 = int(i) & (size - 1), (int(i) + 1) & (size - 1)
    j0, j1 = int(j) & (size - 1), (int(j) + 1) & (size - 1)
    p, q = texels[n, start + j0 * size + i0], texels[n, start + j0 * size + i1]
    r, s = texels[n, start + j1 * size + i0], texels[n, start + j1 * size + i1]
    wp, wq, wr, ws = (1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b
    return (
        wp * (p & 255) + wq * (q & 255) + wr * (r & 255) + ws * (s & 255),
        wp * (p >> 8 & 255) + wq * (q >> 8 & 255) + wr * (r >> 8 & 255) + ws * (s >> 8 & 255),
        wp * (p >> 16) + wq * (q >> 16) + wr * (r >> 16) + ws * (s >> 16),
    )


@compiled
def lookup(texels, n, u, v, footprint):
    """Colour (sRGB) of texture ``n`` at (u, v), blurred over ``footprint``, in repeats."""
    # A pyramid has (4 size² - 1) / 3 texels.
    size = int(math.sqrt(0.75 * texels.shape[1] + 0.25))
    lod = max(0.0, math.log2(max(footprint * size, 1e-9)))
    level = int(lod)
    share = lod - level
    start, width = 0, size
    for _ in range(level):
        if width == 1:
            break
        start += width * width
        width //= 2
    r, g, b = _bilinear(texels, n, start, width, u, v)
    if share > 0.01 and width > 1:
        r2, g2, b2 = _bilinear(texels, n, start + width * width, width // 2, u, v)
        r, g, b = r + share * (r2 - r), g + share * (g2 - g), b + share * (b2 - b)
    return r / 255.0, g / 255.0, b / 255.0
