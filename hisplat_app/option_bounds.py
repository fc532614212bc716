"""Bounds of numbers that commands are given."""

from collections.abc import Mapping


def check_least(least: int, options: Mapping[str, int | None]) -> None:
    """Refuses numbers that are too small to mean anything; None stands for one not given.

    Raises:
        ValueError: naming the option.
    """
    for option, number in options.items():
        if number is not None and number < least:
            raise ValueError(f"{option} must be at least {least}, got {number}.")
