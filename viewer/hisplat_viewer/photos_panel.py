"""The controls that turn photos into a scene: photos, choices, start, cancel, progress."""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import viser

from .exchange import Example, PhotoSet, SceneSource
from .photo_slots import PhotoSlots
from .request_status import RequestStatus
from .scene import Scene

LENS_AUTOMATIC, LENS_FOV, LENS_FOCAL = "Automatic", "Field of view (°)", "Focal length (px)"
LENS_START = {LENS_FOV: 65.0, LENS_FOCAL: 1000.0}


class PhotosPanel:
    """A folder of controls, with one browser's photos and its request for a scene.

    A request is made and withdrawn without the page's lock, which the listener of the request
    takes; a lock of its own makes sure that what is awaited is what was asked for last.

    Args:
        client: The browser.
        name: What the source knows this browser by.
        source: Makes scenes from photos.
        lock: Of the browser's page; held by callbacks.
        on_scene: Shows a scene of this title, and may refuse it with a ValueError; called with the
            lock held.
        on_preview: Shows the coarser levels of a scene on its way; the same.
        on_dropped: No scene comes of what was previewed, if anything was; the same.
    """

    def __init__(
        self,
        client: viser.ClientHandle,
        name: str,
        source: SceneSource,
        lock: threading.RLock,
        on_scene: Callable[[Scene, str], None],
        on_preview: Callable[[Scene], None],
        on_dropped: Callable[[], None],
    ) -> None:
        self._name = name
        self._source = source
        self._lock = lock
        self._on_scene = on_scene
        self._on_preview = on_preview
        self._on_dropped = on_dropped
        self._asking = threading.Lock()
        self._awaited: _Answer | None = None
        self._closed = False
        with client.gui.add_folder("Photos"):
            self._photos = PhotoSlots(client, source, lock, self._photos_changed)
            self._start = client.gui.add_button(
                "Reconstruct", icon=viser.Icon.PLAYER_PLAY, disabled=True
            )
            self._cancel = client.gui.add_button("Cancel", icon=viser.Icon.X, visible=False)
            self._status = RequestStatus(client, "Choose two photos of one scene.")
            with client.gui.add_folder("Settings", expand_by_default=False):
                self._add_choices(client.gui)
            for example in source.offer.examples:
                button = client.gui.add_button(f"Try: {example.name}", color="gray")
                button.on_click(partial(self._example_chosen, example))
        self._start.on_click(self._started)
        self._cancel.on_click(self._cancelled)

    def offer(self, photos: PhotoSet) -> None:
        """Puts photos there unless the browser has own ones; the caller holds the lock."""
        if self._photos.empty and not self._closed:
            self._fill(photos)

    def say(self, text: str, warnings: Sequence[str] = ()) -> None:
        """Replaces the status unless a request is under way; the caller holds the lock."""
        if self._awaited is None:
            self._status.say(text, warnings)

    def close(self) -> None:
        """The browser has left, nothing more is asked for; the caller does not hold the lock."""
        with self._asking:
            with self._lock:
                self._closed = True
                self._awaited = None
                self._photos.clear()
            self._source.withdraw(self._name)

    def hear_place(self, answer: "_Answer", ahead: int) -> None:
        """Says how many come first, unless a newer request is awaited."""
        with self._lock:
            if answer is self._awaited:
                self._status.wait(ahead)

    def hear_progress(self, answer: "_Answer", step: str, fraction: float) -> None:
        """Moves the bar, unless a newer request is awaited."""
        with self._lock:
            if answer is self._awaited:
                self._status.go_on(step, fraction)

    def hear_preview(self, answer: "_Answer", scene: Scene) -> None:
        """Passes the coarser levels on, unless a newer request is awaited."""
        with self._lock:
            if answer is self._awaited:
                # The whole scene will say what is wrong.
                with suppress(ValueError):
                    self._on_preview(scene)

    def hear_scene(self, answer: "_Answer", scene: Scene) -> None:
        """Passes the scene on, unless a newer request is awaited."""
        with self._lock:
            if answer is self._awaited:
                self._awaited = None
                self._cancel.visible = False
                times = self._status.finish()
                try:
                    self._on_scene(scene, answer.title)
                except ValueError as error:
                    self._on_dropped()
                    self._status.complain(str(error))
                else:
                    self._status.say(f"{scene.summary} ({times})", scene.warnings)

    def hear_failure(self, answer: "_Answer", message: str) -> None:
        """Says what went wrong, unless a newer request is awaited."""
        with self._lock:
            if answer is self._awaited:
                self._awaited = None
                self._cancel.visible = False
                self._on_dropped()
                self._status.complain(message)

    def _add_choices(self, gui: viser.GuiApi) -> None:
        offer = self._source.offer
        self._lens = gui.add_dropdown(
            "Lens",
            (LENS_AUTOMATIC, LENS_FOV, LENS_FOCAL),
            hint="Automatic takes it from the photo's EXIF data, or assumes a usual phone lens",
        )
        self._lens_value = gui.add_number("Value", 0.0, min=0.0, step=0.1, visible=False)
        self._lens.on_update(self._lens_chosen)
        self._model = gui.add_dropdown("Network", offer.models or ("",))
        self._model.visible = len(offer.models) > 1
        sizes = {f"{size} px": size for size in offer.sizes}
        usual = next((label for label, size in sizes.items() if size == offer.size), None)
        self._sizes: dict[str, int] = sizes
        self._size = gui.add_dropdown(
            "Working size",
            tuple(sizes) or ("",),
            initial_value=usual,
            visible=len(sizes) > 1,
            hint="The photos' longer side; twice the size takes four times as long",
        )

    def _photos_changed(self, refused: str | None) -> None:
        ready = self._photos.uploads is not None
        self._start.disabled = not ready
        if refused is not None:
            if self._awaited is None:
                self._status.complain(refused)
        elif ready:
            self.say("Ready.")
        else:
            self.say("Now the other photo.")

    def _lens_chosen(self, event: viser.GuiEvent) -> None:
        with self._lock:
            self._lens_value.visible = self._lens.value != LENS_AUTOMATIC
            self._lens_value.label = self._lens.value
            self._lens_value.value = LENS_START.get(self._lens.value, 0.0)

    def _started(self, event: viser.GuiEvent) -> None:
        self._ask(self._chosen_photos)

    def _example_chosen(self, example: Example, event: viser.GuiEvent) -> None:
        def chosen() -> PhotoSet:
            self._fill(example.photos)
            return example.photos

        self._ask(chosen)

    def _fill(self, photos: PhotoSet) -> None:
        """Takes photos that were not uploaded, with what is known of their lens."""
        self._photos.fill(photos.photos)
        self._start.disabled = False
        if photos.fov_degrees is not None:
            self._lens.value = self._lens_value.label = LENS_FOV
            self._lens_value.value = photos.fov_degrees
        elif photos.focal_px is not None:
            self._lens.value = self._lens_value.label = LENS_FOCAL
            self._lens_value.value = photos.focal_px
        self._lens_value.visible = self._lens.value != LENS_AUTOMATIC

    def _chosen_photos(self) -> PhotoSet | None:
        uploads = self._photos.uploads
        if uploads is None:
            return None
        value = self._lens_value.value
        return PhotoSet(
            uploads,
            fov_degrees=value if self._lens.value == LENS_FOV else None,
            focal_px=value if self._lens.value == LENS_FOCAL else None,
            model=self._model.value or None,
            size=self._sizes.get(self._size.value),
        )

    def _ask(self, chosen: Callable[[], PhotoSet | None]) -> None:
        with self._asking:
            with self._lock:
                photos = None if self._closed else chosen()
                if photos is None:
                    return
                self._on_dropped()  # what is awaited so far
                answer = self._awaited = _Answer(
                    self, " + ".join(photo.name for photo in photos.photos)
                )
                self._cancel.visible = True
                self._status.wait(0)
            self._source.request(self._name, photos, answer)

    def _cancelled(self, event: viser.GuiEvent) -> None:
        with self._asking:
            with self._lock:
                if self._awaited is None:
                    return
                self._awaited = None
                self._cancel.visible = False
                self._on_dropped()
                self._status.finish()
                self._status.say("Cancelled.")
            self._source.withdraw(self._name)


class _Answer:
    """The listener of one press of the button; the panel ignores all but the newest."""

    def __init__(self, panel: PhotosPanel, title: str) -> None:
        self.title = title
        self._panel = panel

    def waiting(self, ahead: int) -> None:
        self._panel.hear_place(self, ahead)

    def progress(self, step: str, fraction: float) -> None:
        self._panel.hear_progress(self, step, fraction)

    def preview(self, scene: Scene) -> None:
        self._panel.hear_preview(self, scene)

    def finished(self, scene: Scene) -> None:
        self._panel.hear_scene(self, scene)

    def failed(self, message: str) -> None:
        self._panel.hear_failure(self, message)
