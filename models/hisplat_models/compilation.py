"""How inner loops are compiled to machine code: lazily, kept on disk, without holding the GIL.

All together that takes tens of seconds, once on a machine and again after they were changed.
Whoever waits is told by a warning in the log when the first one of a process is to be compiled.
"""

import inspect
import logging
from collections.abc import Callable
from typing import Any

import numba
import numba.core.event as numba_event

logger = logging.getLogger(__name__)

WAIT = "Compiling inner loops for this processor, which takes up to a minute the first time."

# Not all of fastmath: infinities and NaN keep their meaning.
REORDER = {"contract", "reassoc", "nsz"}


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles on the first call; the result keeps the GIL free and is stored on disk."""
    return compiled(function, fastmath=False)


def reordering_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel whose arithmetic may be reordered and contracted."""
    return compiled(function, fastmath=REORDER)


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """A helper that only kernels call.

    Helpers take arrays and an index rather than a row: a row made in a loop costs two atomic
    reference counts.
    """
    return kernel(function)


def compiled(function: Callable[..., Any], fastmath: bool | set[str]) -> Callable[..., Any]:
    """Compiles on the first call, with these of LLVM's fast-math flags (or none)."""
    # Unwrapped: run-time type checkers put Python around every function of a package.
    function = inspect.unwrap(function)
    options = {"nogil": True, "error_model": "numpy", "fastmath": fastmath}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError as error:
        # Neither this folder nor the user's cache folder can be written.
        logger.info("Kernels are compiled anew in every process: %s", error)
        return numba.njit(**options)(function)


class _Announcement(numba_event.Listener):
    """Tells that something is compiled rather than loaded from disk, if it is ours."""

    def __init__(self) -> None:
        self._told = False

    def on_start(self, event: numba_event.Event) -> None:
        if self._told or event.data is None:
            return
        if event.data["dispatcher"].py_func.__module__.startswith("hisplat_"):
            self._told = True
            logger.warning(WAIT)

    def on_end(self, event: numba_event.Event) -> None:
        """Nothing to tell."""


numba_event.register("numba:compile", _Announcement())
