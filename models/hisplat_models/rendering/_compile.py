"""How the kernels of this folder are compiled."""

import inspect
from collections.abc import Callable
from typing import Any

import numba

# Not all of fastmath: infinities and NaN keep their meaning.
REORDER = {"contract", "reassoc", "nsz"}


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles on the first call without holding the GIL, and keeps the result on disk.

    Unwrapped first: run-time type checkers put Python around every function of a package.
    """
    return numba.njit(nogil=True, cache=True, error_model="numpy")(inspect.unwrap(function))


def reordering_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel whose sums may be reordered, which vectorised reductions need."""
    return numba.njit(nogil=True, cache=True, error_model="numpy", fastmath=REORDER)(
        inspect.unwrap(function)
    )


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """A helper that only kernels call.

    Helpers take arrays and an index rather than a row: a row made in a loop costs two atomic
    reference counts.
    """
    return kernel(function)
