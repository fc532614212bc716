"""Kernels are kept on disk where that is possible, and whoever waits for them is told."""

import os
import subprocess
import sys
from pathlib import Path

import numba.core.caching
import pytest

from hisplat_models.compilation import WAIT, kernel

OTHERS_AND_OURS = """
import sys, numba, numpy
from hisplat_models.rendering._binning import visible_indices
numba.njit(lambda x: 3 * x)(1)
print("ours", file=sys.stderr)
visible_indices(numpy.zeros((3, 4), numpy.int32))
visible_indices(numpy.zeros((3, 4), numpy.int64))
"""


def told_before_and_after_ours(cache: Path) -> list[str]:
    """What a process says while it compiles a function of somebody else's, then of ours."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    run = subprocess.run(
        [sys.executable, "-c", OTHERS_AND_OURS],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return run.stderr.split("ours\n")


def test_who_waits_for_kernels_is_told_once_and_not_when_they_are_on_disk(tmp_path: Path) -> None:
    assert told_before_and_after_ours(tmp_path) == ["", WAIT + "\n"]
    assert told_before_and_after_ours(tmp_path) == ["", ""]


def test_kernels_work_where_no_cache_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object) -> None:
        raise PermissionError("read-only")

    def double(x):
        return 2 * x

    monkeypatch.setattr(numba.core.caching._CacheLocator, "ensure_cache_path", refuse)
    assert kernel(double)(21) == 42
