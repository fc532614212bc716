"""Options that several commands share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..defaults import DEFAULT_MODEL, DEFAULT_SIZE


@dataclass(frozen=True)
class CameraOptions:
    """What is known about the cameras; by default they are estimated from the photos."""

    cameras: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Known cameras: a cameras.json, or nerfstudio's transforms.json. It may describe many photos;
    the two are found by their file names. The scene is then in its world frame."""
    focal: Annotated[float | None, tyro.conf.arg(metavar="PX")] = None
    """Focal length of both photos in pixels. By default from EXIF, else a typical phone's."""
    fov: Annotated[float | None, tyro.conf.arg(metavar="DEG")] = None
    """Horizontal field of view of both photos in degrees, instead of --focal."""

    def check(self) -> None:
        """Refuses options that contradict each other.

        Raises:
            ValueError: naming them.
        """
        if self.focal is not None and self.fov is not None:
            raise ValueError("Give either --focal or --fov, not both.")
        if self.cameras is not None and (self.focal is not None or self.fov is not None):
            raise ValueError("--cameras brings its own focal lengths: leave out --focal and --fov.")


@dataclass(frozen=True)
class NetworkOptions:
    """Which network works, where, and how finely."""

    model: Annotated[str, tyro.conf.arg(metavar="NAME|PATH|hf://…")] = DEFAULT_MODEL
    """A bundled network, a .safetensors file that `hisplat train` or `hisplat convert` wrote, or
    one on the Hugging Face Hub: hf://OWNER/REPO/PATH/FILE.safetensors[@REVISION]."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the network runs; auto takes a GPU if there is one."""
    size: Annotated[int, tyro.conf.arg(metavar="PX")] = DEFAULT_SIZE
    """Long side that the photos are brought to. Twice the size takes four times as long."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: matrix products with 8 bits of precision instead of 24, faster where the processor
    computes with them; depths change by about a percent."""
    compile: tyro.conf.FlagCreatePairsOff[bool] = False
    """Compile the network first (needs a C++ compiler). Takes minutes, once per photo size; worth
    it for a page that makes many scenes."""
