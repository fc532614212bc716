"""Readers of untrusted files, given broken ones: they read, or say why not, and nothing else."""

import warnings
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings

from .broken_files import targets

TARGETS = targets()


@pytest.mark.parametrize("name", TARGETS)
def test_broken_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    read, inputs = TARGETS[name]

    @settings(
        max_examples=100,
        deadline=5000,
        derandomize=True,
        database=None,
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
    )
    @given(inputs)
    def check(content: bytes) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # arithmetic on nonsense
            with suppress(ValueError, OSError):
                read(content, tmp_path)

    check()
