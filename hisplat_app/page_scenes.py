"""What the page asks for, answered by a session; what a session makes, as the page shows it."""

import math
import threading
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from hisplat_data_tools.cameras_json import read_cameras
from hisplat_data_tools.images import load_photo
from hisplat_data_tools.scene_files import SCENE_WRITERS
from hisplat_models.gaussians import Gaussians
from hisplat_models.model_sources import bundled_models
from hisplat_models.rendering import create_renderer
from hisplat_viewer import (
    Example,
    Offer,
    PhotoSet,
    Scene,
    SceneListener,
    SceneWriter,
    Upload,
)

from .defaults import DEFAULT_MODEL, DEFAULT_SIZE, MOST_PHOTOS
from .memory_errors import TOO_LITTLE, is_out_of_memory
from .page_files import photo_cameras
from .reconstruction import PhotoBytes, Preview, Reconstruction
from .reconstruction_session import ReconstructionRequest, ReconstructionSession
from .scene_statistics import file_statistics, report_statistics
from .session import SessionFullError

INTERNAL_ERROR = "Something went wrong inside the program; its log says what."
SIZES = (256, 384, 512, 640, 768, 1024)
DEMO = Path(__file__).parent / "demo"


class PageScenes:
    """Makes the page's scenes (``hisplat_viewer.SceneSource``).

    Args:
        session: Does the work.
        model: The session's own network; bundled ones are offered besides.
        size: The session's own working size; others are offered besides.
    """

    def __init__(
        self, session: ReconstructionSession, model: str = DEFAULT_MODEL, size: int = DEFAULT_SIZE
    ) -> None:
        self._session = session
        self._models = offered_models(model)
        sizes = tuple(sorted({size, *SIZES}))
        example = Example("Room with a table", demo_photos())
        self._offer = Offer(tuple(self._models), sizes, size, (example,), MOST_PHOTOS)
        self._decoding = threading.Lock()  # a photo of 100 megapixels takes a gigabyte

    @property
    def offer(self) -> Offer:
        """What there is to choose from."""
        return self._offer

    def request(self, client: str, photos: PhotoSet, listener: SceneListener) -> None:
        """Queues the photos; replaces what ``client`` asked for before."""
        # A browser can send anything, file names included.
        if photos.model is not None and photos.model not in self._models:
            listener.failed("There is no such network to choose.")
            return
        if not 2 <= len(photos.photos) <= MOST_PHOTOS:
            listener.failed(f"Two to {MOST_PHOTOS} photos are needed.")
            return
        if photos.size not in (None, *self._offer.sizes):
            listener.failed("There is no such working size to choose.")
            return
        relay = _Relay(listener)
        request = ReconstructionRequest(
            tuple(PhotoBytes(photo.name, photo.content) for photo in photos.photos),
            focal_px=photos.focal_px,
            fov_degrees=photos.fov_degrees,
            model=None if photos.model is None else self._models[photos.model],
            size=photos.size,
            preview=relay.preview,
        )
        try:
            self._session.submit(client, request, relay)
        except SessionFullError as error:
            listener.failed(str(error))

    def withdraw(self, client: str) -> None:
        """Drops what ``client`` asked for."""
        self._session.withdraw(client)

    def thumbnail(self, upload: Upload, long_side: int) -> UInt8[np.ndarray, "height width 3"]:
        """The photo, upright and small.

        Raises:
            ValueError: saying why, if it is not a photo.
        """
        with self._decoding:
            pixels = load_photo(upload.content, upload.name).pixels
            scale = min(1.0, long_side / max(pixels.shape[:2]))
            return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


class _Relay:
    """Passes a session's news on to the page."""

    def __init__(self, listener: SceneListener) -> None:
        self._listener = listener

    def waiting(self, ahead: int) -> None:
        self._listener.waiting(ahead)

    def progress(self, step: str, fraction: float) -> None:
        self._listener.progress(step, fraction)

    def preview(self, so_far: Preview) -> None:
        self._listener.preview(preview_scene(so_far))

    def finished(self, result: Reconstruction) -> None:
        self._listener.finished(page_scene(result))

    def failed(self, error: Exception) -> None:
        # Only these are written for the user; the session logs the others.
        if isinstance(error, ValueError | OSError):
            self._listener.failed(str(error))
        else:
            self._listener.failed(TOO_LITTLE if is_out_of_memory(error) else INTERNAL_ERROR)

    def cancelled(self) -> None:
        """The page knows: it asked for something newer, or is gone."""


def offered_models(own: str) -> dict[str, str]:
    """What to load by the name that browsers see, which tells nothing of this machine's folders."""
    bundled = {name: name for name in bundled_models()}
    if own in bundled:
        return {own: own, **bundled}
    name = Path(own).name.partition("@")[0].removesuffix(".safetensors")
    return {f"{name} (own)" if name in bundled else name: own, **bundled}


def page_scene(result: Reconstruction) -> Scene:
    """The scene as the page shows it."""
    return Scene(
        result.gaussians,
        result.cameras,
        result.photos,
        result.report.summary(),
        result.report.warnings,
        report_statistics(result.report),
        result.confidence,
        create_renderer("cpu"),
        photo_cameras(result.image_cameras, result.report.near, result.report.far),
    )


def preview_scene(so_far: Preview) -> Scene:
    """The levels that are there, as the page shows them."""
    next_comes = (
        "finer ones are being made"
        if so_far.levels < so_far.levels_in_all
        else "the scene is being fitted to the photos"
    )
    summary = f"Level {so_far.levels} of {so_far.levels_in_all}; {next_comes}."
    return Scene(
        so_far.gaussians, so_far.cameras, so_far.photos, summary, renderer=create_renderer("cpu")
    )


def file_scene(gaussians: Gaussians, name: str) -> Scene:
    """A scene from a file, without photos, as the page shows it."""
    summary = f"{gaussians.count:,} Gaussians from {name}."
    return Scene(gaussians, None, None, summary, statistics=file_statistics(gaussians))


def page_writers() -> dict[str, SceneWriter]:
    """What the page offers for download."""
    return dict(SCENE_WRITERS)


def photos_of(request: ReconstructionRequest) -> PhotoSet | None:
    """What a request is made of, for the page to go on with; None if it has a file of cameras.

    The page knows of lenses only: another scene of these photos would have other cameras.

    Raises:
        OSError: if a photo cannot be read.
    """
    if request.cameras is not None:
        return None
    photos = tuple(
        Upload(photo.name, photo.read_bytes() if isinstance(photo, Path) else photo.content)
        for photo in request.photos
    )
    return PhotoSet(photos, request.fov_degrees, request.focal_px)


def demo_photos() -> PhotoSet:
    """The bundled pair."""
    cameras = read_cameras(DEMO / "cameras.json")
    photos = tuple(Upload(name, (DEMO / name).read_bytes()) for name in ("left.jpg", "right.jpg"))
    camera = cameras.find(photos[0].name)
    fov = math.degrees(2 * math.atan(camera.width / 2 / camera.fx))
    return PhotoSet(photos, fov_degrees=fov)
