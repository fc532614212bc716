"""``hisplat-view``: two photos to a scene in the browser."""

import threading
import webbrowser
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from .console import progress_line, tell
from .options import CameraOptions, NetworkOptions
from .paths import check_can_write, check_scene_out
from .reconstruct import tell_about

if TYPE_CHECKING:
    from ..reconstruction import Reconstruction
    from ..reconstruction_session import ReconstructionRequest, ReconstructionSession

DEMO = Path(__file__).resolve().parents[1] / "demo"


@dataclass(frozen=True)
class View:
    """Make a 3D scene of two photos and walk around in it in the browser.

    Without photos the page opens empty; photos can be uploaded there in any case. Several browsers
    may be connected, each with its own photos and scene. Ctrl+C ends the program.

    For example:

      hisplat-view --left a.jpg --right b.jpg
      hisplat-view --demo
      hisplat-view --left 003.jpg --right 006.jpg --cameras cameras.json --export fox.ply
    """

    left: Annotated[Path | None, tyro.conf.arg(metavar="PHOTO")] = None
    """First photo (JPEG, PNG, WebP, …; EXIF rotation is applied)."""
    right: Annotated[Path | None, tyro.conf.arg(metavar="PHOTO")] = None
    """Second photo of the same scene, taken a step to the side."""
    demo: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show the bundled example instead of own photos."""
    host: str = "127.0.0.1"
    """Address to listen on. 0.0.0.0 lets everybody in your network use the page."""
    port: int = 8080
    """Port to listen on; if it is taken, the next free one."""
    open: bool = True
    """Open the browser."""
    export: Annotated[Path | None, tyro.conf.arg(metavar="SCENE.PLY")] = None
    """Also write the scene as .ply."""
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
            from ..page_scenes import PageScenes, page_scene, page_writers
            from ..reconstruction import choose_device
            from ..reconstruction_session import ReconstructionSession

        choose_device(self.network.device)  # refuses before anything starts
        request = self._request()
        with (
            ReconstructionSession(
                self.network.model,
                self.network.device,
                self.network.size,
                warm_up=request is None,
                precision=self.network.precision,
                compile=self.network.compile,
            ) as session,
            ViewerServer(
                PageScenes(session), page_writers(), self.host, self.port, saver=PageFiles()
            ) as server,
        ):
            if request is not None:
                scene = self._reconstructed(session, request)
                server.show(page_scene(scene))
            try:
                tell(f"Open {server.url} in a browser. Ctrl+C ends.")
                if self.open:
                    # Some systems' openers wait until the browser is closed.
                    threading.Thread(
                        target=webbrowser.open, args=(server.url,), daemon=True
                    ).start()
                server.wait()
            except KeyboardInterrupt:
                tell("Bye.")
        return 0

    def _check(self) -> None:
        self.known.check()
        if self.export is not None:
            check_scene_out(self.export)
        check_can_write(self.export)
        if (self.left is None) != (self.right is None):
            raise ValueError("Give both --left and --right, or neither.")
        if self.demo and (self.left is not None or self.known != CameraOptions()):
            raise ValueError("--demo brings its own photos and cameras.")
        if self.left is None and not self.demo and self.known != CameraOptions():
            raise ValueError("--cameras, --focal and --fov describe --left and --right: give them.")
        if self.left is None and not self.demo and self.export is not None:
            raise ValueError("--export needs a scene: give --left and --right, or --demo.")

    def _request(self) -> "ReconstructionRequest | None":
        from ..reconstruction_session import ReconstructionRequest

        if self.demo:
            left, right = DEMO / "left.jpg", DEMO / "right.jpg"
            return ReconstructionRequest(left, right, cameras=DEMO / "cameras.json")
        if self.left is None or self.right is None:
            return None
        known = self.known
        return ReconstructionRequest(self.left, self.right, known.cameras, known.focal, known.fov)

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
