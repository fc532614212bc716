"""``hisplat render``: pictures, depth maps and videos of a scene file."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ..defaults import LARGEST_SIZE
from .console import progress_line, tell
from .paths import check_can_write
from .render_views import Views, home_views, views_of_file
from .scene_options import SceneOptions

if TYPE_CHECKING:
    from hisplat_data_tools.cameras_json import ImageCamera
    from hisplat_models.cameras import Cameras

    from ..drawing import SceneDrawer

VIDEO_ENDINGS = (".mp4", ".webm", ".gif")
OTHER_ENDINGS = (".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avi", ".mov", ".mkv")
"""Of pictures and videos that are not written; whoever gives one means no folder."""

MOST_DEGREES = 3600

PathName = Literal["between", "wobble", "orbit", "spline"]
UpAxis = Literal["+x", "-x", "+y", "-y", "+z", "-z"]


@dataclass(frozen=True)
class Render:
    """Draw a scene: pictures as seen by the cameras of a file, or a video along a path.

    Where no cameras are known, the scene is seen as the page first shows it.

    For example:

      hisplat render scene.ply --cameras cameras.json --output pictures
      hisplat render scene.ply --cameras cameras.json --only 003.jpg --output view.png
      hisplat render scene.ply --path wobble --output scene.mp4
      hisplat render others.splat --output others.png
      hisplat render scene.ply --cameras keyframes.json --path spline --seconds 8 --output f.webm
    """

    scene: Annotated[Path, tyro.conf.Positional]
    """A .ply of this program or any other, a .splat or .spz."""
    output: Path
    """A folder for PNG files named after the photos, one .png for a single view, or a video: .mp4,
    .webm or .gif."""
    cameras: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A cameras.json or transforms.json in the scene's world frame. By default scene.cameras.json
    beside scene.ply, which `hisplat reconstruct --cameras-out scene.cameras.json` writes, else the
    view with which the page begins."""
    only: tuple[str, ...] = ()
    """Use only the views with these file names."""
    up: UpAxis = "-y"
    """Without cameras: which axis of the scene points up. Photos' scenes have y down."""
    path: PathName | None = None
    """Move the camera: between two views and back, wobble or orbit in front of the scene, or fly
    through all views (spline). Videos go between the first pair of views unless told otherwise;
    they wobble where there is but one."""
    seconds: float = 4.0
    """Length of the path."""
    fps: float = 30.0
    """Frames per second of the path."""
    degrees: Annotated[float | None, tyro.conf.arg(metavar="DEG")] = None
    """How far wobble (3) and orbit (15) turn to each side; an orbit of 360 goes all round."""
    show: Literal["color", "depth"] = "color"
    """Draw colours, or depth as colours (near red, far blue)."""
    save_depth: bool = False
    """Also write the depth of each picture: .npy in world units, and a 16-bit .depth.png in
    thousandths of them (or the step that its text "depth_step" states)."""
    size: Annotated[int | None, tyro.conf.arg(metavar="PX")] = None
    """Long side of the pictures; by default that of the photos."""
    background: Annotated[str, tyro.conf.arg(metavar="COLOR")] = "black"
    """A name such as white, or #rrggbb."""
    part: Annotated[SceneOptions, tyro.conf.arg(name="")] = field(default_factory=SceneOptions)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to draw."""

    def run(self) -> int:
        """Writes the pictures or the video; 0 when done."""
        self._check()
        with progress_line() as progress:
            progress("loading the program", 0.0)
            from PIL import ImageColor

            from hisplat_data_tools.cameras_json import read_cameras
            from hisplat_data_tools.scene_files import read_scene

            from ..drawing import SceneDrawer
            from ..reconstruction import choose_device

            background = ImageColor.getrgb(self.background)[:3]
            file = self._camera_file()
            views = None if file is None else views_of_file(read_cameras(file), self.only)
            device = choose_device(self.device)
            whole = read_scene(self.scene)
            views = views or home_views(whole, self.up)
            drawer = SceneDrawer(self.part.apply(whole), device, background)
            paths = [] if self._moves else self._paths(views.names)
            if self._moves:
                told = f"{self._write_path(drawer, views, progress)} frames"
            else:
                self._write_views(drawer, views, paths, progress)
                told = f"{len(paths)} picture{'s' if len(paths) > 1 else ''}"
        tell(f"Wrote {told} to {self.output}.")
        return 0

    @property
    def _is_video(self) -> bool:
        return self.output.suffix.lower() in VIDEO_ENDINGS

    @property
    def _is_file(self) -> bool:
        return self._is_video or self.output.suffix.lower() == ".png"

    @property
    def _moves(self) -> bool:
        return self._is_video or self.path is not None

    @property
    def _frames(self) -> int:
        return max(1, round(self.seconds * self.fps))

    def _check(self) -> None:
        if self.size is not None and not 1 <= self.size <= LARGEST_SIZE:
            raise ValueError(f"Expected a --size of 1 to {LARGEST_SIZE}, got {self.size}.")
        if not 0 < self.fps <= 1000 or not 0 < self.seconds <= 3600:
            raise ValueError("Expected --fps up to 1000 and --seconds up to 3600, above 0.")
        if self.output.suffix.lower() in OTHER_ENDINGS:
            raise ValueError(
                f"Cannot write {self.output}: pictures are .png, videos {', '.join(VIDEO_ENDINGS)}."
            )
        if self._is_file:
            check_can_write(self.output)
        if self.degrees is not None and self.path not in ("wobble", "orbit"):
            raise ValueError("--degrees belongs to --path wobble and --path orbit.")
        if self.degrees is not None and not abs(self.degrees) <= MOST_DEGREES:
            raise ValueError(f"Expected --degrees up to {MOST_DEGREES}, got {self.degrees:g}.")
        if self._moves and self.save_depth:
            raise ValueError("--save-depth is for pictures, not for paths.")
        if self.path is not None and not self._is_video and self.output.suffix:
            raise ValueError(
                f"Cannot tell the format of {self.output}: expected {', '.join(VIDEO_ENDINGS)}, or "
                "a folder for the frames of the path."
            )

    def _camera_file(self) -> Path | None:
        """The file of the cameras, if there is one and it is not asked to do without."""
        beside = self.scene.with_name(f"{self.scene.name.split('.')[0]}.cameras.json")
        file = self.cameras or (beside if beside.is_file() else None)
        if file is not None:
            if self.up != "-y":
                raise ValueError(f"--up is for scenes without cameras; those of {file} are taken.")
            return file
        asked = "--only" if self.only else f"--path {self.path}"
        if self.only or self.path in ("between", "spline"):
            raise ValueError(
                f"{asked} needs cameras, and none are known of {self.scene.name}: give --cameras "
                f"FILE (`hisplat reconstruct --cameras-out {beside.name}` writes one that is found "
                "by itself), or choose --path wobble or orbit."
            )
        return None

    def _write_views(
        self,
        drawer: "SceneDrawer",
        views: Views,
        paths: list[Path],
        progress: Callable[[str, float], None],
    ) -> None:
        from hisplat_data_tools.atomic_write import write_atomically
        from hisplat_data_tools.cameras_json import to_cameras
        from hisplat_data_tools.depth_maps import color_depth, to_depth_png_bytes, to_npy_bytes

        for i, (name, view, path) in enumerate(zip(views.names, views.cameras, paths, strict=True)):
            progress(f"drawing {name}", i / len(paths))
            camera = to_cameras([view], 0.1, 100.0)[0]
            drawing = drawer.draw(camera, self._size(view))
            pixels = drawing.pixels
            if self.show == "depth":
                near, _, far = drawer.depth_range(camera, self._size(view))
                pixels = color_depth(drawing.depth, near, far)
            write_atomically(path, png_bytes(pixels))
            if self.save_depth:
                write_atomically(path.with_suffix(".npy"), to_npy_bytes(drawing.depth))
                write_atomically(path.with_suffix(".depth.png"), to_depth_png_bytes(drawing.depth))

    def _write_path(
        self,
        drawer: "SceneDrawer",
        views: Views,
        progress: Callable[[str, float], None],
    ) -> int:
        from hisplat_data_tools.atomic_write import write_atomically
        from hisplat_data_tools.video import write_video

        size = self._size(views.cameras[0])
        cameras = self._cameras(drawer, views, size)
        frames = drawer.frames(cameras, size, self.show, progress)
        if self._is_video:
            return write_video(self.output, frames, self.fps)
        self._make_folder()
        for i, frame in enumerate(frames):
            write_atomically(self.output / f"frame_{i:05d}.png", png_bytes(frame))
        return self._frames

    def _cameras(self, drawer: "SceneDrawer", views: Views, size: tuple[int, int]) -> "Cameras":
        """A camera a frame."""
        from hisplat_data_tools.cameras_json import to_cameras

        from .. import camera_paths

        kind = self.path or ("between" if len(views.pair) > 1 else "wobble")
        if kind == "spline":
            return camera_paths.spline(to_cameras(views.cameras, 0.1, 100.0), self._frames)
        cameras = to_cameras(views.pair, 0.1, 100.0)
        if kind == "between":
            return camera_paths.between(cameras, self._frames)
        camera = camera_paths.middle(cameras)
        _, focus, _ = drawer.depth_range(camera, size)
        if kind == "orbit":
            degrees = camera_paths.ORBIT_DEGREES if self.degrees is None else self.degrees
            return camera_paths.orbit(camera, focus, self._frames, degrees)
        degrees = camera_paths.WOBBLE_DEGREES if self.degrees is None else self.degrees
        return camera_paths.wobble(camera, focus, self._frames, degrees)

    def _paths(self, names: Sequence[str]) -> list[Path]:
        if self._is_file:
            if len(names) != 1:
                raise ValueError(
                    f"{self.output} is one picture, but {len(names)} views are to be drawn: "
                    "choose one with --only, or give a folder."
                )
            return [self.output]
        paths = [self.output / f"{Path(name).stem}.png" for name in names]
        if len(set(paths)) < len(paths):
            raise ValueError("There are photos of the same name: choose with --only.")
        self._make_folder()
        return paths

    def _make_folder(self) -> None:
        if self.output.exists() and not self.output.is_dir():
            raise ValueError(f"{self.output} is a file; expected a folder, a .png or a video.")
        self.output.mkdir(parents=True, exist_ok=True)

    def _size(self, view: "ImageCamera") -> tuple[int, int]:
        scale = 1.0 if self.size is None else self.size / max(view.width, view.height)
        return max(1, round(view.height * scale)), max(1, round(view.width * scale))


def png_bytes(pixels: object) -> bytes:
    """The content of a .png of 8-bit RGB."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()
