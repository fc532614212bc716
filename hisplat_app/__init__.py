"""Two photos in, a 3D Gaussian scene out."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .reconstruction import Reconstruction, reconstruct

__version__ = "0.1.0"

__all__ = ["Reconstruction", "__version__", "reconstruct"]


def __getattr__(name: str) -> Any:
    # Loading torch takes seconds, which `hisplat --help` should not.
    if name in ("Reconstruction", "reconstruct"):
        from . import reconstruction

        return getattr(reconstruction, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
