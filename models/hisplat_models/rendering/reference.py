"""The same picture in plain torch, dense over pixels times Gaussians; for tests and tiny scenes."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..cameras import Cameras
from ..gaussians import Gaussians
from ..spherical_harmonics import sh_basis
from ._checks import check_inputs
from ._depth_order import sorting_depths
from ._frustum import projection_px
from .base import Rendering
from .settings import DEFAULT, EXTENT_TILE, RasterizationSettings


@dataclass(frozen=True)
class ReferenceRenderer:
    """Draws with torch operations alone: any device and floating type, gradients by autograd.

    Attributes:
        settings: The blending's constants.
        pixels_at_once: Bounds the memory, which grows with this times the number of Gaussians.
    """

    settings: RasterizationSettings = DEFAULT
    pixels_at_once: int = 4096

    def __call__(
        self,
        gaussians: Gaussians,
        cameras: Cameras,
        image_size: tuple[int, int],
        background: Float[Tensor, "3"] | None = None,
    ) -> Rendering:
        """Renders at ``image_size`` = (height, width); ``background`` is black by default."""
        check_inputs(gaussians, cameras, image_size)
        if background is None:
            background = gaussians.means.new_zeros(3)
        batch, views = cameras.batch_shape
        images = [
            self._view(gaussians[b], cameras[b, v], image_size, background.to(gaussians.means))
            for b in range(batch)
            for v in range(views)
        ]
        stacked = torch.stack(images).unflatten(0, (batch, views))
        return Rendering(stacked[:, :, :3], stacked[:, :, 3], stacked[:, :, 4])

    def _view(
        self,
        gaussians: Gaussians,
        camera: Cameras,
        image_size: tuple[int, int],
        background: Float[Tensor, "3"],
    ) -> Float[Tensor, "5 height width"]:
        """Colour, depth and alpha of one scene in one camera."""
        height, width = image_size
        z = (gaussians.means @ camera.world_to_camera[:3, :3].mT + camera.world_to_camera[:3, 3])[
            :, 2
        ]
        seen = (z > self.settings.near_plane) & (gaussians.opacities > 0)
        rounded = sorting_depths(gaussians.means[None], camera[None, None], self.settings)
        sort_by = z if rounded is None else rounded[0, 0]
        order = torch.argsort(torch.where(seen, sort_by, torch.inf), stable=True)
        order = order[: int(seen.sum())]
        gaussians = gaussians[order]
        ellipses = project_ellipses(gaussians, camera, image_size, self.settings)
        features = torch.cat(
            [colors_seen_from(gaussians, camera.positions), ellipses.depth[:, None]], dim=-1
        )
        rows = torch.arange(height).to(features) + 0.5
        columns = torch.arange(width).to(features) + 0.5
        pixels = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1).reshape(-1, 2)
        chunks = [
            self._blend(part, ellipses, gaussians.opacities, features)
            for part in pixels.split(self.pixels_at_once)
        ]
        blended = torch.cat(chunks)
        color = blended[:, :3] + (1 - blended[:, 4:]) * background
        return torch.cat([color, blended[:, 3:]], dim=-1).mT.reshape(5, height, width)

    def _blend(
        self,
        pixels: Float[Tensor, "pixel 2"],
        ellipses: "Ellipses",
        opacities: Float[Tensor, "n"],
        features: Float[Tensor, "n 4"],
    ) -> Float[Tensor, "pixel 5"]:
        """Weighted features, then the sum of the weights; Gaussians are front to back."""
        settings = self.settings
        dx, dy = (pixels[:, None] - ellipses.means_px).unbind(-1)
        a, b, c = ellipses.conics().unbind(-1)
        power = -0.5 * (a * dx * dx + 2 * b * dx * dy + c * dy * dy)
        alpha = (opacities * torch.exp(power)).clamp_max(settings.alpha_max)
        alpha = torch.where(alpha >= settings.alpha_min, alpha, 0.0)
        if settings.extent == "three_sigma_tiles":
            alpha = torch.where(in_tiles_touched(pixels, ellipses), alpha, 0.0)
        after = torch.cumprod(1 - alpha, dim=-1)
        before = torch.cat([torch.ones_like(after[:, :1]), after], dim=-1)[:, :-1]
        # Transmittance only falls, so this also leaves out all that lies behind.
        weights = torch.where(after >= settings.transmittance_min, alpha * before, 0.0)
        return torch.cat([weights @ features, weights.sum(-1, keepdim=True)], dim=-1)


@dataclass(frozen=True)
class Ellipses:
    """Gaussians in one image.

    Attributes:
        means_px: Centres in pixels, (0, 0) is the corner of the first pixel.
        covariances_px2: (xx, xy, yy), dilation included.
        depth: z-depth of the centres, world units.
    """

    means_px: Float[Tensor, "n 2"]
    covariances_px2: Float[Tensor, "n 3"]
    depth: Float[Tensor, "n"]

    def determinants(self) -> Float[Tensor, "n"]:
        """Of the covariances, px⁴."""
        xx, xy, yy = self.covariances_px2.unbind(-1)
        return xx * yy - xy * xy

    def conics(self) -> Float[Tensor, "n 3"]:
        """The inverse covariances (xx, xy, yy) in 1 / px²."""
        xx, xy, yy = self.covariances_px2.unbind(-1)
        return torch.stack([yy, -xy, xx], dim=-1) / self.determinants()[:, None]


def project_ellipses(
    gaussians: Gaussians,
    camera: Cameras,
    image_size: tuple[int, int],
    settings: RasterizationSettings,
) -> Ellipses:
    """A scene's Gaussians as one camera sees them; EWA splatting."""
    height, width = image_size
    pose, k = camera.world_to_camera, projection_px(camera, image_size, settings)
    fx, fy, cx, cy = k[0, 0], k[1, 1], k[0, 2], k[1, 2]
    x, y, z = (gaussians.means @ pose[:3, :3].mT + pose[:3, 3]).unbind(-1)
    means_px = torch.stack([fx * x / z + cx, fy * y / z + cy], dim=-1)
    extra_x = settings.frustum_margin * 0.5 * width / fx
    extra_y = settings.frustum_margin * 0.5 * height / fy
    u = (x / z).clamp(-cx / fx - extra_x, (width - cx) / fx + extra_x)
    v = (y / z).clamp(-cy / fy - extra_y, (height - cy) / fy + extra_y)
    zero = torch.zeros_like(z)
    jacobian = torch.stack([fx / z, zero, -fx * u / z, zero, fy / z, -fy * v / z], dim=-1)
    half = jacobian.unflatten(-1, (2, 3)) @ pose[:3, :3]
    covariance = half @ gaussians.covariances() @ half.mT
    xx = covariance[:, 0, 0] + settings.dilation_px2
    yy = covariance[:, 1, 1] + settings.dilation_px2
    return Ellipses(means_px, torch.stack([xx, covariance[:, 0, 1], yy], dim=-1), z)


