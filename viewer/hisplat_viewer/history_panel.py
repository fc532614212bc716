"""The last scenes of one browser, to go back to."""

import threading
from collections.abc import Callable

import viser

from .scene import Scene

MOST_SCENES = 8
MOST_GAUSSIANS = 2_000_000
"""Of all scenes kept for one browser together, about 150 MB; the newest is kept in any case."""
LONGEST_TITLE = 48
NOTHING: str = ""


class HistoryPanel:
    """A list of scenes; hidden while there is nothing to choose.

    Args:
        client: The browser.
        lock: Of the browser's page; held by callbacks.
        on_chosen: Called with the scene to go back to, with the lock held.
    """

    def __init__(
        self,
        client: viser.ClientHandle,
        lock: threading.RLock,
        on_chosen: Callable[[Scene], None],
    ) -> None:
        self._lock = lock
        self._on_chosen = on_chosen
        self._scenes: dict[str, Scene] = {}  # oldest first, by their line in the list
        self._shown = ""
        self._count = 0
        self._list = client.gui.add_dropdown(
            "History",
            (NOTHING,),
            visible=False,
            hint="Scenes made in this window; closing it drops them",
        )
        self._list.on_update(self._chosen)

    def add(self, scene: Scene, title: str) -> None:
        """Keeps a scene that is shown now; the caller holds the lock."""
        self._count += 1
        short = title if len(title) <= LONGEST_TITLE else title[: LONGEST_TITLE - 1] + "…"
        self._shown = f"{self._count}: {short}"
        self._scenes[self._shown] = scene
        while len(self._scenes) > 1 and (
            len(self._scenes) > MOST_SCENES
            or sum(s.gaussians.count for s in self._scenes.values()) > MOST_GAUSSIANS
        ):
            del self._scenes[next(iter(self._scenes))]
        self._list.options = tuple(reversed(self._scenes))
        self._list.value = self._shown
        self._list.visible = len(self._scenes) > 1

    def clear(self) -> None:
        """Forgets all scenes; the caller holds the lock."""
        self._scenes.clear()

    def _chosen(self, event: viser.GuiEvent) -> None:
        with self._lock:
            title = self._list.value
            scene = self._scenes.get(title)
            if scene is not None and title != self._shown:
                self._shown = title
                self._on_chosen(scene)
