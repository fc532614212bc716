"""The controls for taking a scene along."""

from collections.abc import Mapping
from functools import partial

import viser

from .exchange import SceneWriter
from .scene import Scene


class SavePanel:
    """A folder of download buttons; hidden without a scene.

    Args:
        client: The browser.
        writers: Makes a file from a scene, by file ending; each is a button.
    """

    def __init__(self, client: viser.ClientHandle, writers: Mapping[str, SceneWriter]) -> None:
        self._client = client
        self._scene: Scene | None = None
        gui = client.gui
        self._folder = gui.add_folder("Save", visible=False)
        with self._folder:
            for ending, writer in writers.items():
                button = gui.add_button(f"Download {ending}", icon=viser.Icon.DOWNLOAD)
                button.on_click(partial(self._download, ending, writer))

    def show(self, scene: Scene) -> None:
        """Offers this scene; the caller holds the page's lock."""
        self._scene = scene
        self._folder.visible = True

    def close(self) -> None:
        """The browser has left; the caller holds the page's lock."""
        self._scene = None

    def _download(self, ending: str, writer: SceneWriter, event: viser.GuiEvent) -> None:
        scene = self._scene
        if scene is not None:
            content = writer(scene.gaussians)
            self._client.send_file_download(f"scene{ending}", content, save_immediately=True)
