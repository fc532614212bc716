"""Freed memory back to the system between the steps of a job."""

import ctypes
import functools
import sys

from .step_clock import Progress

WORTHWHILE_BYTES = 128 << 20
"""Less than this may stay: it is soon needed again, and coming anew it would have to be cleared."""


class _MallocInfo(ctypes.Structure):
    """What glibc's mallinfo2 tells (man 3 mallinfo)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
            "fordblks", "keepcost",
        )
    )  # fmt: skip


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    """The C library if it is a glibc of 2.33 or later; other allocators need no asking."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        return None
    library.mallinfo2.restype = _MallocInfo
    return library


def kept_bytes() -> int:
    """Freed memory that the allocator keeps for later; 0 if it does not say."""
    library = _glibc()
    return 0 if library is None else int(library.mallinfo2().fordblks)


def give_back_freed_memory() -> None:
    """Lets the allocator part with what it keeps, if that is much.

    glibc keeps maps of up to 32 MiB that were freed between others still in use: after matching and
    predicting at 1280 px two thirds of a gigabyte.
    """
    library = _glibc()
    if library is not None and kept_bytes() > WORTHWHILE_BYTES:
        library.malloc_trim(0)


def between_steps(progress: Progress) -> Progress:
    """The same, giving back freed memory before each step is told about."""

    def begin(step: str, fraction: float) -> None:
        give_back_freed_memory()
        progress(step, fraction)

    return begin
