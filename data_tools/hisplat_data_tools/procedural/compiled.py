"""How this package compiles its inner loops."""

from collections.abc import Callable
from typing import Any

from numba import njit

compiled: Callable[[Callable[..., Any]], Callable[..., Any]] = njit(  # pyright: ignore
    nogil=True, cache=True, error_model="numpy", fastmath={"contract", "arcp", "nsz"}
)
"""Machine code that drops the interpreter lock, kept on disk, single-threaded and so safe to fork.

Infinities stand for "no hit", so the fast-math flags leave them intact.
"""
