"""The web server: one page for any number of browsers."""

import contextlib
import io
import logging
import socket
import threading
from collections.abc import Mapping

import viser

from .exchange import PhotoSet, SceneSource, SceneWriter
from .gate import MOST_BROWSERS, Gate, guarded, is_local, new_token
from .panel import Panel
from .saving import SceneSaver
from .scene import Scene
from .theme import set_theme, widen_phone_sheet

logger = logging.getLogger(__name__)

TITLE = "HiSplat"


class _PrivateServer(viser.ViserServer):
    """A viser server that does not open public tunnels, whatever a browser asks for."""

    def request_share_url(self, verbose: bool = True) -> str | None:
        logger.warning("Refused a browser's request to publish this page on the internet.")
        return None


class ViewerServer:
    """Serves the page until ``stop``; also a context manager.

    Args:
        source: Makes scenes from uploaded photos.
        writers: Makes a file from a scene, by file ending (".ply").
        host: Address to listen on. Where others than this machine reach it, browsers need the
            token that is part of ``url``.
        port: First port to try; the next free one is taken.
        most_browsers: How many may be connected at a time.
        saver: Makes cameras, depth maps, pictures and videos; None offers none of them.

    Raises:
        ValueError: if this machine has no such address.
        RuntimeError: if viser cannot be guarded.
    """

    def __init__(
        self,
        source: SceneSource,
        writers: Mapping[str, SceneWriter],
        host: str = "127.0.0.1",
        port: int = 8080,
        most_browsers: int = MOST_BROWSERS,
        saver: SceneSaver | None = None,
    ) -> None:
        _check_address(host)
        self._gate = Gate(None if is_local(host) else new_token(), most_browsers)
        self._source = source
        self._writers = dict(writers)
        self._saver = saver
        self._start_scene: tuple[Scene, str, PhotoSet | None] | None = None
        self._start_preview: Scene | None = None
        self._panels: dict[int, Panel] = {}
        self._gone: set[int] = set()  # browsers that left before they had a panel
        self._lock = threading.Lock()  # guards the four fields above
        self._stopped = threading.Event()
        # viser announces itself on stdout, with an address that not every browser can use.
        with contextlib.redirect_stdout(io.StringIO()), guarded(self._gate):
            self._server = _PrivateServer(host=host, port=port, label=TITLE, verbose=False)
        if self._gate.servers != 1:
            self._server.stop()
            raise RuntimeError(
                f"viser {viser.__version__} starts its web server in an unknown way, so that "
                'nobody could be kept out. Use another: pip install "hisplat-app[viewer]"'
            )
        set_theme(self._server.gui)
        widen_phone_sheet(self._server.gui)
        self._server.scene.set_up_direction("-y")
        self._server.scene.world_axes.visible = False
        self._server.initial_camera.position = (0.0, 0.0, -1.0)
        self._server.initial_camera.look_at = (0.0, 0.0, 10.0)
        self._server.initial_camera.up = (0.0, -1.0, 0.0)
        self._server.on_client_connect(self._came)
        self._server.on_client_disconnect(self._left)

    @property
    def url(self) -> str:
        """The page's address for a browser on this machine, with the token if one is needed."""
        host = self._server.get_host()
        return self._address({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host))

    @property
    def url_elsewhere(self) -> str | None:
        """The page's address for browsers on other machines; None if they cannot reach it."""
        if self._gate.token is None:
            return None
        host = self._server.get_host()
        return self._address(socket.gethostname() if host in ("0.0.0.0", "::") else host)

    def show(
        self, scene: Scene, title: str = "First scene", photos: PhotoSet | None = None
    ) -> None:
        """Shows the scene to everybody who comes, and to those here who have none yet.

        Args:
            scene: What to show.
            title: Its name in the history.
            photos: What the source can make it of, for everybody to go on with; None if it cannot.
        """
        with self._lock:
            self._start_scene, self._start_preview = (scene, title, photos), None
            waiting = [panel for panel in self._panels.values() if not panel.has_scene]
        for panel in waiting:
            panel.show(scene, title, photos)

    def preview(self, scene: Scene) -> None:
        """Shows a scene to everybody who has none, until ``show`` brings the better one."""
        with self._lock:
            self._start_preview = scene
            waiting = list(self._panels.values())
        for panel in waiting:
            panel.preview(scene)

    def wait(self) -> None:
        """Returns when the server is stopped."""
        self._stopped.wait()

    def stop(self) -> None:
        """Closes all pages and ends the server's threads."""
        self._server.stop()
        self._stopped.set()

    def __enter__(self) -> "ViewerServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _address(self, host: str) -> str:
        token = self._gate.token
        host = f"[{host}]" if ":" in host else host
        query = "" if token is None else f"/?token={token}"
        return f"http://{host}:{self._server.get_port()}{query}"

    def _came(self, client: viser.ClientHandle) -> None:
        panel = Panel(client, self._source, self._writers, self._saver)
        with self._lock:
            self._panels[client.client_id] = panel
            start, preview = self._start_scene, self._start_preview
            has_left = client.client_id in self._gone
        if has_left:
            self._left(client)
        elif start is not None and not panel.has_scene:
            panel.show(*start)
        elif preview is not None:
            panel.preview(preview)

    def _left(self, client: viser.ClientHandle) -> None:
        with self._lock:
            panel = self._panels.pop(client.client_id, None)
            # viser calls this and `_came` on threads of their own, in any order.
            if panel is None:
                self._gone.add(client.client_id)
            else:
                self._gone.discard(client.client_id)
        if panel is not None:
            panel.close()


def _check_address(host: str) -> None:
    # viser would try a thousand ports and then wait for ever.
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
    except OSError as error:
        raise ValueError(f"Cannot listen on {host!r}: {error.strerror or error}.") from error
