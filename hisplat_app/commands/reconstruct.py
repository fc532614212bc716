"""``hisplat reconstruct``: a scene file from two photos, without any window."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from .console import progress_line, tell, warn
from .options import CameraOptions, NetworkOptions

if TYPE_CHECKING:
    from ..reconstruction import Reconstruction


@dataclass(frozen=True)
class Reconstruct:
    """Make a 3D scene of two photos and write it as .ply.

    The .ply opens in SuperSplat and other 3DGS viewers. It is in the world frame of the given
    cameras; without given cameras the left camera is the world (x right, y down, z forward), and
    the unit of length is arbitrary.

    For example:

      hisplat reconstruct --left a.jpg --right b.jpg --output scene.ply
      hisplat reconstruct --left 003.jpg --right 006.jpg --cameras cameras.json --output fox.ply
      hisplat reconstruct --left a.jpg --right b.jpg --fov 70 --output scene.ply
      --cameras-out cameras.json --report report.json
    """

    left: Annotated[Path, tyro.conf.arg(metavar="PHOTO")]
    """First photo (JPEG, PNG, WebP, …; EXIF rotation is applied)."""
    right: Annotated[Path, tyro.conf.arg(metavar="PHOTO")]
    """Second photo of the same scene, taken a step to the side."""
    output: Annotated[Path, tyro.conf.arg(metavar="SCENE.PLY")]
    """The .ply file to write."""
    cameras_out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Also write both cameras, as a file that --cameras reads."""
    report: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Also write how it went: seconds by step, Gaussians by level, cameras, warnings (JSON)."""
    known: Annotated[CameraOptions, tyro.conf.arg(name="")] = field(default_factory=CameraOptions)
    network: Annotated[NetworkOptions, tyro.conf.arg(name="")] = field(
        default_factory=NetworkOptions
    )

    def run(self) -> int:
        """Writes the files; 0 when done."""
        self._check()
        with progress_line() as progress:
            progress("loading the program", 0.0)
            from ..reconstruction import reconstruct

            scene = reconstruct(
                self.left,
                self.right,
                cameras=self.known.cameras,
                focal_px=self.known.focal,
                fov_degrees=self.known.fov,
                model=self.network.model,
                device=self.network.device,
                size=self.network.size,
                progress=progress,
            )
        scene.write_ply(self.output)
        if self.cameras_out is not None:
            scene.write_cameras(self.cameras_out)
        if self.report is not None:
            scene.write_report(self.report)
        tell_about(scene)
        tell(f"Wrote {self.output}.")
        return 0

    def _check(self) -> None:
        self.known.check()
        for path in (self.output, self.cameras_out, self.report):
            check_can_write(path)


def check_can_write(path: Path | None) -> None:
    """Finds out before the work what would stop the writing after it.

    Raises:
        ValueError: if it is a folder, or its folder does not exist.
    """
    if path is None:
        return
    if path.is_dir():
        raise ValueError(f"Cannot write {path}: it is a folder.")
    if not path.parent.is_dir():
        raise ValueError(f"Cannot write {path}: the folder {path.parent} does not exist.")


def tell_about(scene: "Reconstruction") -> None:
    """Warnings and the facts of a new scene."""
    for warning in scene.report.warnings:
        warn(warning)
    tell(scene.report.summary())
