"""How inner loops are compiled to machine code: lazily, kept on disk, without holding the GIL."""

import inspect
import logging
from collections.abc import Callable
from typing import Any

import numba

logger = logging.getLogger(__name__)

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
