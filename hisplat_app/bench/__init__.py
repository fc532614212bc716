"""Where the network's time and memory go, beside a plain version of the same network."""

from .command import Bench

__all__ = ["Bench"]
