"""Options that several commands share."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ..defaults import DEFAULT_MODEL, DEFAULT_SIZE, MOST_GAUSSIANS, MOST_PAIRS, MOST_PHOTOS
from ..option_bounds import check_least

if TYPE_CHECKING:
    from hisplat_data_tools.distortion import RadialDistortion

    from ..capture_scene import CaptureSettings


@dataclass(frozen=True)
class PhotoOptions:
    """Which photos: two, up to eight, or frames of a capture with known cameras."""

    left: Annotated[Path | None, tyro.conf.arg(metavar="PHOTO")] = None
    """First photo (JPEG, PNG, WebP, …; EXIF rotation is applied)."""
    right: Annotated[Path | None, tyro.conf.arg(metavar="PHOTO")] = None
    """Second photo of the same scene, taken a step to the side."""
    views: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="PHOTO...")] = ()
    """Instead of --left and --right: two to eight photos of one place. The first one's camera is
    the world. Time and memory grow with the number of pairs."""
    transforms: Annotated[Path | None, tyro.conf.arg(metavar="TRANSFORMS.JSON")] = None
    """Instead of photos: a capture in nerfstudio's format (or a cameras.json), of which --frames
    are taken with their cameras; without --frames, hisplat reconstruct takes the whole capture."""
    frames: Annotated[tuple[int, ...], tyro.conf.arg(metavar="N...")] = ()
    """Which frames of --transforms, two to eight, counted from 0 in the file's order."""

    @property
    def whole_capture(self) -> bool:
        """Whether all frames of a capture are meant, however many there are."""
        return self.transforms is not None and not self.frames

    @property
    def given(self) -> bool:
        """Whether there are any."""
        return self != PhotoOptions()

    def check(self) -> None:
        """Refuses options that contradict each other.

        Raises:
            ValueError: naming them.
        """
        if (self.left is None) != (self.right is None):
            raise ValueError("Give both --left and --right, or neither.")
        ways = [self.left is not None, bool(self.views), self.transforms is not None]
        if sum(ways) > 1:
            raise ValueError("Give either --left and --right, or --views, or --transforms.")
        if self.frames and self.transforms is None:
            raise ValueError("--frames needs --transforms: frames of which capture?")
        if len(set(self.frames)) < len(self.frames):
            raise ValueError("--frames names a frame twice: choose different ones.")
        count = max(len(self.views), len(self.frames))
        if (self.views or self.frames) and not 2 <= count <= MOST_PHOTOS:
            raise ValueError(
                f"Expected two to {MOST_PHOTOS} photos, got {count}. More photos need known "
                "cameras: hisplat reconstruct --transforms without --frames takes whole captures."
            )

    def chosen(self) -> tuple[Path, ...]:
        """The photos' paths.

        Raises:
            ValueError: for frames that the file does not have, or an unreadable file.
        """
        if self.transforms is not None:
            return _frames(self.transforms, self.frames)
        if self.left is None or self.right is None:
            return self.views
        return self.left, self.right


@dataclass(frozen=True)
class CameraOptions:
    """What is known about the cameras; by default they are estimated from the photos."""

    cameras: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Known cameras: a cameras.json, or nerfstudio's transforms.json. It may describe many photos;
    those meant are found by their file names. The scene is then in its world frame."""
    focal: Annotated[float | None, tyro.conf.arg(metavar="PX")] = None
    """Focal length of all photos in pixels. By default from EXIF, else a typical phone's."""
    fov: Annotated[float | None, tyro.conf.arg(metavar="DEG")] = None
    """Horizontal field of view of the photos in degrees, instead of --focal; where some are
    upright and some are not, that of the first one."""
    principal_point: Annotated[tuple[float, float] | None, tyro.conf.arg(metavar="X Y")] = None
    """Where the lens's axis meets all photos, in pixels from their upper left corner, as OpenCV,
    COLMAP and nerfstudio define cx and cy. By default the middle."""
    distortion: Annotated[tuple[float, ...], tyro.conf.arg(metavar="K1 [K2]")] = ()
    """Radial distortion of the lens that took all photos, as OpenCV, COLMAP and nerfstudio define
    k1 and k2. Photos are undistorted first; cameras are those of the undistorted photos."""

    def check(self) -> None:
        """Refuses options that contradict each other.

        Raises:
            ValueError: naming them.
        """
        if self.focal is not None and self.fov is not None:
            raise ValueError("Give either --focal or --fov, not both.")
        lens = self.focal, self.fov, self.principal_point
        if self.cameras is not None and any(value is not None for value in lens):
            raise ValueError(
                "--cameras brings its own lenses: leave out --focal, --fov and --principal-point."
            )
        self.radial()

    def radial(self) -> "RadialDistortion | None":
        """The lens's distortion, if any is given.

        Raises:
            ValueError: for too many coefficients.
        """
        from hisplat_data_tools.distortion import RadialDistortion

        return RadialDistortion.of(self.distortion)


@dataclass(frozen=True)
class CaptureOptions:
    """Bounds of a scene of a whole capture (--transforms without --frames)."""

    most_pairs: int = MOST_PAIRS
    """Reconstruct at most so many pairs of its photos: the time grows with them."""
    most_gaussians: int = MOST_GAUSSIANS
    """Keep at most so many Gaussians: memory and files grow with them."""

    def check(self) -> None:
        """Refuses impossible bounds.

        Raises:
            ValueError: naming them.
        """
        bounds = {"--most-pairs": self.most_pairs, "--most-gaussians": self.most_gaussians}
        check_least(1, bounds)

    def settings(self, size: int) -> "CaptureSettings":
        """What the library takes; ``size`` is the photos' long side in pixels."""
        from ..capture_fusion import FusionSettings
        from ..capture_pairs import PairSettings
        from ..capture_scene import CaptureSettings

        return CaptureSettings(
            size, PairSettings(most=self.most_pairs), FusionSettings(most=self.most_gaussians)
        )


@dataclass(frozen=True)
class NetworkOptions:
    """Which network works, where, and how finely."""

    model: Annotated[str, tyro.conf.arg(metavar="NAME|PATH|hf://…")] = DEFAULT_MODEL
    """A bundled network, a .safetensors file that `hisplat train`, `hisplat compress` or `hisplat
    convert` wrote, or one on the Hugging Face Hub:
    hf://OWNER/REPO/PATH/FILE.safetensors[@REVISION]."""
    depth: Literal["fast", "balanced", "full"] = "full"
    """How much of an elastic network runs: `hisplat compress --method st` or gkt makes them."""
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


def _frames(path: Path, frames: tuple[int, ...]) -> tuple[Path, ...]:
    from hisplat_data_tools.cameras_json import read_cameras

    file = read_cameras(path)
    for frame in frames:
        if not 0 <= frame < len(file.images):
            raise ValueError(f"{path} has frames 0 to {len(file.images) - 1}, not {frame}.")
    return tuple(file.photo_path(file.images[frame]) for frame in frames)
