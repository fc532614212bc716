"""What was freed goes back to the system between steps."""

import os

import numpy as np
import pytest

from hisplat_app import freed_memory
from hisplat_app.freed_memory import WORTHWHILE_BYTES, between_steps, kept_bytes

needs_glibc = pytest.mark.skipif(
    freed_memory._glibc() is None, reason="only glibc tells what it keeps"
)


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def free_between_kept_ones(total: int) -> list[np.ndarray]:
    """Frees this many bytes between blocks still in use, which are returned."""
    block = 96 << 10  # below glibc's least threshold for maps of their own
    pairs = [(np.ones(block, np.uint8), np.ones(4096, np.uint8)) for _ in range(total // block)]
    return [small for _, small in pairs]


@needs_glibc
def test_freed_memory_goes_back_when_a_step_begins():
    told: list[tuple[str, float]] = []
    kept = free_between_kept_ones(3 * WORTHWHILE_BYTES)
    assert kept_bytes() > 2 * WORTHWHILE_BYTES
    before = resident_bytes()
    between_steps(lambda step, fraction: told.append((step, fraction)))("drawing", 0.5)
    assert told == [("drawing", 0.5)]
    assert resident_bytes() < before - 2 * WORTHWHILE_BYTES
    assert all((block == 1).all() for block in kept)


@needs_glibc
def test_what_is_not_worth_it_stays(monkeypatch: pytest.MonkeyPatch):
    kept = free_between_kept_ones(3 * WORTHWHILE_BYTES)
    monkeypatch.setattr(freed_memory, "kept_bytes", lambda: WORTHWHILE_BYTES)
    before = resident_bytes()
    freed_memory.give_back_freed_memory()
    assert resident_bytes() > before - WORTHWHILE_BYTES
    monkeypatch.undo()
    freed_memory.give_back_freed_memory()
    assert resident_bytes() < before - 2 * WORTHWHILE_BYTES
    assert len(kept) > 0
