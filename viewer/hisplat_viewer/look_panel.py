"""The controls for looking at a scene, and the scene in the browser that they change."""

import html
import threading

import viser

from hisplat_models.gaussians import Gaussians

from .filter_controls import FilterControls
from .level_controls import LevelControls
from .scene import Scene
from .scene_view import Look, SceneView
from .shading import Shade, shades_of
from .theme import set_background, set_theme
from .view_controls import ViewControls

SHADES: dict[str, Shade] = {
    "Colour": "color",
    "Depth": "depth",
    "Opacity": "opacity",
    "Confidence": "confidence",
    "Level": "level",
    "Error": "error",
}
LIGHT_BACKGROUND, DARK_BACKGROUND = (255, 255, 255), (20, 20, 20)
LEVELS_ORDER, VIEW_ORDER = 0.0, 1.0
"""What is made anew for each scene stays above the rest, whose order is a running number."""


class LookPanel:
    """A folder of controls; hidden without a scene.

    Args:
        client: The browser.
        lock: Of the browser's page; held by callbacks.
    """

    def __init__(self, client: viser.ClientHandle, lock: threading.RLock) -> None:
        self._client = client
        self._lock = lock
        self._scenes = 0
        self._view: SceneView | None = None
        self._levels: LevelControls | None = None
        self._views: ViewControls | None = None
        gui = client.gui
        self._folder = gui.add_folder("Look", visible=False)
        with self._folder:
            self._shade = gui.add_dropdown("Show", tuple(SHADES), hint="What the colours mean")
            self._filters = FilterControls(client, self._look_changed)
            with gui.add_folder("Appearance", expand_by_default=False):
                self._dark = gui.add_checkbox("Dark", False)
                self._own_background = gui.add_checkbox("Own background", False)
                self._background = gui.add_rgb("Background", LIGHT_BACKGROUND, visible=False)
            with gui.add_folder("About this scene", expand_by_default=False):
                self._table = gui.add_html("")
        self._shade.on_update(self._shade_chosen)
        self._dark.on_update(self._theme_chosen)
        self._own_background.on_update(self._background_chosen)
        self._background.on_update(self._background_chosen)
        client.camera.on_update(self._eye_moved)

    def show(self, scene: Scene, keep_eye: bool = False) -> None:
        """Replaces what is shown; the caller holds the lock.

        Args:
            scene: What to show.
            keep_eye: For a scene in the same place as the one before: the eye, the coordinates and
                the comparison with a photo stay.

        Raises:
            ValueError: if there is nothing to show.
        """
        before = self._view
        frame = before.frame if before is not None and keep_eye else None
        shades = [name for name, shade in SHADES.items() if shade in shades_of(scene)]
        with self._client.atomic():
            self._scenes += 1
            view = SceneView(
                self._client, f"scene_{self._scenes}", scene, Look(), self._camera_clicked, frame
            )
            if before is not None:
                before.remove()
            self._view = view
            if self._shade.value not in shades:
                self._shade.value = shades[0]
            self._shade.options = shades
            self._table.content = _table(scene.statistics)
            self._filters.attach(view, scene)
            self._make_controls(view, scene, keep_eye)
            self._folder.visible = True
            self._look_changed()

    def clear(self) -> None:
        """Shows nothing, as before the first scene; the caller holds the lock."""
        with self._client.atomic():
            for part in (self._view, self._levels, self._views):
                if part is not None:
                    part.remove()
            self._view = self._levels = self._views = None
            self._folder.visible = False

    @property
    def view(self) -> SceneView | None:
        """The scene in the browser; None without one."""
        return self._view

    @property
    def background(self) -> tuple[int, int, int]:
        """What is behind the scene, 8-bit sRGB."""
        if self._own_background.value:
            return self._background.value
        return DARK_BACKGROUND if self._dark.value else LIGHT_BACKGROUND

    def filtered(self) -> Gaussians | None:
        """The Gaussians that are shown, as they are in the scene; None without a scene."""
        with self._lock:
            return None if self._view is None else self._view.filtered()

    def close(self) -> None:
        """The browser has left; the caller holds the lock."""
        if self._levels is not None:
            self._levels.stop()
        self._view = self._views = None

    def _make_controls(self, view: SceneView, scene: Scene, keep_eye: bool) -> None:
        """Levels and places of this scene instead of the last one's."""
        if self._levels is not None:
            self._levels.remove()
        if self._views is not None and not keep_eye:
            self._views.remove()
            self._views = None
        with self._folder:
            self._levels = LevelControls(
                self._client, scene.gaussians.level, LEVELS_ORDER, self._look_changed
            )
            if self._views is None:
                self._views = ViewControls(self._client, self._lock, view, VIEW_ORDER)
            else:
                self._views.attach(view)

    def _look_changed(self) -> None:
        with self._lock:
            view, levels, views = self._view, self._levels, self._views
            if view is None or levels is None or views is None:
                return
            view.show(self._filters.look(levels.chosen, SHADES[self._shade.value]))
            self._filters.tell(view.shown, view.scene.gaussians.count)
            views.refresh()

    def _camera_clicked(self, photo: int) -> None:
        with self._lock:
            if self._views is not None:
                self._views.stand(photo)

    def _shade_chosen(self, event: viser.GuiEvent) -> None:
        if event.client is not None:  # else it is this program that has chosen
            self._look_changed()

    def _theme_chosen(self, event: viser.GuiEvent) -> None:
        set_theme(self._client.gui, self._dark.value)

    def _background_chosen(self, event: viser.GuiEvent) -> None:
        own = self._own_background.value
        self._background.visible = own
        set_background(self._client, self._background.value if own else None)

    async def _eye_moved(self, camera: viser.CameraHandle) -> None:
        view = self._view
        if view is not None:
            view.step_aside()


def _table(rows: tuple[tuple[str, str], ...]) -> str:
    cells = "".join(
        f'<tr><td style="opacity:.7;padding-right:.8em;vertical-align:top">{html.escape(name)}</td>'
        f"<td>{html.escape(value)}</td></tr>"
        for name, value in rows
    )
    return f'<table style="margin:.4em 1em;font-size:.8em;line-height:1.4">{cells}</table>'
