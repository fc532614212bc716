"""Browsers made of nothing but the messages they send: what a page's server has to put up with."""

import itertools
import threading
import time
from collections.abc import Callable

import msgspec
import viser
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from hisplat_viewer import ViewerServer

WAIT_S = 30
PART_BYTES = 512 * 1024

_numbers = itertools.count()


class Visitor:
    """A connection that looks at the page, so that the server makes controls for it."""

    def __init__(self, server: ViewerServer) -> None:
        at = server.url.split("/")[2]
        self._known = set(server._panels)
        self._server = server
        self._connection = connect(
            f"ws://{at}/",
            origin=Origin(f"http://{at}"),
            subprotocols=[Subprotocol(f"viser-v{viser.__version__}")],
            compression=None,
            max_size=None,
            proxy=None,
        )
        self.closed = threading.Event()
        threading.Thread(target=self._read_on, daemon=True).start()
        self.send(
            "ViewerCameraMessage",
            wxyz=(1.0, 0.0, 0.0, 0.0),
            position=(0.0, 0.0, -1.0),
            fov=1.0,
            near=0.01,
            far=1000.0,
            image_height=48,
            image_width=64,
            look_at=(0.0, 0.0, 1.0),
            up_direction=(0.0, -1.0, 0.0),
        )
        until(lambda: bool(set(server._panels) - self._known), "the page")
        (self.number,) = set(server._panels) - self._known
        self.panel = server._panels[self.number]

    def send(self, kind: str, **values: object) -> None:
        self.send_bytes(msgspec.msgpack.encode({"type": kind, **values}))

    def send_bytes(self, content: bytes) -> None:
        self._connection.send(content)

    def announce(self, size: int, parts: int, side: int = 0, name: str = "photo.jpg") -> str:
        """Begins an upload; its name for ``send_part``."""
        transfer = f"transfer {next(_numbers)}"
        self.send(
            "FileTransferStartUpload",
            source_component_uuid=self._button(side),
            transfer_uuid=transfer,
            filename=name,
            mime_type="image/jpeg",
            part_count=parts,
            size_bytes=size,
        )
        return transfer

    def send_part(self, transfer: str, index: int, content: bytes, side: int = 0) -> None:
        self.send(
            "FileTransferPart",
            source_component_uuid=self._button(side),
            transfer_uuid=transfer,
            part_index=index,
            content=content,
        )

    def upload(self, content: bytes, side: int = 0, name: str = "photo.jpg") -> None:
        parts = [content[i : i + PART_BYTES] for i in range(0, len(content), PART_BYTES)]
        transfer = self.announce(len(content), len(parts), side, name)
        for index, part in enumerate(parts):
            self.send_part(transfer, index, part, side)

    def press(self, button: viser.GuiButtonHandle) -> None:
        self.send("GuiUpdateMessage", uuid=button._impl.uuid, updates={"value": True})

    @property
    def status(self) -> str:
        """What the page says, as HTML."""
        return self.panel._photos._status._text.content

    @property
    def bytes_on_the_way(self) -> int:
        """What the server holds of uploads that are not complete."""
        gui = self._server._server.get_clients()[self.number].gui
        states = gui._current_file_upload_states
        return sum(len(part) for state in states.values() for part in state["parts"].values())

    def leave(self) -> None:
        """Closes the connection and waits until the server has noticed."""
        self._connection.close()
        until(lambda: self.number not in self._server._panels, "that the page is gone")

    def _button(self, side: int) -> str:
        return self.panel._photos._photos._buttons[side]._impl.uuid

    def _read_on(self) -> None:
        try:
            for _ in self._connection:
                pass
        except ConnectionClosed:
            pass
        self.closed.set()


def until(done: Callable[[], bool], what: str) -> None:
    """Waits for something that other threads bring about."""
    deadline = time.monotonic() + WAIT_S
    while not done():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)
