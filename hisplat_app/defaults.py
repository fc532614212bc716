"""Defaults of the library and the command line, which loads nothing else to show its help."""

DEFAULT_MODEL = "hisplat-small"
DEFAULT_SIZE = 512
"""Long side in pixels that photos are brought to."""
DEFAULT_REFINE = 10
"""Steps by which a scene is fitted to its photos."""
MOST_PHOTOS = 8
"""Of one scene."""
