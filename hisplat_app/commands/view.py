"""``hisplat-view``: a scene in the browser, from photos or from a file."""

import functools
import threading
import webbrowser
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ..defaults import DEFAULT_REFINE
from ..option_bounds import check_least
from .console import progress_line, tell
from .options import CameraOptions, NetworkOptions, PhotoOptions
from .paths import check_can_write, check_scene_out
from .reconstruct import tell_about

if TYPE_CHECKING:
    from hisplat_viewer import ViewerServer

    from ..reconstruction import Preview, Reconstruction
    from ..reconstruction_session import ReconstructionRequest, ReconstructionSession

DEMO = Path(__file__).resolve().parents[1] / "demo"


@dataclass(frozen=True)
class View:
    """Make a 3D scene of photos, or open one, and walk around in it in the browser.

    Without any the page opens empty; photos can be uploaded there in any case. Several browsers
    may be connected, each with its own photos and scenes. Ctrl+C ends the program.

    For example:

      hisplat-view --left a.jpg --right b.jpg
      hisplat-view --views a.jpg b.jpg c.jpg
      hisplat-view --demo
      hisplat-view scene.ply
      hisplat-view --nerfstudio outputs/room/hisplat/2026-11-28_120000/config.yml
      hisplat-view --left 003.jpg --right 006.jpg --cameras cameras.json --export fox.ply
    """

    scene: Annotated[Path | None, tyro.conf.Positional] = None
    """A scene to open instead of photos: .ply (any 3DGS layout, compressed too), .splat or .spz."""
    nerfstudio: Annotated[Path | None, tyro.conf.arg(metavar="CONFIG.YML")] = None
    """A scene that nerfstudio trained (hisplat, splatfacto and methods like them): config.yml of a
    run. The last checkpoint is shown; no code that the files may hold is run."""
    demo: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show the bundled example instead of own photos."""
    host: str = "127.0.0.1"
    """Address to listen on. 0.0.0.0 lets others in your network use the page, with the address that
    is printed then: a token in it keeps everybody else out. What is sent can be read on the way; an
    SSH tunnel to 127.0.0.1 is safer."""
    port: int = 8080
    """Port to listen on; if it is taken, the next free one."""
    open: bool = True
    """Open the browser."""
    refine: Annotated[int, tyro.conf.arg(metavar="STEPS")] = DEFAULT_REFINE
    """Fit scenes to their photos by so many steps; the page shows them unrefined meanwhile."""
    export: Annotated[Path | None, tyro.conf.arg(metavar="SCENE.PLY")] = None
    """Also write the scene as .ply."""
    photos: Annotated[PhotoOptions, tyro.conf.arg(name="")] = field(default_factory=PhotoOptions)
    known: Annotated[CameraOptions, tyro.conf.arg(name="")] = field(default_factory=CameraOptions)
    network: Annotated[NetworkOptions, tyro.conf.arg(name="")] = field(
        default_factory=NetworkOptions
    )

    def run(self) -> int:
        """Serves the page until Ctrl+C; 0 then."""
        self._check()
        with progress_line() as progress:
            progress("loading the program", 0.0)
            from hisplat_viewer import ViewerServer

            from ..page_files import PageFiles
            from ..page_scenes import (
                PageScenes,
                demo_photos,
                file_scene,
                page_scene,
                page_writers,
                photos_of,
                preview_scene,
            )
            from ..reconstruction import choose_device
            from ..reconstruction_session import ReconstructionSession

        choose_device(self.network.device)  # refuses before anything starts
        request = self._request()
        opened = None
        if self.scene is not None:
            from hisplat_data_tools.scene_files import read_scene

            name = self.scene.name
            opened = file_scene(read_scene(self.scene), name), name
        if self.nerfstudio is not None:
            from ..nerfstudio_runs import read_run

            name = self.nerfstudio.resolve().parent.name
            opened = file_scene(read_run(self.nerfstudio), f"the run {name}"), name
        with (
            ReconstructionSession(
                self.network.model,
                self.network.device,
                self.network.size,
                warm_up=request is None,
                precision=self.network.precision,
                compile=self.network.compile,
                depth=self.network.depth,
                refine=self.refine,
            ) as session,
            ViewerServer(
                PageScenes(session, self.network.model, self.network.size),
                page_writers(),
                self.host,
                self.port,
                saver=PageFiles(),
            ) as server,
        ):
            announce = functools.cache(lambda: self._announce(server))  # once

            def show_unrefined(so_far: "Preview") -> None:
                if so_far.levels == so_far.levels_in_all:
                    server.preview(preview_scene(so_far))
                    announce()

            finished = False
            try:
                if request is not None:
                    request = replace(request, preview=show_unrefined)
                    scene = self._reconstructed(session, request)
                    title = " + ".join(photo.name for photo in request.photos)
                    photos = demo_photos() if self.demo else photos_of(request)
                    server.show(page_scene(scene), title, photos)
                if opened is not None:
                    server.show(*opened)
                finished = True
                announce()
                server.wait()
            except KeyboardInterrupt:
                if not finished:
                    raise
                tell("Bye.")
        return 0

    def _announce(self, server: "ViewerServer") -> None:
        tell(f"Open {server.url} in a browser. Ctrl+C ends.")
        if server.url_elsewhere is not None:
            tell(
                f"On other machines: {server.url_elsewhere}\n"
                "Whoever has this address can use the page: pass it on with care."
            )
        if self.open:
            # Some systems' openers wait until the browser is closed.
            threading.Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()

    def _check(self) -> None:
        self.known.check()
        if not 0 <= self.port <= 65535:
            raise ValueError(f"Expected a --port of 0 to 65535, got {self.port}.")
        check_least(0, {"--refine": self.refine})
        if self.export is not None:
            check_scene_out(self.export)
        check_can_write(self.export)
        self.photos.check()
        if self.photos.whole_capture:
            raise ValueError(
                "The page makes scenes of up to eight photos: name them by --frames, or make a "
                "scene of the whole capture with hisplat reconstruct and open that."
            )
        scenes = [self.scene is not None, self.nerfstudio is not None]
        if sum([*scenes, self.demo or self.photos.given]) > 1:
            raise ValueError("Give either a scene, or --nerfstudio, or photos, or --demo.")
        if self.scene is not None and self.export is not None:
            raise ValueError("To convert a scene, use hisplat export.")
        if self.nerfstudio is not None and self.export is not None:
            raise ValueError("To write a scene of nerfstudio's, use ns-export gaussian-splat.")
        if self.demo and (self.photos.given or self.known != CameraOptions()):
            raise ValueError("--demo brings its own photos and cameras.")
        if self.photos.transforms is not None and self.known != CameraOptions():
            raise ValueError(
                "--transforms brings its cameras: leave out --cameras, --focal, --fov, "
                "--principal-point and --distortion."
            )
        if not self.photos.given and not self.demo and self.known != CameraOptions():
            raise ValueError(
                "--cameras, --focal, --fov, --principal-point and --distortion describe --left and "
                "--right: give them."
            )
        if not self.photos.given and not self.demo and self.export is not None:
            raise ValueError("--export needs a scene: give --left and --right, or --demo.")

    def _request(self) -> "ReconstructionRequest | None":
        from ..reconstruction_session import ReconstructionRequest

        if self.demo:
            photos = DEMO / "left.jpg", DEMO / "right.jpg"
            return ReconstructionRequest(photos, cameras=DEMO / "cameras.json")
        if not self.photos.given:
            return None
        known = self.known
        cameras = self.photos.transforms or known.cameras
        return ReconstructionRequest(
            self.photos.chosen(),
            cameras,
            known.focal,
            known.fov,
            known.principal_point,
            known.radial(),
        )

    def _reconstructed(
        self, session: "ReconstructionSession", request: "ReconstructionRequest"
    ) -> "Reconstruction":
        with progress_line() as progress:
            scene = session.run("command line", request, progress)
        tell_about(scene)
        if self.export is not None:
            scene.write_scene(self.export)
            tell(f"Wrote {self.export}.")
        return scene
