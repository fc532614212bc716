"""The controls for looking around in a scene: levels, cameras, views."""

import threading
from functools import partial

import viser

from .scene import Scene
from .scene_view import SceneView

LEVELS = ("Coarse", "Middle", "Fine")
SIDES = ("Left", "Right")
OVERVIEW = "Both"


class LookPanel:
    """A folder of controls, and the scene in the browser that they change; hidden without one.

    Args:
        client: The browser.
        lock: Of the browser's page; held by callbacks.
    """

    def __init__(self, client: viser.ClientHandle, lock: threading.RLock) -> None:
        self._client = client
        self._lock = lock
        self._view: SceneView | None = None
        gui = client.gui
        self._folder = gui.add_folder("Look", visible=False)
        with self._folder:
            self._level_boxes = [gui.add_checkbox(name, True) for name in LEVELS]
            self._cameras_box = gui.add_checkbox("Cameras", True)
            views = gui.add_button_group("View from", (*SIDES, OVERVIEW))
        for level, box in enumerate(self._level_boxes):
            box.on_update(partial(self._level_toggled, level))
        self._cameras_box.on_update(self._cameras_toggled)
        views.on_click(self._view_chosen)
        client.camera.on_update(self._eye_moved)

    def show(self, scene: Scene) -> None:
        """Replaces what is shown; the caller holds the lock.

        Raises:
            ValueError: if there is nothing to show.
        """
        if self._view is not None:
            self._view.remove()
        self._view = SceneView(self._client, scene)
        for level, box in enumerate(self._level_boxes):
            box.disabled = level not in self._view.levels
            self._view.show_level(level, box.value)
        self._view.show_cameras(self._cameras_box.value)
        self._folder.visible = True

    def close(self) -> None:
        """The browser has left; the caller holds the lock."""

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
