"""The controls that turn photos into a scene: uploads, lens, start, progress, status."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import viser
from jaxtyping import UInt8

from .exchange import PhotoPair, SceneSource, Upload
from .paragraphs import ERROR_COLOR, WARNING_COLOR, paragraph
from .scene import Scene

LARGEST_UPLOAD = 64 * 1024 * 1024
"""Bytes; the largest phone photos have about 30 MB."""
THUMBNAIL_LONG_SIDE = 160
GAP = 8
EMPTY_GRAY = 241
SIDES = ("Left", "Right")
LENS_AUTOMATIC, LENS_FOV, LENS_FOCAL = "Automatic", "Field of view (°)", "Focal length (px)"
LENS_START = {LENS_FOV: 65.0, LENS_FOCAL: 1000.0}


class PhotosPanel:
    """A folder of controls, with one browser's photos and its request for a scene.

    Args:
        client: The browser.
        name: What the source knows this browser by.
        source: Makes scenes from uploaded photos.
        lock: Of the browser's page; held by callbacks.
        on_scene: Shows a scene, and may refuse it with a ValueError; called with the lock held.
    """

    def __init__(
        self,
        client: viser.ClientHandle,
        name: str,
        source: SceneSource,
        lock: threading.RLock,
        on_scene: Callable[[Scene], None],
    ) -> None:
        self._client = client
        self._name = name
        self._source = source
        self._lock = lock
        self._on_scene = on_scene
        self._awaited: _Answer | None = None
        gui = client.gui
        with gui.add_folder("Photos"):
            self._uploads = [self._add_upload(side) for side in SIDES]
            self._thumbnails = gui.add_image(_side_by_side([None, None]), visible=False)
            self._lens = gui.add_dropdown(
                "Lens",
                (LENS_AUTOMATIC, LENS_FOV, LENS_FOCAL),
                hint="Automatic takes it from the photo's EXIF data, or assumes a usual phone lens",
            )
            self._lens_value = gui.add_number("Value", 0.0, min=0.0, step=0.1, visible=False)
            self._start = gui.add_button("Reconstruct", icon=viser.Icon.PLAYER_PLAY, disabled=True)
            self._bar = gui.add_progress_bar(0.0, visible=False)
            self._status = gui.add_html(paragraph("Choose two photos of one scene."))
        self._lens.on_update(self._lens_chosen)
        self._start.on_click(self._reconstruct)

    def say(self, text: str, warnings: Sequence[str] = ()) -> None:
        """Replaces the status; the caller holds the lock."""
        doubts = [paragraph(warning, WARNING_COLOR) for warning in warnings]
        self._status.content = "".join([paragraph(text), *doubts])

    def close(self) -> None:
        """The browser has left, nothing more is asked for; the caller holds the lock."""
        self._awaited = None
        self._source.withdraw(self._name)

    def hear_progress(self, answer: "_Answer", step: str, fraction: float) -> None:
        """Moves the bar, unless a newer request is awaited."""
        with self._lock:
            if answer is self._awaited:
                self._bar.value = 100.0 * min(max(fraction, 0.0), 1.0)
                self.say(f"{step[:1].upper()}{step[1:]} …")

    def hear_scene(self, answer: "_Answer", scene: Scene) -> None:
        """Passes the scene on, unless a newer request is awaited."""
        with self._lock:
            if answer is self._awaited:
                self._awaited = None
                self._bar.visible = False
                try:
                    self._on_scene(scene)
                except ValueError as error:
                    self._complain(str(error))

    def hear_failure(self, answer: "_Answer", message: str) -> None:
        """Says what went wrong, unless a newer request is awaited."""
        with self._lock:
            if answer is self._awaited:
                self._awaited = None
                self._bar.visible = False
                self._complain(message)

    def _add_upload(self, side: str) -> "_PhotoSlot":
        button = self._client.gui.add_upload_button(
            f"{side} photo", icon=viser.Icon.PHOTO_UP, mime_type="image/*"
        )
        slot = _PhotoSlot(button)
        button.on_upload(partial(self._photo_chosen, slot))
        return slot

    def _photo_chosen(self, slot: "_PhotoSlot", event: viser.GuiEvent) -> None:
        file = slot.button.value
        upload = Upload(file.name, file.content)
        try:
            if len(upload.content) > LARGEST_UPLOAD:
                raise ValueError(
                    f"{file.name} has {len(file.content) / 2**20:.0f} MB; "
                    f"at most {LARGEST_UPLOAD // 2**20} MB are accepted."
                )
            thumbnail = self._source.thumbnail(upload, THUMBNAIL_LONG_SIDE)
        except (ValueError, OSError) as error:
            with self._lock:
                slot.upload = slot.thumbnail = None
                self._show_thumbnails()
                self._start.disabled = True
                self._complain(str(error))
            return
        with self._lock:
            slot.upload, slot.thumbnail = upload, thumbnail
            self._show_thumbnails()
            ready = all(s.upload is not None for s in self._uploads)
            self._start.disabled = not ready
            self.say("Ready." if ready else "Now the other photo.")

    def _show_thumbnails(self) -> None:
        thumbnails = [slot.thumbnail for slot in self._uploads]
        self._thumbnails.visible = any(t is not None for t in thumbnails)
        self._thumbnails.image = _side_by_side(thumbnails)

    def _lens_chosen(self, event: viser.GuiEvent) -> None:
        with self._lock:
            self._lens_value.visible = self._lens.value != LENS_AUTOMATIC
            self._lens_value.label = self._lens.value
            self._lens_value.value = LENS_START.get(self._lens.value, 0.0)

    def _reconstruct(self, event: viser.GuiEvent) -> None:
        with self._lock:
            left, right = (slot.upload for slot in self._uploads)
            if left is None or right is None:
                return
            value = self._lens_value.value
            pair = PhotoPair(
                left,
                right,
                fov_degrees=value if self._lens.value == LENS_FOV else None,
                focal_px=value if self._lens.value == LENS_FOCAL else None,
            )
            self._awaited = _Answer(self)
            self._bar.value = 0.0
            self._bar.visible = True
            self.say("Waiting for its turn …")
            self._source.request(self._name, pair, self._awaited)

    def _complain(self, message: str) -> None:
        self._status.content = paragraph(message, ERROR_COLOR)


@dataclass
class _PhotoSlot:
    """One upload button and what came through it."""

    button: viser.GuiUploadButtonHandle
    upload: Upload | None = None
    thumbnail: UInt8[np.ndarray, "height width 3"] | None = None


class _Answer:
    """The listener of one press of the button; the panel ignores all but the newest."""

    def __init__(self, panel: PhotosPanel) -> None:
        self._panel = panel

    def progress(self, step: str, fraction: float) -> None:
        self._panel.hear_progress(self, step, fraction)

    def finished(self, scene: Scene) -> None:
        self._panel.hear_scene(self, scene)

    def failed(self, message: str) -> None:
        self._panel.hear_failure(self, message)


def _side_by_side(
    thumbnails: Sequence[UInt8[np.ndarray, "_h _w 3"] | None],
) -> UInt8[np.ndarray, "height width 3"]:
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
