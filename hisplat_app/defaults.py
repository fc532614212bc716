"""Defaults of the library and the command line, which loads nothing else to show its help."""

DEFAULT_MODEL = "hisplat-small"
DEFAULT_SIZE = 512
"""Long side in pixels that photos are brought to."""
MOST_PHOTOS = 8
"""Of one scene."""
