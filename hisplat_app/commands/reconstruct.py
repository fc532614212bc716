"""``hisplat reconstruct``: a scene file from photos, without any window."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ..defaults import DEFAULT_REFINE, MOST_PHOTOS
from ..option_bounds import check_least
from .console import progress_line, tell, warn
from .options import CameraOptions, CaptureOptions, NetworkOptions, PhotoOptions
from .paths import check_cameras_out, check_can_write, check_scene_out

if TYPE_CHECKING:
    from ..capture_reconstruction import CaptureReconstruction
    from ..reconstruction import Reconstruction


LONG_S = 90.0
"""Seconds: whoever waits longer is told how long."""


@dataclass(frozen=True)
class Reconstruct:
    """Make a 3D scene of two or more photos, or of a whole capture, and write it to files.

    The endings choose the formats: .ply, .compressed.ply, .splat, .spz, .glb (points). A .ply opens
    in SuperSplat and other 3DGS viewers. The scene is in the world frame of the given cameras;
    without given cameras the left camera is the world (x right, y down, z forward), and the unit
    of length is arbitrary.

    For example:

      hisplat reconstruct --left a.jpg --right b.jpg --output scene.ply
      hisplat reconstruct --left 003.jpg --right 006.jpg --cameras cameras.json --output fox.ply
      hisplat reconstruct --left a.jpg --right b.jpg --fov 70 --output scene.ply scene.spz
      --cameras-out scene.cameras.json --report report.json
      hisplat reconstruct --views a.jpg b.jpg c.jpg --output scene.ply
      hisplat reconstruct --transforms transforms.json --frames 3 7 --output scene.ply
      hisplat reconstruct --transforms transforms.json --output whole.ply
    """

    output: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="SCENE.PLY...")]
    """The scene files to write."""
    cameras_out: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE...")] = ()
    """Also write all cameras: a .json that --cameras reads (transforms.json in nerfstudio's
    format), or a folder for COLMAP's text model. `hisplat render scene.ply` finds them by itself
    as scene.cameras.json."""
    report: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Also write how it went: seconds by step, Gaussians by level, cameras, warnings (JSON)."""
    refine: Annotated[int, tyro.conf.arg(metavar="STEPS")] = DEFAULT_REFINE
    """Fit the scene to the photos by so many steps of rendering and descent: views between the
    photos become sharper and truer, at a cost in seconds. 20 bring a little more, 0 none of it.
    Scenes of whole captures are not refined."""
    photos: Annotated[PhotoOptions, tyro.conf.arg(name="")] = field(default_factory=PhotoOptions)
    known: Annotated[CameraOptions, tyro.conf.arg(name="")] = field(default_factory=CameraOptions)
    network: Annotated[NetworkOptions, tyro.conf.arg(name="")] = field(
        default_factory=NetworkOptions
    )
    capture: Annotated[CaptureOptions, tyro.conf.arg(name="")] = field(
        default_factory=CaptureOptions
    )

    def run(self) -> int:
        """Writes the files; 0 when done."""
        self._check()
        scene = self._of_capture() if self.photos.whole_capture else self._of_photos()
        for path in self.output:
            scene.write_scene(path)
        for path in self.cameras_out:
            scene.write_cameras(path)
        if self.report is not None:
            scene.write_report(self.report)
        tell_about(scene)
        tell(f"Wrote {', '.join(str(path) for path in self.output)}.")
        return 0

    def _of_photos(self) -> "Reconstruction":
        with progress_line() as progress:
            progress("loading the program", 0.0)
            from ..reconstruction import reconstruct

            return reconstruct(
                *self.photos.chosen(),
                cameras=self.photos.transforms or self.known.cameras,
                focal_px=self.known.focal,
                fov_degrees=self.known.fov,
                principal_point=self.known.principal_point,
                distortion=self.known.radial(),
                model=self.network.model,
                depth=self.network.depth,
                device=self.network.device,
                size=self.network.size,
                precision=self.network.precision,
                compile=self.network.compile,
                refine=self.refine,
                progress=progress,
            )

    def _of_capture(self) -> "CaptureReconstruction":
        assert self.photos.transforms is not None
        with progress_line() as progress:
            progress("loading the program", 0.0)
            from hisplat_models.checkpoints import load_model
            from hisplat_models.inference import prepare

            from ..capture_files import read_capture
            from ..capture_reconstruction import memory_bound, most_pairs, reconstruct_capture_files
            from ..capture_scene import PAIRS_BEGIN
            from ..reconstruction import choose_device
            from ..step_clock import Forecast

            capture = read_capture(self.photos.transforms)
            settings = self.capture.settings(self.network.size)
            count = len(capture.photos)
            tell(
                f"{count} photos: a scene of at most {most_pairs(count, settings)} pairs of them, "
                f"in up to about {memory_bound(capture, settings) / 1e9:.1f} GB of memory."
            )
            if count <= MOST_PHOTOS:
                tell("If they show one place, --frames makes a better scene of so few, refined.")
            options = self.network
            network = load_model(options.model, choose_device(options.device), options.depth)
            network = prepare(network, options.precision, options.compile)
            forecast = Forecast(progress, PAIRS_BEGIN, _tell_time)
            return reconstruct_capture_files(capture, network, settings, forecast)

    def _check(self) -> None:
        self.photos.check()
        if not self.photos.given:
            raise ValueError("No photos: give --left and --right, --views, or --transforms.")
        self.known.check()
        if self.photos.transforms is not None and self.known != CameraOptions():
            raise ValueError(
                "--transforms brings its cameras: leave out --cameras, --focal, --fov, "
                "--principal-point and --distortion."
            )
        self.capture.check()
        if self.photos.whole_capture:
            if self.refine not in (0, DEFAULT_REFINE):
                raise ValueError("--refine is for scenes of up to eight photos, not of captures.")
        elif self.capture != CaptureOptions():
            raise ValueError(
                "--most-pairs and --most-gaussians are for whole captures: --transforms without "
                "--frames."
            )
        check_least(0, {"--refine": self.refine})
        if not self.output:
            raise ValueError("Nothing to write: give --output a file.")
        for path in self.output:
            check_scene_out(path)
        for path in (*self.output, self.report):
            check_can_write(path)
        for path in self.cameras_out:
            check_cameras_out(path)


def tell_about(scene: "Reconstruction | CaptureReconstruction") -> None:
    """Warnings and the facts of a new scene."""
    for warning in scene.report.warnings:
        warn(warning)
    tell(scene.report.summary())


def _tell_time(seconds_left: float) -> None:
    """Unless one may as well wait."""
    if seconds_left > LONG_S:
        tell(f"About {seconds_left / 60:.0f} minutes to go; Ctrl+C ends without a trace.")
