"""Defaults of the library and the command line, which loads nothing else to show its help."""

DEFAULT_MODEL = "hisplat-small"
DEFAULT_SIZE = 512
"""Long side in pixels that photos are brought to."""
SMALLEST_SIZE = 64
"""Least that it may be."""
DEFAULT_REFINE = 10
"""Steps by which a scene is fitted to its photos."""
MOST_PHOTOS = 8
"""Of one scene."""
MOST_PAIRS = 48
"""Of a capture's photos that its scene is made of."""
MOST_GAUSSIANS = 2_000_000
"""Of a capture's scene."""