def in_tiles_touched(
    pixels: Float[Tensor, "pixel 2"], ellipses: Ellipses
) -> Bool[Tensor, "pixel n"]:
    """Whether each pixel lies in a tile that the Gaussian's three-sigma square touches.

    As 3D Gaussian splatting rounds: pixel centres are whole numbers, and the last tile counts
    only if it is entered by a pixel or more.
    """
    xx, _, yy = ellipses.covariances_px2.unbind(-1)
    mid = 0.5 * (xx + yy)
    spread = (mid * mid - ellipses.determinants()).clamp_min(0.1).sqrt()
    radius = torch.ceil(3 * (mid + spread).sqrt())[:, None]
    centers = ellipses.means_px - 0.5
    first = torch.floor((centers - radius) / EXTENT_TILE)
    end = torch.floor((centers + radius + (EXTENT_TILE - 1)) / EXTENT_TILE)
    tiles = torch.floor(pixels / EXTENT_TILE)[:, None]
    return ((tiles >= first) & (tiles < end)).all(dim=-1)


def colors_seen_from(gaussians: Gaussians, position: Float[Tensor, "3"]) -> Float[Tensor, "n 3"]:
    """RGB of a scene's Gaussians seen from a point, clamped below at 0."""
    directions = torch.nn.functional.normalize(gaussians.means - position, dim=-1)
    basis = sh_basis(directions, gaussians.sh_degree)
    return (0.5 + torch.einsum("nk,nkc->nc", basis, gaussians.harmonics)).clamp_min(0.0)
