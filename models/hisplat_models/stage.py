"""One coarse-to-fine stage: features, the coarser surface and its errors -> Gaussians."""

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .cameras import Cameras
from .channels_last import added, joined
from .config import HiSplatConfig
from .depth_heads import (
    BackdropDepth,
    CandidateChoice,
    CandidateDepth,
    CostVolumeDepth,
    LimitedDepth,
    ResidualDepth,
    SurfaceEstimate,
    bounded,
    upsampled,
    zero_initialised,
)
from .fusion import resize_maps
from .gaussian_head import HARMONICS_START, gaussians_from_raw, raw_channels
from .gaussians import Gaussians
from .prior_maps import (
    BACKDROP_CHANNELS,
    CANDIDATES,
    EVIDENCE_CHANNELS,
    PriorMaps,
    StagePrior,
    pooled_maps,
    squash,
)
from .refine_unet import RefineUNet, group_norm
from .start_errors import START_ERROR_CHANNELS


@dataclass(frozen=True)
class StageOutput:
    """What one stage made.

    Attributes:
        gaussians: Its own Gaussians, order (view, row, column), before any later re-weighting.
        raw: Their raw channels, on the padded grid.
        opacities: Their opacities, on the grid without padding.
        inverse_depth: 1 / z-depth of their centres in the view's camera, on the padded grid.
        surface: The surface handed to the next stage.
        padding: Cells of the padded grid beyond the photo on each side.
        candidate_logits: Of the finest stage's choice among the prior's candidates, or None.
    """

    gaussians: Gaussians
    raw: Float[Tensor, "batch view raw rows cols"]
    opacities: Float[Tensor, "batch view h w"]
    inverse_depth: Float[Tensor, "batch view rows cols"]
    surface: SurfaceEstimate
    padding: int
    candidate_logits: Float[Tensor, "batch view candidates h w"] | None = None


