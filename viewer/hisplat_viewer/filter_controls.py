"""What is left out of the picture: faint, large, small and doubtful Gaussians, or all but a box."""

from collections.abc import Callable

import numpy as np
import torch
import viser

from hisplat_models.gaussian_filters import Filters, size_limits, sizes

from .paragraphs import paragraph
from .scene import Scene
from .scene_view import Look, SceneView
from .shading import Shade

ALL_SIZES = (0, 100)
WHOLE_BOX = (1.0, 1.0, 1.0)
SMALLEST_BOX, LARGEST_BOX = (0.02, 0.02, 0.02), (5.0, 5.0, 5.0)


class FilterControls:
    """A folder of controls that stays when the scene changes.

    Args:
        client: The browser.
        changed: Called when something else is wanted, on any thread.
    """

    def __init__(self, client: viser.ClientHandle, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._view: SceneView | None = None
        self._sorted_sizes = torch.zeros(1)
        gui = client.gui
        with gui.add_folder("Filters", expand_by_default=False):
            self._opacity = gui.add_slider("Opacity ≥", 0.0, 1.0, 0.01, 0.0)
            self._sizes = gui.add_multi_slider(
                "Sizes (%)", *ALL_SIZES, step=1, initial_value=ALL_SIZES,
                hint="0 is the smallest Gaussian, 100 the largest; each step has as many",
            )  # fmt: skip
            self._confidence = gui.add_slider(
                "Confidence ≥", 0.0, 1.0, 0.01, 0.0, visible=False,
                hint="How well the photos agree on the place of a Gaussian",
            )  # fmt: skip
            self._scale = gui.add_slider("Scale", 0.05, 3.0, 0.05, 1.0)
            self._points = gui.add_checkbox("Points", False, hint="Dots instead of Gaussians")
            self._crop = gui.add_checkbox("Crop box", False, hint="Drag its arrows and arcs")
            self._box_size = gui.add_vector3(
                "Box size", WHOLE_BOX, min=SMALLEST_BOX, max=LARGEST_BOX, step=0.02, visible=False,
                hint="Width, height and depth; 1 is nearly the whole scene",
            )  # fmt: skip
            reset = gui.add_button("No filters", icon=viser.Icon.FILTER_OFF, color="gray")
            self._count = gui.add_html("")
        for control in (
            self._opacity,
            self._sizes,
            self._confidence,
            self._scale,
            self._points,
        ):
            control.on_update(self._heard)
        self._crop.on_update(self._crop_changed)
        self._box_size.on_update(self._crop_changed)
        reset.on_click(self._reset)

    def attach(self, view: SceneView, scene: Scene) -> None:
        """The scene that is filtered from now on."""
        self._view = view
        self._sorted_sizes = sizes(scene.gaussians).sort().values
        self._confidence.visible = scene.confidence is not None
        view.crop.on_moved(self._changed)
        self._show_box()

    def look(self, levels: frozenset[int], shade: Shade) -> Look:
        """What is wanted, together with levels and colours."""
        return Look(
            levels=levels,
            shade=shade,
            points=self._points.value,
            filters=self._filters(),
            min_confidence=self._confidence.value,
        )

    def tell(self, shown: int, total: int) -> None:
        """Says how many Gaussians are left."""
        self._count.content = paragraph(f"{shown:,} of {total:,} Gaussians are shown.")

    def _filters(self) -> Filters:
        box = None
        if self._crop.value and self._view is not None:
            box = self._view.crop.box(self._view.frame, np.array(self._box_size.value))
        return Filters(
            min_opacity=self._opacity.value,
            sizes=size_limits(self._sorted_sizes, *self._sizes.value),
            box=box,
            scale=self._scale.value,
        )

    def _heard(self, event: viser.GuiEvent) -> None:
        if event.client is not None:  # else it is this program that has set the value
            self._changed()

    def _crop_changed(self, event: viser.GuiEvent) -> None:
        if event.client is not None:
            self._show_box()
            self._changed()

    def _show_box(self) -> None:
        self._box_size.visible = self._crop.value
        if self._view is not None:
            self._view.crop.show(self._crop.value, np.array(self._box_size.value))

    def _reset(self, event: viser.GuiEvent) -> None:
        self._opacity.value = self._confidence.value = 0.0
        self._sizes.value = ALL_SIZES
        self._scale.value = 1.0
        self._points.value = self._crop.value = False
        self._box_size.value = WHOLE_BOX
        self._show_box()
        self._changed()
