"""The browser page: uploads photos, shows the scene made of them, saves it.

It knows no network: a ``SceneSource`` makes the scenes.
"""

try:
    import viser as _viser  # noqa: F401
except ImportError as error:
    raise ImportError('The viewer needs viser: pip install "hisplat-app[viewer]"') from error

from .exchange import (
    Example,
    Offer,
    PhotoSet,
    SceneListener,
    SceneSource,
    SceneWriter,
    Upload,
)
from .saving import PhotoCameras, SceneSaver, VideoPlan
from .scene import Scene
from .server import ViewerServer

__all__ = [
    "Example",
    "Offer",
    "PhotoCameras",
    "PhotoSet",
    "Scene",
    "SceneListener",
    "SceneSaver",
    "SceneSource",
    "SceneWriter",
    "Upload",
    "VideoPlan",
    "ViewerServer",
]
