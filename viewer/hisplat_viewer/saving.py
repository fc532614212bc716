"""What the page asks for when somebody takes a scene along: the seam to whoever makes the files."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import Gaussians

Progress = Callable[[str, float], None]
"""Called with the step just begun and the share of the work done, in [0, 1]; raises to cancel."""

CameraFormat = Literal["cameras.json", "transforms.json", "colmap.zip"]
PathName = Literal["between", "wobble", "orbit", "keyframes"]
VideoEnding = Literal[".mp4", ".gif", ".webm"]
Color = tuple[int, int, int]
"""8-bit sRGB."""


@dataclass(frozen=True)
class PhotoCameras:
    """The cameras of the photos as they were uploaded, before anything was cut off or resized.

    Attributes:
        names: File names; anything may be in them.
        sizes: (height, width) in pixels.
        cameras: Shape (view,), in the world frame of the scene.
    """

    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    cameras: Cameras


@dataclass(frozen=True)
class VideoPlan:
    """What a video shows.

    Attributes:
        path: How the camera moves.
        cameras: Shape (camera,): the ends for "between", the middle for "wobble" and "orbit", all
            of them for "keyframes".
        size: (height, width) in pixels.
        seconds: Length.
        ending: The format.
        background: Where nothing is.
        frames_per_second: Speed.
    """

    path: PathName
    cameras: Cameras
    size: tuple[int, int]
    seconds: float
    ending: VideoEnding
    background: Color = (255, 255, 255)
    frames_per_second: float = 30.0


@runtime_checkable
class SceneSaver(Protocol):
    """Makes the contents of files beside those of scenes; called on any thread.

    What cannot be made is refused with a ValueError that says why.
    """

    def camera_file(self, photos: PhotoCameras, gaussians: Gaussians, kind: CameraFormat) -> bytes:
        """The cameras of the photos; COLMAP's model also has points of the Gaussians."""
        ...

    def depth_maps(
        self,
        gaussians: Gaussians,
        cameras: Cameras,
        size: tuple[int, int],
        names: tuple[str, ...],
        progress: Progress,
    ) -> bytes:
        """A .zip with the z-depth from each of cameras (view,) as .npy and as 16-bit .png."""
        ...

    def still(
        self, gaussians: Gaussians, camera: Cameras, size: tuple[int, int], background: Color
    ) -> bytes:
        """A .png of what a camera of shape () sees."""
        ...

    def video(self, gaussians: Gaussians, plan: VideoPlan, progress: Progress) -> bytes:
        """The frames along a path in the plan's format."""
        ...
