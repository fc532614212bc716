"""How this package compiles its inner loops."""

from collections.abc import Callable
from typing import Any

from hisplat_models.compilation import compiled as compiled_with

# Infinities stand for "no hit", so these fast-math flags leave them intact.
FAST_MATH = {"contract", "arcp", "nsz"}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Machine code, kept on disk, single-threaded and so safe to fork."""
    return compiled_with(function, FAST_MATH)
