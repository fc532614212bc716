"""The photos of one browser: upload buttons, thumbnails, changed over, added to."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import viser
from jaxtyping import UInt8

from .exchange import SceneSource, Upload
from .upload_limit import LARGEST_UPLOAD, limit_uploads, too_large

THUMBNAIL_LONG_SIDE = 160
GAP = 8
EMPTY_GRAY = 241
SIDES = ("Left", "Right")
IN_A_ROW = 2

Thumbnail = UInt8[np.ndarray, "_height _width 3"]


class PhotoSlots:
    """Upload buttons for two photos, one for further ones, and what came through them.

    Args:
        client: The browser.
        source: Reads photos.
        lock: Of the browser's page; held by callbacks.
        on_change: Called with the lock held when a photo came, or with why one was refused.
    """

    def __init__(
        self,
        client: viser.ClientHandle,
        source: SceneSource,
        lock: threading.RLock,
        on_change: Callable[[str | None], None],
    ) -> None:
        self._source = source
        self._lock = lock
        self._on_change = on_change
        limit_uploads(client, self._refused)
        gui = client.gui
        self._most_photos = source.offer.most_photos
        self._slots = [_Slot() for _ in SIDES]
        self._buttons: list[viser.GuiUploadButtonHandle] = []
        for side, name in enumerate(SIDES):
            button = _upload_button(gui, f"{name} photo")
            button.on_upload(partial(self._side_chosen, button, side))
            self._buttons.append(button)
        self._thumbnails = gui.add_image(_in_rows([None, None]), visible=False)
        self._swap = gui.add_button(
            "Swap", icon=viser.Icon.ARROWS_EXCHANGE, color="gray", visible=False
        )
        self._swap.on_click(self._swapped)
        # Upload buttons cannot be hidden, but folders can.
        with gui.add_folder("More photos", expand_by_default=False, visible=False) as self._further:
            self._more = _upload_button(gui, "One more photo")
            self._more.on_upload(self._more_chosen)
            self._buttons.append(self._more)
            self._remove = gui.add_button(
                "Remove the last one", icon=viser.Icon.MINUS, color="gray", visible=False
            )
            self._remove.on_click(self._last_removed)

    @property
    def empty(self) -> bool:
        """Whether there is no photo yet."""
        return all(slot.upload is None for slot in self._slots)

    @property
    def uploads(self) -> tuple[Upload, ...] | None:
        """All photos, the left and the right one first; None while one of these is missing."""
        uploads = tuple(slot.upload for slot in self._slots if slot.upload is not None)
        return uploads if len(uploads) == len(self._slots) else None

    def fill(self, uploads: Sequence[Upload]) -> None:
        """Takes photos that were not uploaded; the caller holds the lock."""
        self._slots[:] = [
            _Slot(upload, self._source.thumbnail(upload, THUMBNAIL_LONG_SIDE)) for upload in uploads
        ]
        self._show_thumbnails()

    def clear(self) -> None:
        """Forgets the photos; the caller holds the lock."""
        self._slots[:] = [_Slot() for _ in SIDES]

    def _side_chosen(
        self, button: viser.GuiUploadButtonHandle, side: int, event: viser.GuiEvent
    ) -> None:
        try:
            slot, refused = self._read(button), None
        except (ValueError, OSError) as error:
            slot, refused = _Slot(), str(error)
        with self._lock:
            self._slots[side] = slot
            self._show_thumbnails()
            self._on_change(refused)

    def _more_chosen(self, event: viser.GuiEvent) -> None:
        try:
            slot = self._read(self._more)
        except (ValueError, OSError) as error:
            self._refused(str(error))
            return
        with self._lock:
            if len(self._slots) < self._most_photos:
                self._slots.append(slot)
            self._show_thumbnails()
            self._on_change(None)

    def _last_removed(self, event: viser.GuiEvent) -> None:
        with self._lock:
            del self._slots[max(len(SIDES), len(self._slots) - 1) :]
            self._show_thumbnails()
            self._on_change(None)

    def _read(self, button: viser.GuiUploadButtonHandle) -> "_Slot":
        """What came through a button.

        Raises:
            ValueError, OSError: saying why it is refused.
        """
        upload = Upload(button.value.name, button.value.content)
        if len(upload.content) > LARGEST_UPLOAD:
            raise ValueError(too_large(upload.name, len(upload.content)))
        return _Slot(upload, self._source.thumbnail(upload, THUMBNAIL_LONG_SIDE))

    def _refused(self, reason: str) -> None:
        with self._lock:
            self._on_change(reason)

    def _swapped(self, event: viser.GuiEvent) -> None:
        with self._lock:
            self._slots[:2] = reversed(self._slots[:2])
            self._show_thumbnails()
            self._on_change(None)

    def _show_thumbnails(self) -> None:
        thumbnails = [slot.thumbnail for slot in self._slots]
        self._thumbnails.visible = self._swap.visible = any(t is not None for t in thumbnails)
        self._thumbnails.image = _in_rows(thumbnails)
        self._further.visible = self.uploads is not None and self._most_photos > len(SIDES)
        self._more.disabled = len(self._slots) >= self._most_photos
        self._remove.visible = len(self._slots) > len(SIDES)


@dataclass(frozen=True)
class _Slot:
    """A photo, or a place for one."""

    upload: Upload | None = None
    thumbnail: Thumbnail | None = None


def _upload_button(gui: viser.GuiApi, label: str) -> viser.GuiUploadButtonHandle:
    kinds = "image/*,.heic,.heif"
    return gui.add_upload_button(label, icon=viser.Icon.PHOTO_UP, mime_type=kinds)


def _in_rows(thumbnails: Sequence[Thumbnail | None]) -> Thumbnail:
    """Two thumbnails in a row, each centred in a light square; an empty one for a missing photo."""
    side = THUMBNAIL_LONG_SIDE
    squares = []
    for thumbnail in thumbnails:
        square = np.full((side, side, 3), EMPTY_GRAY, dtype=np.uint8)
        if thumbnail is not None:
            height, width = thumbnail.shape[:2]
            y, x = (side - height) // 2, (side - width) // 2
            square[y : y + height, x : x + width] = thumbnail
        squares.append(square)
    squares += [np.full_like(squares[0], 255)] * (-len(squares) % IN_A_ROW)
    gap = np.full((side, GAP, 3), 255, dtype=np.uint8)
    rows = [
        np.concatenate([left, gap, right], axis=1)
        for left, right in zip(squares[::IN_A_ROW], squares[1::IN_A_ROW], strict=True)
    ]
    below = np.full((GAP, rows[0].shape[1], 3), 255, dtype=np.uint8)
    parts = [part for row in rows for part in (below, row)]
    return np.concatenate(parts[1:], axis=0)
