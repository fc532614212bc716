"""A page without a network behind it."""

import numpy as np

from hisplat_viewer import Offer, PhotoSet, SceneListener, Upload


class NoScenes:
    """A source that never has anything and offers nothing."""

    offer = Offer()

    def request(self, client: str, photos: PhotoSet, listener: SceneListener) -> None:
        listener.failed("There is nothing here.")

    def withdraw(self, client: str) -> None:
        pass

    def thumbnail(self, upload: Upload, long_side: int) -> np.ndarray:
        raise ValueError(f"{upload.name} is no photo.")
