"""Defaults and bounds of the library and the command line, whose help loads nothing else."""

DEFAULT_MODEL = "hisplat-small"
DEFAULT_SIZE = 512
"""Long side in pixels that photos are brought to."""
SMALLEST_SIZE = 64
"""Least that it may be."""
LARGEST_SIZE = 8192
"""Most that it may be, and the long side of drawn pictures: a larger one is a slip of the keys."""
DEFAULT_REFINE = 10
"""Steps by which a scene is fitted to its photos."""
MOST_PHOTOS = 8
"""Of one scene."""
MOST_PAIRS = 48
"""Of a capture's photos that its scene is made of."""
MOST_GAUSSIANS = 2_000_000
"""Of a capture's scene."""


def check_working_size(size: int) -> None:
    """Refuses long sides that no photo should be brought to.

    Raises:
        ValueError: naming what is possible.
    """
    if not SMALLEST_SIZE <= size <= LARGEST_SIZE:
        raise ValueError(
            f"Expected a working size of {SMALLEST_SIZE} to {LARGEST_SIZE} px, got {size}."
        )
