"""One scene in one browser: splats by level, cameras, crop box, and photos laid over the scene."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import viser
from jaxtyping import Bool, Float, UInt8, UInt32

from hisplat_models.gaussian_filters import Filters, filtered, kept
from hisplat_models.gaussians import Gaussians

from .crop_gizmo import CropGizmo
from .eye import Eye
from .frustums import Frustums
from .photo_errors import PhotoErrors
from .photo_overlay import Overlaid, PhotoOverlay
from .scene import DisplayFrame, Scene
from .shading import Shade, error_colors, shaded
from .splats import BUFFER_MULTIPLE, ROW_WORDS, LevelSplats, drawn


@dataclass(frozen=True, eq=False)
class Look:
    """How a scene is shown; by default all of it as it is.

    Attributes:
        levels: Which levels; None shows all.
        shade: What the colours mean.
        points: Whether to draw dots instead of Gaussians.
        filters: What is left out besides; its ``levels`` are not looked at.
        min_confidence: What is left out besides, if the scene knows its confidence.
    """

    levels: frozenset[int] | None = None
    shade: Shade = "color"
    points: bool = False
    filters: Filters = field(default_factory=Filters)
    min_confidence: float = 0.0


class SceneView:
    """Puts a scene into a browser.

    Args:
        client: The browser.
        name: Of the scene among those in this browser.
        scene: What to show.
        look: How to show it.
        stand: Called with the number of a photo whose camera was clicked.
        frame: Display coordinates; by default those that fit the scene.
    """

    def __init__(
        self,
        client: viser.ClientHandle,
        name: str,
        scene: Scene,
        look: Look,
        stand: Callable[[int], None],
        frame: DisplayFrame | None = None,
    ) -> None:
        self.scene = scene
        self.frame = DisplayFrame.of(scene) if frame is None else frame
        self._client = client
        self._levels = {
            number: _ShownLevel(client, f"/{name}/level_{number}", splats)
            for number, splats in LevelSplats.of(scene, self.frame).items()
        }
        self._colors: dict[Shade, UInt8[np.ndarray, "n 3"]] = {}
        self._errors: PhotoErrors | None = None
        self._errors_in_frustums = False
        self._look = look
        poses = [] if scene.cameras is None else self.frame.poses(scene.cameras)
        self.eye = Eye(client, poses)
        with client.atomic():
            self._root = client.scene.add_frame(f"/{name}", show_axes=False)
            self.crop = CropGizmo(client, f"/{name}/crop", self._all_centers())
            self._frustums = Frustums(client, f"/{name}/cameras", poses, scene.photos, stand)
            self._overlay = PhotoOverlay(client, f"/{name}/overlay", poses)
            self.show(look)

    @property
    def levels(self) -> list[int]:
        """The levels that have anything to show, coarsest first."""
        return list(self._levels)

    @property
    def shown(self) -> int:
        """How many Gaussians are drawn."""
        return sum(level.shown for level in self._levels.values())

    def show(self, look: Look) -> None:
        """Changes how the scene is shown; sends only what is different.

        Raises:
            ValueError: if a filter makes no sense.
        """
        if (look.shade == "error") != self._errors_in_frustums:
            self._show_errors_in_frustums(look.shade == "error")
        self._look = look
        colors = self._colors_of(look.shade)
        with self._client.atomic():
            for number, level in self._levels.items():
                if look.levels is not None and number not in look.levels:
                    level.hide()
                else:
                    level.show(look, self._keep(level.splats, look), colors)

    def filtered(self, look: Look | None = None) -> Gaussians:
        """The Gaussians that are shown, in the world frame and as they are in the scene."""
        look = self._look if look is None else look
        gaussians = self.scene.gaussians
        if self.scene.confidence is not None and look.min_confidence > 0:
            gaussians = gaussians[self.scene.confidence >= look.min_confidence]
        return filtered(gaussians, replace(look.filters, levels=look.levels))

    def show_cameras(self, visible: bool) -> None:
        """Shows or hides the input cameras."""
        self._frustums.show(visible, self.eye.position)

    def step_aside(self) -> None:
        """Keeps the cameras' photos out of the eye's way, and an overlay where it belongs."""
        self._frustums.step_aside(self.eye.position)
        self._overlay.step_aside(self.eye.position)

    def lay_over(self, photo: int, overlaid: Overlaid, share: float) -> None:
        """Covers the scene, seen from where a photo was taken, with it or what it's compared to.

        Args:
            photo: Its number.
            overlaid: What to lay over the scene.
            share: How much of the width is covered from the left, in [0, 1].
        """
        if overlaid == "nothing" or share <= 0:
            self._overlay.remove()
            return
        self._overlay.show(photo, self._picture(photo, overlaid), share)

    def psnr(self, photo: int) -> float:
        """Of the photo and what is shown, drawn as the network draws; dB."""
        return self._shown_errors().psnr(photo)

    def remove(self) -> None:
        """Takes the scene out of the browser."""
        self._root.remove()

    def _all_centers(self) -> Float[np.ndarray, "n 3"]:
        return np.concatenate([level.splats.centers for level in self._levels.values()])

    def _keep(self, splats: LevelSplats, look: Look) -> Bool[np.ndarray, "n"]:
        keep = kept(splats.world, replace(look.filters, levels=None)).numpy()
        if self.scene.confidence is not None and look.min_confidence > 0:
            keep &= self.scene.confidence.numpy()[splats.indices] >= look.min_confidence
        return keep

    def _colors_of(self, shade: Shade) -> UInt8[np.ndarray, "n 3"]:
        if shade not in self._colors:
            errors = self._all_errors() if shade == "error" else None
            self._colors[shade] = shaded(self.scene, self.frame, shade, errors)
        return self._colors[shade]

    def _picture(self, photo: int, overlaid: Overlaid) -> UInt8[np.ndarray, "height width 3"]:
        if overlaid == "photo":
            assert self.scene.photos is not None
            return _pixels(self.scene.photos[photo].permute(1, 2, 0).numpy())
        errors = self._shown_errors()
        if overlaid == "render":
            return _pixels(errors.renders[photo].permute(1, 2, 0).numpy())
        return error_colors(errors.maps[photo].numpy())

    def _show_errors_in_frustums(self, wanted: bool) -> None:
        pictures = [error_colors(m.numpy()) for m in self._all_errors().maps] if wanted else None
        self._frustums.picture(pictures)
        self._errors_in_frustums = wanted

    def _all_errors(self) -> PhotoErrors:
        """Of the whole scene."""
        if self._errors is None:
            self._errors = self._errors_of(self.scene.gaussians)
        return self._errors

    def _shown_errors(self) -> PhotoErrors:
        """Of what is shown."""
        shown = self.filtered()
        if shown.count == self.scene.gaussians.count and self._look.filters.scale == 1:
            return self._all_errors()
        return self._errors_of(shown)

    def _errors_of(self, gaussians: Gaussians) -> PhotoErrors:
        scene = self.scene
        assert scene.cameras is not None
        assert scene.photos is not None
        assert scene.renderer is not None
        return PhotoErrors.between(gaussians, scene.cameras, scene.photos, scene.renderer)


class _ShownLevel:
    """One level in the browser, which hears about changes only."""

    def __init__(self, client: viser.ClientHandle, name: str, splats: LevelSplats) -> None:
        self.splats = splats
        self._client = client
        self._name = name
        self._handle: viser.GaussianSplatHandle | None = None
        self._style: tuple[Shade, bool, float] | None = None
        self._rows = np.zeros((0, ROW_WORDS), np.uint32)
        self._keep = np.zeros(0, bool)

    def show(
        self, look: Look, keep: Bool[np.ndarray, "n"], colors: UInt8[np.ndarray, "all 3"]
    ) -> None:
        """Shows what is kept; ``colors`` are those of the whole scene."""
        if not keep.any():
            self.hide()
            return
        style = (look.shade, look.points, look.filters.scale)
        if style != self._style:
            rgbs = colors[self.splats.indices]
            self._rows = self.splats.rows(rgbs, look.filters.scale, look.points)
        if style != self._style or not np.array_equal(keep, self._keep):
            self._style, self._keep = style, keep
            self._send(drawn(self._rows, keep))
        if self._handle is not None and not self._handle.visible:
            self._handle.visible = True

    @property
    def shown(self) -> int:
        """How many Gaussians of the level are drawn."""
        visible = self._handle is not None and self._handle.visible
        return int(self._keep.sum()) if visible else 0

    def hide(self) -> None:
        """Leaves the splats where they are, unseen."""
        if self._handle is not None and self._handle.visible:
            self._handle.visible = False

    def _send(self, rows: UInt32[np.ndarray, "n 8"]) -> None:
        if self._handle is None:
            nothing = np.zeros((BUFFER_MULTIPLE, 3))
            self._handle = self._client.scene.add_gaussian_splats(
                self._name,
                nothing,
                np.zeros((BUFFER_MULTIPLE, 3, 3)),
                nothing,
                np.zeros((BUFFER_MULTIPLE, 1)),
            )
        # One assignment of whole rows is several times faster than viser's setters.
        self._handle.buffer = rows


def _pixels(image: np.ndarray) -> UInt8[np.ndarray, "height width 3"]:
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
