"""The controls that say what a video shows: a path, its keyframes, length, size, format."""

import threading
from collections.abc import Callable

import viser

from .paragraphs import paragraph
from .saving import Color, PathName, PhotoCameras, VideoEnding, VideoPlan
from .scene import Scene
from .scene_view import SceneView
from .viewpoint import Viewpoint, cameras_at, checked_side, picture_size

PATHS: dict[str, PathName] = {
    "Between the photos": "between",
    "Wobble": "wobble",
    "Orbit": "orbit",
    "Keyframes": "keyframes",
}
BETWEEN, KEYFRAMES = "Between the photos", "Keyframes"
ENDINGS: tuple[VideoEnding, ...] = (".mp4", ".gif", ".webm")
SIDE, LARGEST_SIDE = 640, 1920
SECONDS, MOST_SECONDS = 4.0, 60.0
MOST_KEYFRAMES = 100


class VideoControls:
    """Controls, to be made inside a folder.

    Args:
        client: The browser.
        lock: Of the browser's page; held by callbacks.
        viewpoint: Where the user stands in the scene that is shown.
    """

    def __init__(
        self,
        client: viser.ClientHandle,
        lock: threading.RLock,
        viewpoint: Callable[[], Viewpoint | None],
    ) -> None:
        self._lock = lock
        self._viewpoint = viewpoint
        self._keyframes: list[Viewpoint] = []
        gui = client.gui
        self._path = gui.add_dropdown(
            "Path", tuple(PATHS), hint="Wobble and orbit start from where you are now"
        )
        self._add = gui.add_button("Add keyframe here", icon=viser.Icon.PLUS, visible=False)
        self._clear = gui.add_button(
            "Clear keyframes", icon=viser.Icon.TRASH, color="gray", visible=False
        )
        self._count = gui.add_html("", visible=False)
        self._of_keyframes: list[viser.GuiButtonHandle] = [self._add, self._clear]
        self._seconds = gui.add_number("Seconds", SECONDS, min=0.1, max=MOST_SECONDS, step=0.1)
        self._side = gui.add_number("Long side (px)", SIDE, min=16, max=LARGEST_SIDE, step=1)
        self._ending = gui.add_dropdown("Video format", ENDINGS)
        self._path.on_update(lambda _: self._refresh())
        self._add.on_click(lambda _: self._add_keyframe())
        self._clear.on_click(lambda _: self._set_keyframes([]))

    def offer(self, scene: Scene, same_place: bool) -> None:
        """Fits the paths to a scene.

        Args:
            scene: What is shown.
            same_place: Whether keyframes make sense in it.
        """
        several = scene.cameras is not None and len(scene.cameras.near) > 1
        names = tuple(name for name in PATHS if several or name != BETWEEN)
        if self._path.value not in names:
            self._path.value = names[0]
        self._path.options = names
        self._set_keyframes(self._keyframes if same_place else [])

    def plan(self, view: SceneView, here: Viewpoint, aspect: float, background: Color) -> VideoPlan:
        """What is chosen.

        Args:
            view: The scene that is shown.
            here: Where the user stands.
            aspect: Width / height of the window.
            background: Where nothing is.

        Raises:
            ValueError: if a number is out of range, or there are too few keyframes.
        """
        path, side = PATHS[self._path.value], checked_side(self._side.value, LARGEST_SIDE)
        if self._ending.value not in ENDINGS:  # a browser can send anything
            raise ValueError("There is no such format of videos.")
        seconds = float(self._seconds.value)
        if not 0 < seconds <= MOST_SECONDS:
            raise ValueError(f"Expected a video of at most {MOST_SECONDS:g} s, got {seconds:g}.")
        scene = view.scene
        if path == "between" and scene.cameras is not None and scene.photos is not None:
            aspect = scene.photos.shape[-1] / scene.photos.shape[-2]
            cameras = scene.cameras[[0, -1]]
        else:
            cameras = cameras_at(self._flown() if path == "keyframes" else [here], aspect)
        return VideoPlan(
            path,
            cameras,
            picture_size(aspect, side),
            seconds,
            self._ending.value,
            background,
        )

    def show_with_keyframes(self, button: viser.GuiButtonHandle) -> None:
        """From now on the button is there while the path is one of keyframes."""
        self._of_keyframes.append(button)
        self._refresh()

    def keyframe_cameras(self, aspect: float) -> PhotoCameras:
        """The keyframes as cameras of pictures of the size that is chosen.

        Raises:
            ValueError: if the size is out of range, or there are too few keyframes.
        """
        keyframes = self._flown()
        size = picture_size(aspect, checked_side(self._side.value, LARGEST_SIDE))
        names = tuple(f"keyframe_{number}.png" for number in range(1, len(keyframes) + 1))
        return PhotoCameras(names, (size,) * len(keyframes), cameras_at(keyframes, aspect))

    def _flown(self) -> list[Viewpoint]:
        if len(self._keyframes) < 2:
            raise ValueError("Add at least two keyframes: go to a place, press the button, go on.")
        return self._keyframes

    def _add_keyframe(self) -> None:
        with self._lock:
            here = self._viewpoint()
            if here is not None and len(self._keyframes) < MOST_KEYFRAMES:
                self._set_keyframes([*self._keyframes, here])

    def _set_keyframes(self, keyframes: list[Viewpoint]) -> None:
        self._keyframes = keyframes
        self._refresh()

    def _refresh(self) -> None:
        chosen = self._path.value == KEYFRAMES
        for control in (*self._of_keyframes, self._count):
            control.visible = chosen
        self._clear.disabled = not self._keyframes
        count = len(self._keyframes)
        self._count.content = paragraph(f"{count} keyframe{'' if count == 1 else 's'}.")
