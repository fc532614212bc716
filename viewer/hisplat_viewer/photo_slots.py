"""The photos of one browser: upload buttons, thumbnails, left and right changed over."""

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

Thumbnail = UInt8[np.ndarray, "_height _width 3"]


class PhotoSlots:
    """Two upload buttons and what came through them.

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
        self._slots: list[_Slot] = []
        for side in SIDES:
            button = gui.add_upload_button(
                f"{side} photo", icon=viser.Icon.PHOTO_UP, mime_type="image/*,.heic,.heif"
            )
            slot = _Slot(button)
            button.on_upload(partial(self._photo_chosen, slot))
            self._slots.append(slot)
        self._thumbnails = gui.add_image(_side_by_side([None, None]), visible=False)
        self._swap = gui.add_button(
            "Swap", icon=viser.Icon.ARROWS_EXCHANGE, color="gray", visible=False
        )
        self._swap.on_click(self._swapped)

    @property
    def uploads(self) -> tuple[Upload | None, Upload | None]:
        """The left and the right photo, as far as they are there."""
        left, right = self._slots
        return left.upload, right.upload

    def fill(self, left: Upload, right: Upload) -> None:
        """Takes photos that were not uploaded; the caller holds the lock."""
        for slot, upload in zip(self._slots, (left, right), strict=True):
            slot.upload = upload
            slot.thumbnail = self._source.thumbnail(upload, THUMBNAIL_LONG_SIDE)
        self._show_thumbnails()

    def clear(self) -> None:
        """Forgets the photos; the caller holds the lock."""
        for slot in self._slots:
            slot.upload = slot.thumbnail = None

    def _photo_chosen(self, slot: "_Slot", event: viser.GuiEvent) -> None:
        file = slot.button.value
        upload = Upload(file.name, file.content)
        try:
            if len(upload.content) > LARGEST_UPLOAD:
                raise ValueError(too_large(upload.name, len(upload.content)))
            thumbnail = self._source.thumbnail(upload, THUMBNAIL_LONG_SIDE)
        except (ValueError, OSError) as error:
            with self._lock:
                slot.upload = slot.thumbnail = None
                self._show_thumbnails()
                self._on_change(str(error))
            return
        with self._lock:
            slot.upload, slot.thumbnail = upload, thumbnail
            self._show_thumbnails()
            self._on_change(None)

    def _refused(self, reason: str) -> None:
        with self._lock:
            self._on_change(reason)

    def _swapped(self, event: viser.GuiEvent) -> None:
        with self._lock:
            left, right = self._slots
            left.upload, right.upload = right.upload, left.upload
            left.thumbnail, right.thumbnail = right.thumbnail, left.thumbnail
            self._show_thumbnails()
            self._on_change(None)

    def _show_thumbnails(self) -> None:
        thumbnails = [slot.thumbnail for slot in self._slots]
        self._thumbnails.visible = self._swap.visible = any(t is not None for t in thumbnails)
        self._thumbnails.image = _side_by_side(thumbnails)


@dataclass
class _Slot:
    """One upload button and what came through it."""

    button: viser.GuiUploadButtonHandle
    upload: Upload | None = None
    thumbnail: Thumbnail | None = None


def _side_by_side(thumbnails: Sequence[Thumbnail | None]) -> Thumbnail:
    """Thumbnails in a row, each centred in a light square; an empty one for a missing photo."""
    side = THUMBNAIL_LONG_SIDE
    squares = []
    for thumbnail in thumbnails:
        square = np.full((side, side, 3), EMPTY_GRAY, dtype=np.uint8)
        if thumbnail is not None:
            height, width = thumbnail.shape[:2]
            y, x = (side - height) // 2, (side - width) // 2
            square[y : y + height, x : x + width] = thumbnail
        squares.append(square)
    gap = np.full((side, GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([squares[0], gap, squares[1]], axis=1)
