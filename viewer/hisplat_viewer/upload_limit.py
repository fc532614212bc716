"""Uploads that are too large are refused when they are announced, not when they are there.

viser keeps the parts of an upload until the last one came and has no limit. A browser announces
an upload's size first; the announcement is heard right after viser has noted it, and the note is
struck out again. Parts of an upload that is not noted are dropped by viser. What follows relies on
the note's place inside viser, which ``tests/viewer/test_server_uploads.py`` watches.
"""

import asyncio
from collections.abc import Callable

import viser
from viser import _messages

LARGEST_UPLOAD = 64 * 1024 * 1024
"""Bytes; the largest phone photos have about 30 MB."""
MOST_UPLOADS = 2
"""At a time, by one browser: it has two buttons."""


def too_large(name: str, size_bytes: int) -> str:
    """What the user is told about a file that is refused."""
    size, most = size_bytes / 2**20, LARGEST_UPLOAD // 2**20
    return f"{name} has {size:.0f} MB; at most {most} MB are accepted."


def limit_uploads(client: viser.ClientHandle, on_refused: Callable[[str], None]) -> None:
    """Refuses a browser's uploads that are too large, or too many at a time.

    Args:
        client: The browser; it must have no upload button yet.
        on_refused: Told the reason, on a thread of its own.
    """
    noted = client.gui._current_file_upload_states
    connection = client._websock_connection

    def refuse(button: str | None, transfer: str, size_bytes: int, reason: str) -> None:
        noted.pop(transfer, None)
        # Ends the browser's own notice of an upload under way.
        end = _messages.FileTransferPartAck(button, transfer, size_bytes, size_bytes)
        connection.queue_message(end)
        asyncio.get_running_loop().run_in_executor(None, on_refused, reason)

    def announced(_: int, message: _messages.FileTransferStartUpload) -> None:
        about = message.source_component_uuid, message.transfer_uuid, message.size_bytes
        if message.transfer_uuid not in noted:
            return
        if not 0 < message.size_bytes <= LARGEST_UPLOAD:
            refuse(*about, too_large(message.filename, message.size_bytes))
        elif len(noted) > MOST_UPLOADS:
            refuse(*about, "Wait until the other photos are there.")

    def part_came(_: int, message: _messages.FileTransferPart) -> None:
        state = noted.get(message.transfer_uuid)
        if state is not None and state["transferred_bytes"] > state["total_bytes"]:
            about = message.source_component_uuid, message.transfer_uuid, state["total_bytes"]
            refuse(*about, f"{state['filename']} is longer than announced.")

    connection.register_handler(_messages.FileTransferStartUpload, announced)
    connection.register_handler(_messages.FileTransferPart, part_came)
