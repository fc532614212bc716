"""The renderer for CUDA: gsplat behind our protocol."""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..cameras import Cameras
from ..gaussians import Gaussians
from ._checks import check_inputs
from ._frustum import projection_px
from .base import Rendering
from .settings import DEFAULT, RasterizationSettings

# The blending's constants are compiled into gsplat; the rest are arguments of its functions.
_COMPILED = ("alpha_min", "transmittance_min", "frustum_margin")
# alpha_max is compiled in too, but only opacities above both values feel the difference.
_ALPHA_MAX_TOLERANCE = 0.01


@dataclass(frozen=True)
class GsplatRenderer:
    """Draws with gsplat's CUDA kernels, in float32.

    The ``PAPER`` settings are drawn with two approximations, of which it warns once: alpha goes up
    to gsplat's own 0.999 where it should stop at 0.99, and how far a Gaussian reaches is decided
    by gsplat (from version 1.5 on as far as it is visible; three sigma before).

    Raises on construction:
        ImportError: without gsplat.
        ValueError: for settings that gsplat has compiled in with other values.
    """

    settings: RasterizationSettings = DEFAULT

    def __post_init__(self):
        _import_gsplat()
        for name in _COMPILED:
            wanted, fixed = getattr(self.settings, name), getattr(DEFAULT, name)
            if wanted != fixed:
                raise ValueError(f"gsplat draws with {name}={fixed}, got {wanted}.")
        if abs(self.settings.alpha_max - DEFAULT.alpha_max) > _ALPHA_MAX_TOLERANCE:
            raise ValueError(
                f"gsplat draws with alpha_max={DEFAULT.alpha_max}, got {self.settings.alpha_max}."
            )
        approximated = [
            f"{name}={getattr(DEFAULT, name)!r} instead of {getattr(self.settings, name)!r}"
            for name in ("alpha_max", "extent")
            if getattr(self.settings, name) != getattr(DEFAULT, name)
        ]
        if approximated:
            # Python shows equal warnings from one place once.
            warnings.warn(
                f"gsplat draws with {' and '.join(approximated)}: images differ slightly from "
                "those of the renderers on the CPU.",
                stacklevel=3,
            )

    def __call__(
        self,
        gaussians: Gaussians,
        cameras: Cameras,
        image_size: tuple[int, int],
        background: Float[Tensor, "3"] | None = None,
    ) -> Rendering:
        """Renders at ``image_size`` = (height, width); ``background`` is black by default."""
        check_inputs(gaussians, cameras, image_size)
        if gaussians.means.device.type != "cuda":
            raise ValueError(f"Expected Gaussians on a GPU, got {gaussians.means.device}.")
        # One call per scene: batched scenes need gsplat 1.5, and each call draws all its views.
        parts = [
            self._scene(gaussians[b], cameras[b], image_size, background)
            for b in range(cameras.batch_shape[0])
        ]
        colors_and_depth = torch.stack([color for color, _ in parts])
        return Rendering(
            color=colors_and_depth[..., :3].movedim(-1, 2),
            depth=colors_and_depth[..., 3],
            alpha=torch.stack([alpha[..., 0] for _, alpha in parts]),
        )

    def _scene(
        self,
        gaussians: Gaussians,
        cameras: Cameras,
        image_size: tuple[int, int],
        background: Float[Tensor, "3"] | None,
    ) -> tuple[Float[Tensor, "view height width 4"], Float[Tensor, "view height width 1"]]:
        """Colour with depth, and alpha, of one scene in all its views."""
        height, width = image_size
        if gaussians.count == 0:
            shape = (*cameras.batch_shape, height, width)
            colors = gaussians.means.new_zeros(*shape, 4)
            alphas = gaussians.means.new_zeros(*shape, 1)
            return _over(background, colors, alphas)
        colors, alphas, _ = _import_gsplat().rasterization(
            means=gaussians.means.float(),
            quats=gaussians.quaternions_wxyz.float(),
            scales=gaussians.scales.float(),
            opacities=gaussians.opacities.float(),
            colors=gaussians.harmonics.float(),
            viewmats=cameras.world_to_camera.float(),
            Ks=projection_px(cameras, image_size, self.settings).float(),
            width=width,
            height=height,
            near_plane=self.settings.near_plane,
            eps2d=self.settings.dilation_px2,
            sh_degree=gaussians.sh_degree,
            render_mode="RGB+D",
            packed=False,  # its packed mode has no gradients to camera poses in all versions
        )
        return _over(background, colors, alphas)


def _over(
    background: Float[Tensor, "3"] | None,
    colors: Float[Tensor, "view height width 4"],
    alphas: Float[Tensor, "view height width 1"],
) -> tuple[Float[Tensor, "view height width 4"], Float[Tensor, "view height width 1"]]:
    """The same over a background.

    Here rather than through gsplat's ``backgrounds``, whose number of channels with depth differs
    between its versions.
    """
    if background is None:
        return colors, alphas
    shown = colors[..., :3] + (1 - alphas) * background.to(colors)
    return torch.cat([shown, colors[..., 3:]], dim=-1), alphas


def _import_gsplat() -> Any:
    """The gsplat module; absolute imports keep it apart from this file."""
    try:
        import gsplat  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            'Rendering on a GPU needs gsplat: pip install "hisplat-app[gpu]"'
        ) from error
    return gsplat
