"""The controls of one browser."""

import html
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import viser
from jaxtyping import UInt8

from .exchange import PhotoPair, SceneSource, SceneWriter, Upload
from .scene import Scene
from .scene_view import SceneView

logger = logging.getLogger(__name__)

LARGEST_UPLOAD = 64 * 1024 * 1024
"""Bytes; the largest phone photos have about 30 MB."""
THUMBNAIL_LONG_SIDE = 160
GAP = 8
EMPTY_GRAY = 241
WARNING_COLOR, ERROR_COLOR = "#b35c00", "#c92a2a"
SIDES = ("Left", "Right")
LEVELS = ("Coarse", "Middle", "Fine")
OVERVIEW = "Both"
LENS_AUTOMATIC, LENS_FOV, LENS_FOCAL = "Automatic", "Field of view (°)", "Focal length (px)"
LENS_START = {LENS_FOV: 65.0, LENS_FOCAL: 1000.0}


class Panel:
    """The controls of one browser, with its own photos and scene.

    Callbacks come from several threads, so everything that changes the panel holds its lock.

    Args:
        client: The browser.
        source: Makes scenes from uploaded photos.
        writers: Makes a file from a scene, by file ending; each is a download button.
    """

    def __init__(
        self, client: viser.ClientHandle, source: SceneSource, writers: Mapping[str, SceneWriter]
    ) -> None:
        self.name = f"page-{client.client_id}"
        self._client = client
        self._source = source
        self._lock = threading.RLock()
        self._scene: Scene | None = None
        self._view: SceneView | None = None
        self._awaited: _Answer | None = None
        with client.atomic():
            self._add_photo_controls()
            self._add_look_controls()
            self._add_save_controls(writers)
        client.camera.on_update(self._eye_moved)

    @property
    def has_scene(self) -> bool:
        """Whether anything is shown."""
        return self._scene is not None

    def show(self, scene: Scene) -> None:
        """Replaces what is shown.

        Raises:
            ValueError: if there is nothing to show.
        """
        with self._lock:
            if self._view is not None:
                self._view.remove()
            self._view = SceneView(self._client, scene)
            self._scene = scene
            for level, box in enumerate(self._level_boxes):
                box.disabled = level not in self._view.levels
                self._view.show_level(level, box.value)
            self._view.show_cameras(self._cameras_box.value)
            self._look_folder.visible = self._save_folder.visible = True
            self._say(scene.summary, scene.warnings)

    def close(self) -> None:
        """The browser has left: nothing more is asked for or expected."""
        with self._lock:
            self._awaited = None
        self._source.withdraw(self.name)

    def _add_photo_controls(self) -> None:
        gui = self._client.gui
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
            self._status = gui.add_html(_paragraph("Choose two photos of one scene."))
        self._lens.on_update(self._lens_chosen)
        self._start.on_click(self._reconstruct)

    def _add_upload(self, side: str) -> "_PhotoSlot":
        button = self._client.gui.add_upload_button(
            f"{side} photo", icon=viser.Icon.PHOTO_UP, mime_type="image/*"
        )
        slot = _PhotoSlot(button)
        button.on_upload(partial(self._photo_chosen, slot))
        return slot

    def _add_look_controls(self) -> None:
        gui = self._client.gui
        self._look_folder = gui.add_folder("Look", visible=False)
        with self._look_folder:
            self._level_boxes = [gui.add_checkbox(name, True) for name in LEVELS]
            self._cameras_box = gui.add_checkbox("Cameras", True)
            views = gui.add_button_group("View from", (*SIDES, OVERVIEW))
        for level, box in enumerate(self._level_boxes):
            box.on_update(partial(self._level_toggled, level))
        self._cameras_box.on_update(self._cameras_toggled)
        views.on_click(self._view_chosen)

    def _add_save_controls(self, writers: Mapping[str, SceneWriter]) -> None:
        gui = self._client.gui
        self._save_folder = gui.add_folder("Save", visible=False)
        with self._save_folder:
            for ending, writer in writers.items():
                button = gui.add_button(f"Download {ending}", icon=viser.Icon.DOWNLOAD)
                button.on_click(partial(self._download, ending, writer))

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
            self._say("Ready." if ready else "Now the other photo.")

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
            self._say("Waiting for its turn …")
            self._source.request(self.name, pair, self._awaited)

    def hear_progress(self, answer: "_Answer", step: str, fraction: float) -> None:
        """Moves the bar, unless a newer request is awaited."""
        with self._lock:
            if answer is self._awaited:
                self._bar.value = 100.0 * min(max(fraction, 0.0), 1.0)
                self._say(f"{step[:1].upper()}{step[1:]} …")

    def hear_scene(self, answer: "_Answer", scene: Scene) -> None:
        """Shows the scene, unless a newer request is awaited."""
        with self._lock:
            if answer is self._awaited:
                self.show(scene)
                self._bar.visible = False
                self._awaited = None

    def hear_failure(self, answer: "_Answer", message: str) -> None:
        """Says what went wrong, unless a newer request is awaited."""
        with self._lock:
            if answer is self._awaited:
                self._awaited = None
                self._bar.visible = False
                self._complain(message)

    def _level_toggled(self, level: int, event: viser.GuiEvent) -> None:
        with self._lock:
            if self._view is not None:
                self._view.show_level(level, self._level_boxes[level].value)

    def _cameras_toggled(self, event: viser.GuiEvent) -> None:
        with self._lock:
            if self._view is not None:
                self._view.show_cameras(self._cameras_box.value)

    def _view_chosen(self, event: viser.GuiEvent) -> None:
        with self._lock:
            if self._view is None:
                return
            if event.target.value == OVERVIEW:
                self._view.look_from_behind()
            else:
                self._view.look_through(SIDES.index(event.target.value))

    async def _eye_moved(self, camera: viser.CameraHandle) -> None:
        view = self._view
        if view is not None:
            view.step_aside()

    def _download(self, ending: str, writer: SceneWriter, event: viser.GuiEvent) -> None:
        scene = self._scene
        if scene is not None:
            content = writer(scene.gaussians)
            self._client.send_file_download(f"scene{ending}", content, save_immediately=True)

    def _say(self, text: str, warnings: Sequence[str] = ()) -> None:
        doubts = [_paragraph(warning, WARNING_COLOR) for warning in warnings]
        self._status.content = "".join([_paragraph(text), *doubts])

    def _complain(self, message: str) -> None:
        self._status.content = _paragraph(message, ERROR_COLOR)


@dataclass
class _PhotoSlot:
    """One upload button and what came through it."""

    button: viser.GuiUploadButtonHandle
    upload: Upload | None = None
    thumbnail: UInt8[np.ndarray, "height width 3"] | None = None


class _Answer:
    """The listener of one press of the button; the panel ignores all but the newest."""

    def __init__(self, panel: Panel) -> None:
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


def _paragraph(text: str, color: str = "inherit") -> str:
    """Text that may hold anything, file names of strangers included, as HTML."""
    return (
        f'<p style="margin:.4em 1em;font-size:.8em;line-height:1.35;color:{color};'
        f'overflow-wrap:anywhere">{html.escape(text)}</p>'
    )
