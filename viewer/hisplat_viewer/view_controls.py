"""Where to stand in a scene, and how it compares with the photo taken there."""

import threading
from collections.abc import Callable
from typing import Any

import viser

from hisplat_models.home_view import AXES, UP

from .paragraphs import paragraph
from .photo_overlay import Overlaid
from .scene import Scene
from .scene_view import SceneView

OVERVIEW = "Overview"
FOVS = (10.0, 120.0)
"""Degrees between which the field of view can be set."""
COMPARISONS: dict[str, Overlaid] = {
    "Nothing": "nothing",
    "Photo": "photo",
    "Render": "render",
    "Difference": "error",
}


class ViewControls:
    """A folder of controls for scenes with the same photos.

    Args:
        client: The browser.
        lock: Of the browser's page; held by callbacks.
        view: The scene in it.
        order: Where the folder is among its neighbours.
    """

    def __init__(
        self, client: viser.ClientHandle, lock: threading.RLock, view: SceneView, order: float
    ) -> None:
        self._lock = lock
        self._view = view
        self._names = photo_names(view.scene)
        self._photo: int | None = None
        gui = client.gui
        photos = bool(self._names)
        with gui.add_folder("View", order=order) as self._folder:
            self._cameras = gui.add_checkbox("Cameras", True, visible=photos)
            self._places = gui.add_button_group(
                "View from", (*self._names, OVERVIEW), visible=photos
            )
            self._reset = gui.add_button("Reset view", icon=viser.Icon.HOME, color="gray")
            self._up = gui.add_dropdown(
                "Up", AXES, initial_value=UP, visible=not photos,
                hint="Which axis of the file points up",
            )  # fmt: skip
            self._fov = gui.add_slider("Field of view (°)", *FOVS, 1.0, 60.0)
            self._over = gui.add_dropdown(
                "Compare with",
                tuple(n for n, o in COMPARISONS.items() if _possible(view.scene, o)),
                visible=photos,
                hint="Covers the scene, seen from where a photo was taken",
            )
            self._covered = gui.add_slider("Covered (%)", 0, 100, 1, 50, visible=False)
            self._score = gui.add_html("", visible=False)
        self._listen()
        self._look_around()

    def attach(self, view: SceneView) -> None:
        """The same controls, and the same eye, for another scene of the same photos."""
        self._view = view
        view.show_cameras(self._cameras.value)

    def stand(self, photo: int) -> None:
        """Puts the eye where a photo was taken, and says how well the scene matches it."""
        self._photo = photo
        self._view.eye.stand_at(photo)
        self._moved()
        self._compare()

    def refresh(self) -> None:
        """Compares again, since the scene is shown differently; does nothing if nobody compares."""
        if self._photo is not None and self._view.eye.is_at(self._photo):
            self._compare()

    def remove(self) -> None:
        """Takes the controls out of the page."""
        self._folder.remove()

    def _listen(self) -> None:
        """Each control does its part, under the lock, when the user touches it."""

        def when_touched(action: Callable[[], Any]) -> Callable[[viser.GuiEvent], None]:
            def heard(event: viser.GuiEvent) -> None:
                if event.client is not None:  # else it is this program that has set the value
                    with self._lock:
                        action()

            return heard

        self._cameras.on_update(when_touched(lambda: self._view.show_cameras(self._cameras.value)))
        self._places.on_click(when_touched(lambda: self._go(self._places.value)))
        self._reset.on_click(when_touched(self._start_anew))
        self._up.on_update(when_touched(lambda: self._view.eye.stand_upright(self._up.value)))
        self._fov.on_update(when_touched(lambda: self._view.eye.see(self._fov.value)))
        for control in (self._over, self._covered):
            control.on_update(when_touched(self._compare))

    def _compare(self) -> None:
        """Lays over what is chosen; goes to a photo first if the eye is at none."""
        overlaid = COMPARISONS[self._over.value]
        self._covered.visible = overlaid != "nothing"
        if overlaid != "nothing" and self._photo is None:
            self.stand(0)
            return
        if self._photo is not None:
            self._view.lay_over(self._photo, overlaid, self._covered.value / 100)
            self._show_score(self._photo)

    def _go(self, place: str) -> None:
        """Goes to a photo or to the overview."""
        if place == OVERVIEW:
            self._photo = None
            self._view.eye.overview()
            self._moved()
        else:
            self.stand(self._names.index(place))

    def _start_anew(self) -> None:
        """Goes back to the first view, without anything laid over."""
        self._photo = None
        self._over.value = next(iter(COMPARISONS))
        self._covered.visible = False
        self._view.lay_over(0, "nothing", 0.0)
        self._look_around()

    def _look_around(self) -> None:
        self._view.eye.first_view()
        self._moved()

    def _moved(self) -> None:
        self._fov.value = min(max(round(self._view.eye.fov_degrees), FOVS[0]), FOVS[1])
        self._score.visible = False
        self._view.step_aside()

    def _show_score(self, photo: int) -> None:
        if self._view.scene.renderer is not None:
            psnr = self._view.psnr(photo)
            name = self._names[photo]
            named = f"Photo {name}" if name.isdecimal() else f"{name} photo"
            self._score.content = paragraph(f"{named} and what is shown: PSNR {psnr:.2f} dB.")
            self._score.visible = True


def photo_names(scene: Scene) -> tuple[str, ...]:
    """What the photos of a scene are called, in order."""
    count = 0 if scene.cameras is None else len(scene.cameras.near)
    return ("Left", "Right") if count == 2 else tuple(f"{i + 1}" for i in range(count))


def _possible(scene: Scene, overlaid: Overlaid) -> bool:
    return overlaid in ("nothing", "photo") or scene.renderer is not None
