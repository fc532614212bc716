"""A box around what is kept, moved and turned in the browser."""

from collections.abc import Callable

import numpy as np
import torch
import viser
from jaxtyping import Float

from hisplat_models.gaussian_filters import CropBox
from hisplat_models.gaussians import quaternions_to_matrices

from .scene import DisplayFrame

ENDS = (0.01, 0.99)
"""Shares of the Gaussians before and behind the box's sides at first."""
ENOUGH = 20_000
"""As many Gaussians tell where the sides are."""
MARGIN = 1.02
GIZMO_SHARE = 0.35
COLOR = (242, 153, 74)


class CropGizmo:
    """The box of one scene in one browser; hidden at first.

    Args:
        client: The browser.
        name: Of its node.
        centers: Of all Gaussians, display coordinates.
    """

    def __init__(
        self, client: viser.ClientHandle, name: str, centers: Float[np.ndarray, "n 3"]
    ) -> None:
        step = max(1, len(centers) // ENOUGH)
        low, high = np.quantile(centers[::step], ENDS, axis=0)
        self.size = np.maximum(MARGIN * (high - low), 1e-3)
        """Lengths of the edges, display units."""
        with client.atomic():
            self._gizmo = client.scene.add_transform_controls(
                name,
                scale=GIZMO_SHARE * float(self.size.min()),
                position=(low + high) / 2,
                depth_test=False,  # it stands amid the splats
                visible=False,
            )
            self._box = client.scene.add_box(
                f"{name}/box", COLOR, self.size, wireframe=True, cast_shadow=False, visible=False
            )

    def on_moved(self, moved: Callable[[], None]) -> None:
        """Calls ``moved`` when the user has let go of the box."""

        def heard(event: viser.TransformControlsEvent) -> None:
            if event.phase == "end":
                moved()

        self._gizmo.on_update(heard)

    def show(self, visible: bool, share: Float[np.ndarray, "3"]) -> None:
        """Shows or hides the box; its edges are ``share`` of what they were at first."""
        self._gizmo.visible = self._box.visible = visible
        self._box.dimensions = tuple((self.size * share).tolist())

    def box(self, frame: DisplayFrame, share: Float[np.ndarray, "3"]) -> CropBox:
        """The box in the world."""
        return crop_box(self._gizmo.position, self._gizmo.wxyz, self.size * share, frame)


def crop_box(
    position: Float[np.ndarray, "3"],
    wxyz: Float[np.ndarray, "4"],
    size: Float[np.ndarray, "3"],
    frame: DisplayFrame,
) -> CropBox:
    """A box of display coordinates in the world."""
    view_to_box = torch.eye(4)
    view_to_box[:3, :3] = quaternions_to_matrices(torch.as_tensor(wxyz, dtype=torch.float32)).T
    center = torch.as_tensor(position, dtype=torch.float32) / frame.scale
    view_to_box[:3, 3] = -(view_to_box[:3, :3] @ center)
    half = torch.as_tensor(size, dtype=torch.float32) / (2 * frame.scale)
    return CropBox(view_to_box @ frame.world_to_view, half)
