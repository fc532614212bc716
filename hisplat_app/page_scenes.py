"""What the page asks for, answered by a session; what a session makes, as the page shows it."""

import cv2
import numpy as np
from jaxtyping import UInt8

from hisplat_data_tools.images import load_photo
from hisplat_data_tools.scene_files import SCENE_WRITERS
from hisplat_viewer import PhotoPair, Scene, SceneListener, SceneWriter, Upload

from .page_files import photo_cameras
from .reconstruction import PhotoBytes, Reconstruction
from .reconstruction_session import ReconstructionRequest, ReconstructionSession

INTERNAL_ERROR = "Something went wrong inside the program; its log says what."


class PageScenes:
    """Makes the page's scenes (``hisplat_viewer.SceneSource``)."""

    def __init__(self, session: ReconstructionSession) -> None:
        self._session = session

    def request(self, client: str, pair: PhotoPair, listener: SceneListener) -> None:
        """Queues the pair; replaces what ``client`` asked for before."""
        left, right = (PhotoBytes(photo.name, photo.content) for photo in (pair.left, pair.right))
        request = ReconstructionRequest(left, right, None, pair.focal_px, pair.fov_degrees)
        self._session.submit(client, request, _Relay(listener))

    def withdraw(self, client: str) -> None:
        """Drops what ``client`` asked for."""
        self._session.withdraw(client)

    def thumbnail(self, upload: Upload, long_side: int) -> UInt8[np.ndarray, "height width 3"]:
        """The photo, upright and small.

        Raises:
            ValueError: saying why, if it is not a photo.
        """
        pixels = load_photo(upload.content, upload.name).pixels
        scale = min(1.0, long_side / max(pixels.shape[:2]))
        return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


class _Relay:
    """Passes a session's news on to the page."""

    def __init__(self, listener: SceneListener) -> None:
        self._listener = listener

    def progress(self, step: str, fraction: float) -> None:
        self._listener.progress(step, fraction)

    def finished(self, result: Reconstruction) -> None:
        self._listener.finished(page_scene(result))

    def failed(self, error: Exception) -> None:
        # Only these are written for the user; the session logs the others.
        told = isinstance(error, ValueError | OSError)
        self._listener.failed(str(error) if told else INTERNAL_ERROR)

    def cancelled(self) -> None:
        """The page knows: it asked for something newer, or is gone."""


def page_scene(result: Reconstruction) -> Scene:
    """The scene as the page shows it."""
    return Scene(
        result.gaussians,
        result.cameras,
        result.photos,
        result.report.summary(),
        result.report.warnings,
        photo_cameras=photo_cameras(result.image_cameras, result.report.near, result.report.far),
    )


def page_writers() -> dict[str, SceneWriter]:
    """What the page offers for download."""
    return dict(SCENE_WRITERS)