class Stage(nn.Module):
    """One stage of HiSplat (section 3.3, figure 3).

    ::

        T (transformer), F (CNN) ---> full ----+--------------------+
        photo, coarse surface, error,          |                    |
        matcher's evidence -----------> refine U-Net --> R --> Gaussian head --> raw channels
                                               |         |
                                               +---------+--> disparity head --> depth, opacity

    With a matching prior the raw channels and opacities are bounded, zero-initialised residuals
    on the analytic ones, and photo colours are left out of the inputs.
    """

    raw_limits: Tensor

    # How far learned raw channels may leave the analytic ones: offset, scale, rotation, colour.
    RAW_LIMITS = (2.0,) * 2 + (2.5,) * 3 + (1.0,) * 4 + (0.5,) * 3
    OPACITY_LIMIT = 4.0

    def __init__(self, config: HiSplatConfig, index: int):
        super().__init__()
        stage = config.stages[index]
        transformer, cnn = config.cnn_widths[-1], config.cnn_widths[config.cnn_level(stage)]
        width = stage.refine_channels
        self.index = index
        self.refine_stride = stage.refine_stride
        self.sh_degree = config.sh_degree
        self.published_adapter = config.published_adapter

        extra = EVIDENCE_CHANNELS + BACKDROP_CHANNELS if config.matching_prior else 3
        error = 3 if index > 0 and config.error_aware else 0
        if config.reads_start_errors(index):
            error += START_ERROR_CHANNELS
        refine_in = extra + width + 2 + cnn + error
        self.full = nn.Conv2d(transformer + cnn, cnn, 3, padding=1)
        self.projection = nn.Conv2d(cnn, width, 3, padding=1)
        self.refine_in = nn.Conv2d(refine_in, width, 3, padding=1)
        self.refine_norm = group_norm(width, groups=4)
        self.refine = RefineUNet(width, stage.refine_levels, stage.refine_attention)
        kernel = stage.head_kernel
        head_in = width + extra + cnn + error
        self.head_fine = None
        if stage.refine_stride > 1:
            # A 1x1 convolution of upsampled maps is the upsampled convolution: only what the
            # matcher knows at full resolution needs to be convolved there.
            head_in -= extra
            self.head_fine = nn.Conv2d(extra, stage.head_channels, 1)
        self.head_hidden = nn.Conv2d(head_in, stage.head_channels, kernel, padding=kernel // 2)
        self.head_out = nn.Conv2d(
            stage.head_channels, raw_channels(config.sh_degree), kernel, padding=kernel // 2
        )
        self.disparity_hidden = nn.Conv2d(width, 2 * width, kernel, padding=kernel // 2)
        self.disparity_out = nn.Conv2d(2 * width, 2, kernel, padding=kernel // 2)
        if config.matching_prior:
            zero_initialised(self.head_out)
            zero_initialised(self.disparity_out)
            limits = torch.tensor(self.RAW_LIMITS)[:, None, None]
            self.register_buffer("raw_limits", limits, persistent=False)

        self.surface = None
        if index == 0:
            self.surface = CostVolumeDepth(
                transformer,
                config.depth_candidates,
                config.corr_channels,
                config.corr_levels,
                config.corr_attention,
                prior=config.matching_prior,
            )
        self.placement = {
            "cost_volume": nn.Identity,
            "residual": ResidualDepth,
            "limited": lambda: LimitedDepth(width),
            "backdrop": BackdropDepth,
            "candidates": lambda: CandidateDepth(stage.head_channels, CANDIDATES),
        }[stage.depth]()

    def forward(
        self,
        transformer: Float[Tensor, "batch view t_channels t_height t_width"],
        cnn: Float[Tensor, "batch view channels h w"],
        images: Float[Tensor, "batch view 3 height width"],
        cameras: Cameras,
        coarser: SurfaceEstimate | None,
        error: Float[Tensor, "batch view errors error_height error_width"] | None,
        prior: PriorMaps | None,
    ) -> StageOutput:
        """The stage's Gaussians and the surface for the next stage.

        Args:
            transformer: Multi-view features at the coarsest resolution.
            cnn: Single-view features at this stage's resolution.
            images: RGB in [0, 1].
            cameras: Shape (batch, view).
            coarser: The previous stage's surface; None for the first stage.
            error: |photo - render| of the Gaussians so far, then with ``error_of_start`` those of
                ``start_errors``; None without error awareness.
            prior: The prepared matching prior, if the network was built with one.
        """
        size = (cnn.shape[-2], cnn.shape[-1])
        views = cnn.shape[:2]
        full = self.full(joined([resize_maps(transformer, *size), cnn]))
        full = F.gelu(full).unflatten(0, views)
        surface = self._surface(transformer, cameras, coarser, prior, size)
        errors = [] if error is None else [resize_maps(error, *size)]
        start = prior.stages[self.index] if prior is not None else None
        seen = resize_maps(images, *size)
        if start is not None:
            seen = pooled_maps(start.evidence, self.refine_stride)
        refined = self._refined(
            [
                seen,
                _per_view(self.projection, full),
                self._disparity_input(surface, prior),
                surface.confidence,
                full,
                *errors,
            ]
        )
        known = (refined, seen, full, errors, surface, cameras, prior)
        if start is None or torch.is_grad_enabled():
            return self._placed(*known)
        # From here on views are on their own: one by one they take a fraction of the memory.
        each = [self._placed(*_of_view(known, view)) for view in range(views[1])]
        return _side_by_side(each, surface)

    def start(self, prior: PriorMaps, cameras: Cameras) -> Gaussians:
        """The stage's Gaussians before anything is learned: the analytic scene's."""
        start = prior.stages[self.index]
        return gaussians_from_raw(
            start.raw(self.sh_degree),
            start.opacity_logit.sigmoid(),
            start.inverse_depth,
            cameras,
            level=self.index,
            padding=start.padding,
        )

    def _refined(self, maps: list[Tensor]) -> Float[Tensor, "batch view width h w"]:
        """What the U-Net makes of all that is known at its resolution."""
        x = F.gelu(self.refine_norm(self.refine_in(joined(maps))))
        return self.refine(x.unflatten(0, maps[0].shape[:2]))

    def _placed(
        self,
        refined: Tensor,
        seen: Tensor,
        full: Tensor,
        errors: list[Tensor],
        surface: SurfaceEstimate,
        cameras: Cameras,
        prior: PriorMaps | None,
    ) -> StageOutput:
        """Gaussians of the U-Net's features and of what went into it."""
        start = prior.stages[self.index] if prior is not None else None
        hidden = self._head_features(refined, seen, full, errors, start)
        raw = _per_view(self.head_out, hidden)
        heads = _per_view(self.disparity_out, F.gelu(_per_view(self.disparity_hidden, refined)))
        heads = resize_maps(heads, *raw.shape[-2:])
        delta, opacity_logit = heads[:, :, :1], heads[:, :, 1]
        if start is None:
            return self._as_published(raw, delta, opacity_logit, refined, surface, cameras)
        choice = None
        if isinstance(self.placement, CandidateDepth):
            assert prior is not None
            choice = self.placement(hidden, prior)
        del hidden  # as large as all that follows
        return self._from_prior(raw, delta, opacity_logit, choice, surface, cameras, start)

    def _head_features(
        self,
        refined: Tensor,
        seen: Tensor,
        full: Tensor,
        errors: list[Tensor],
        start: StagePrior | None,
    ) -> Tensor:
        """The Gaussian head's hidden features at the stage's own resolution."""
        if self.head_fine is None:
            hidden = self.head_hidden(joined([refined, seen, full, *errors]))
            return F.gelu(hidden).unflatten(0, refined.shape[:2])
        assert start is not None
        coarse = self.head_hidden(joined([refined, full, *errors]))
        coarse = coarse.unflatten(0, refined.shape[:2])
        fine = _per_view(self.head_fine, start.evidence)
        return F.gelu(added(fine, resize_maps(coarse, *fine.shape[-2:])))

    def _surface(
        self,
        transformer: Tensor,
        cameras: Cameras,
        coarser: SurfaceEstimate | None,
        prior: PriorMaps | None,
        size: tuple[int, int],
    ) -> SurfaceEstimate:
        if self.surface is not None:
            return self.surface(transformer, cameras, prior)
        assert coarser is not None
        return upsampled(coarser, *size)

    def _disparity_input(self, surface: SurfaceEstimate, prior: PriorMaps | None) -> Tensor:
        """The surface as the U-Net sees it; with a prior relative to it, free of the range."""
        if prior is None:
            return surface.inverse_depth
        classical = prior.candidates[:, :, :1]
        classical = resize_maps(classical, *surface.inverse_depth.shape[-2:])
        return squash(surface.inverse_depth - classical, prior.pixels_per_inverse_depth)

    def _as_published(
        self,
        raw: Tensor,
        delta: Tensor,
        opacity_logit: Tensor,
        refined: Tensor,
        surface: SurfaceEstimate,
        cameras: Cameras,
    ) -> StageOutput:
        inverse_depth = surface.inverse_depth
        if isinstance(self.placement, ResidualDepth):
            nearest, farthest = (1 / x[:, :, None, None, None] for x in (cameras.near, cameras.far))
            inverse_depth = self.placement(inverse_depth, delta, nearest, farthest)
        elif isinstance(self.placement, LimitedDepth):
            inverse_depth = self.placement(refined, inverse_depth, cameras)
        opacities = opacity_logit.sigmoid()
        gaussians = gaussians_from_raw(
            raw,
            opacities,
            inverse_depth[:, :, 0],
            cameras,
            level=self.index,
            published=self.published_adapter,
        )
        estimate = SurfaceEstimate(inverse_depth, surface.confidence, surface.logits)
        return StageOutput(gaussians, raw, opacities, inverse_depth[:, :, 0], estimate, padding=0)

    def _from_prior(
        self,
        raw: Tensor,
        delta: Tensor,
        opacity_logit: Tensor,
        choice: CandidateChoice | None,
        surface: SurfaceEstimate,
        cameras: Cameras,
        start: StagePrior,
    ) -> StageOutput:
        p = start.padding
        raw = start.raw(self.sh_degree) + _beyond_photo(bounded(raw, self.raw_limits), p)
        logits = None
        if choice is not None:
            inverse_depth, logits = choice.inverse_depth, choice.logits
            opacity_logit = opacity_logit + choice.opacity_logit
        else:
            delta = _beyond_photo(delta, p)[:, :, 0]
            inverse_depth = self.placement(start.inverse_depth, delta)
        shift = _beyond_photo(bounded(opacity_logit, self.OPACITY_LIMIT)[:, :, None], p)
        opacities = torch.sigmoid(start.opacity_logit + shift[:, :, 0])
        gaussians = gaussians_from_raw(
            raw, opacities, inverse_depth, cameras, level=self.index, padding=p
        )
        inner = opacities[..., p : opacities.shape[-2] - p, p : opacities.shape[-1] - p]
        return StageOutput(gaussians, raw, inner, inverse_depth, surface, p, logits)


def _per_view(layer: nn.Module, maps: Float[Tensor, "batch view c h w"]) -> Tensor:
    return layer(maps.flatten(0, 1)).unflatten(0, maps.shape[:2])


def _of_view(value: Any, view: int) -> Any:
    """What holds for one view, where maps, or dataclasses and sequences of them, are of all."""
    if isinstance(value, Tensor):
        return value[:, view : view + 1]
    if isinstance(value, tuple | list):
        return type(value)(_of_view(item, view) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(
            value, **{f.name: _of_view(getattr(value, f.name), view) for f in fields(value)}
        )
    return value


def _side_by_side(views: list[StageOutput], surface: SurfaceEstimate) -> StageOutput:
    """One output of those of single views, which go map by map: hence the list is emptied."""
    padding = views[0].padding
    gaussians = {f.name: [getattr(v.gaussians, f.name) for v in views] for f in fields(Gaussians)}
    names = ("raw", "opacities", "inverse_depth", "candidate_logits")
    maps = {name: [getattr(view, name) for view in views] for name in names}
    views.clear()

    def joined_views(parts: list[Tensor]) -> Tensor:
        whole = torch.cat(parts, dim=1)
        parts.clear()
        return whole

    return StageOutput(
        gaussians=Gaussians(**{name: joined_views(parts) for name, parts in gaussians.items()}),
        raw=joined_views(maps["raw"]),
        opacities=joined_views(maps["opacities"]),
        inverse_depth=joined_views(maps["inverse_depth"]),
        surface=surface,
        padding=padding,
        candidate_logits=(
            None if maps["candidate_logits"][0] is None else joined_views(maps["candidate_logits"])
        ),
    )


def _beyond_photo(maps: Float[Tensor, "batch view c h w"], padding: int) -> Tensor:
    """The maps with their border values carried on."""
    if padding == 0:
        return maps
    padded = F.pad(maps.flatten(0, 1), [padding] * 4, mode="replicate")
    return padded.unflatten(0, maps.shape[:2])


assert len(Stage.RAW_LIMITS) == HARMONICS_START + 3
