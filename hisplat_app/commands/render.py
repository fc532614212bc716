"""``hisplat render``: pictures of a scene file."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from .console import progress_line, tell

if TYPE_CHECKING:
    from hisplat_data_tools.cameras_json import CameraFile, ImageCamera


@dataclass(frozen=True)
class Render:
    """Draw a scene as seen by the cameras of a file.

    For example:

      hisplat render scene.ply --cameras cameras.json --output pictures
      hisplat render scene.ply --cameras cameras.json --only 003.jpg --output view.png
    """

    scene: Annotated[Path, tyro.conf.Positional]
    """A Gaussian .ply of this program or any other."""
    cameras: Path
    """A cameras.json or transforms.json in the scene's world frame; all its views are drawn."""
    output: Path
    """A folder for PNG files named after the photos, or one .png for a single view."""
    only: tuple[str, ...] = ()
    """Draw only the views with these file names."""
    size: Annotated[int | None, tyro.conf.arg(metavar="PX")] = None
    """Long side of the pictures; by default that of the photos."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to draw."""

    def run(self) -> int:
        """Writes the pictures; 0 when done."""
        with progress_line() as progress:
            progress("loading the program", 0.0)
            import torch
            from PIL import Image

            from hisplat_data_tools.atomic_write import write_atomically
            from hisplat_data_tools.cameras_json import read_cameras, to_cameras
            from hisplat_data_tools.ply import read_ply
            from hisplat_models.rendering import create_renderer

            from ..reconstruction import choose_device

            views = self._chosen(read_cameras(self.cameras))
            paths = self._paths([name for name, _ in views])
            device = choose_device(self.device)
            gaussians = read_ply(self.scene).to(device)[None]
            renderer = create_renderer(device)
            for i, ((name, view), path) in enumerate(zip(views, paths, strict=True)):
                progress(f"drawing {name}", i / len(views))
                camera = to_cameras([view], 0.1, 100.0)[None].to(device)
                with torch.no_grad():
                    color = renderer(gaussians, camera, self._size(view)).color[0, 0]
                pixels = (color.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
                buffer = io.BytesIO()
                Image.fromarray(pixels).save(buffer, "png")
                write_atomically(path, buffer.getvalue())
        tell(f"Wrote {len(paths)} pictures to {self.output}.")
        return 0

    def _chosen(self, file: "CameraFile") -> "list[tuple[str, ImageCamera]]":
        """Names and cameras of the views to draw."""
        if self.only:
            return [(name, file.find(name)) for name in self.only]
        path = [(f"view_{i:04d}", view) for i, view in enumerate(file.trajectory)]
        return [(view.file, view) for view in file.images] + path

    def _paths(self, names: list[str]) -> list[Path]:
        if self.output.suffix.lower() == ".png":
            if len(names) != 1:
                raise ValueError(
                    f"{self.output} is one picture, but {self.cameras} has {len(names)} views: "
                    "choose one with --only, or give a folder."
                )
            return [self.output]
        if self.output.exists() and not self.output.is_dir():
            raise ValueError(f"{self.output} is a file; expected a folder or a .png.")
        paths = [self.output / f"{Path(name).stem}.png" for name in names]
        if len(set(paths)) < len(paths):
            raise ValueError(f"{self.cameras} has photos of the same name: choose with --only.")
        self.output.mkdir(parents=True, exist_ok=True)
        return paths

    def _size(self, view: "ImageCamera") -> tuple[int, int]:
        scale = 1.0 if self.size is None else self.size / max(view.width, view.height)
        return max(1, round(view.height * scale)), max(1, round(view.width * scale))
