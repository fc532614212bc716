"""How this package compiles its inner loops."""

import inspect
import logging
from collections.abc import Callable
from typing import Any

import numba

logger = logging.getLogger(__name__)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Machine code of a function, kept on disk; single-threaded and so safe to fork.

    It drops the interpreter lock. Infinities stand for "no hit", so the fast-math flags leave them
    intact. Wrappers that check types at run time are taken off: they don't compile.
    """
    function = inspect.unwrap(function)
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "arcp", "nsz"}}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError as error:
        # Neither this folder nor the user's cache folder can be written.
        logger.info("Scenes are compiled anew in every process: %s", error)
        return numba.njit(**options)(function)
