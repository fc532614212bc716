"""``hisplat export``: a scene file, and its cameras, in other formats."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .console import progress_line, tell
from .paths import check_cameras_out, check_can_write, check_scene_out
from .scene_options import SceneOptions


@dataclass(frozen=True)
class Export:
    """Convert a scene to other formats, whole or in part.

    The endings choose the formats: .ply, .compressed.ply, .splat, .spz, .glb (points). The world
    frame stays as it is.

    For example:

      hisplat export scene.ply --output scene.spz scene.splat
      hisplat export scene.ply --levels fine --min-opacity 0.5 --output points.glb
      hisplat export scene.ply --cameras cameras.json --cameras-out transforms.json sparse
    """

    scene: Annotated[Path, tyro.conf.Positional]
    """A .ply (any 3DGS layout, compressed too), .splat or .spz."""
    output: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE...")] = ()
    """Scene files to write."""
    cameras: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A cameras.json or transforms.json of the scene, for --cameras-out."""
    cameras_out: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE...")] = ()
    """Camera files to write: transforms.json (nerfstudio's), another .json (our own), or a folder
    (COLMAP's text model, with points of the finest level)."""
    part: Annotated[SceneOptions, tyro.conf.arg(name="")] = field(default_factory=SceneOptions)
    sh_degree: Literal[0, 1, 2, 3] = 3
    """Cut view-dependent colours above this degree; 0 leaves plain colours."""

    def run(self) -> int:
        """Writes the files; 0 when done."""
        self._check()
        with progress_line() as progress:
            progress("loading the program", 0.0)
            from dataclasses import replace

            from hisplat_data_tools.camera_files import write_camera_file
            from hisplat_data_tools.cameras_json import read_cameras
            from hisplat_data_tools.scene_files import read_scene, write_scene

            cameras = read_cameras(self.cameras) if self.cameras else None
            progress(f"reading {self.scene.name}", 0.1)
            gaussians = self.part.apply(read_scene(self.scene))
            bands = (self.sh_degree + 1) ** 2
            gaussians = replace(gaussians, harmonics=gaussians.harmonics[:, :bands])
            for i, path in enumerate(self.output):
                progress(f"writing {path.name}", 0.2 + 0.8 * i / len(self.output))
                write_scene(path, gaussians)
            if cameras is not None:
                for path in self.cameras_out:
                    write_camera_file(
                        path, cameras.images, cameras.pairs, cameras.near, cameras.far, gaussians
                    )
        written = ", ".join(str(p) for p in (*self.output, *self.cameras_out))
        tell(f"Wrote {gaussians.count:,} Gaussians: {written}.")
        return 0

    def _check(self) -> None:
        if not self.output and not self.cameras_out:
            raise ValueError("Nothing to write: give --output or --cameras-out.")
        if bool(self.cameras_out) != (self.cameras is not None):
            raise ValueError("--cameras and --cameras-out belong together: give both or neither.")
        for path in self.output:
            check_scene_out(path)
            check_can_write(path)
        for path in self.cameras_out:
            check_cameras_out(path)
