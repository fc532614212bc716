"""The page of one browser: what belongs together in it, and the scene that is current."""

import threading
from collections.abc import Mapping

import viser

from .exchange import PhotoSet, SceneSource, SceneWriter
from .history_panel import HistoryPanel
from .look_panel import LookPanel
from .photos_panel import PhotosPanel
from .save_panel import SavePanel
from .saving import SceneSaver
from .scene import Scene


class Panel:
    """The controls of one browser, with its own photos and scene.

    Callbacks come from several threads, so everything that changes the page holds its lock.

    Args:
        client: The browser.
        source: Makes scenes from uploaded photos.
        writers: Makes a file from a scene, by file ending.
        saver: Makes other files of a scene; None offers none of them.
    """

    def __init__(
        self,
        client: viser.ClientHandle,
        source: SceneSource,
        writers: Mapping[str, SceneWriter],
        saver: SceneSaver | None = None,
    ) -> None:
        self._lock = threading.RLock()
        self._scene: Scene | None = None
        self._previewing = False
        name = f"page-{client.client_id}"
        with client.atomic():
            self._photos = PhotosPanel(
                client, name, source, self._lock, self.show, self._preview, self._end_preview
            )
            self._history = HistoryPanel(client, self._lock, self._show_again)
            self._look = LookPanel(client, self._lock)
            self._save = SavePanel(client, name, self._lock, self._look, writers, saver)

    @property
    def has_scene(self) -> bool:
        """Whether anything is shown."""
        return self._scene is not None

    def show(self, scene: Scene, title: str, photos: PhotoSet | None = None) -> None:
        """Replaces what is shown, and keeps it in the history by this title.

        Args:
            scene: What to show.
            title: Its name in the history.
            photos: What it was made of, to make it anew otherwise; None if they are here already.

        Raises:
            ValueError: if there is nothing to show.
        """
        with self._lock:
            self._replace(scene, keep_eye=self._previewing)
            self._history.add(scene, title)
            if photos is not None:
                self._photos.offer(photos)

    def preview(self, scene: Scene) -> None:
        """Shows a scene that a better one follows, unless there is one already."""
        with self._lock:
            if self._scene is None:
                self._preview(scene)

    def close(self) -> None:
        """The browser has left: nothing more is asked for, expected or kept."""
        self._photos.close()
        with self._lock:
            self._history.clear()
            self._look.close()
            self._save.close()
            self._scene = None

    def _show_again(self, scene: Scene) -> None:
        with self._lock:
            self._replace(scene)

    def _preview(self, scene: Scene) -> None:
        """Shows what is there of a scene; from its second level on the eye stays where it is."""
        self._look.show(scene, keep_eye=self._previewing)
        self._save.show(scene)
        self._previewing = True

    def _end_preview(self) -> None:
        """Goes back to the scene before, if there was one; the caller holds the lock."""
        if not self._previewing:
            return
        self._previewing = False
        if self._scene is None:
            self._look.clear()
            self._save.clear()
        else:
            self._look.show(self._scene)
            self._save.show(self._scene)

    def _replace(self, scene: Scene, keep_eye: bool = False) -> None:
        self._look.show(scene, keep_eye)
        self._save.show(scene)
        self._photos.say(scene.summary, scene.warnings)
        self._scene = scene
        self._previewing = False
