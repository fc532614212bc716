"""HiSplat: photos and cameras in, Gaussians coarse to fine out (ICLR 2025)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .cameras import Cameras
from .compression.narrowing import Cut
from .config import HiSplatConfig
from .features import (
    CrossViewTransformerDecoder,
    MonocularBranch,
    MultiViewTransformer,
    ResidualUNet,
    VisionTransformer,
    imagenet_normalised,
)
from .fusion import EarlierStage, ModulatingFusion, render_error
from .gaussian_head import raw_channels
from .gaussians import Gaussians
from .matching import MatchingPrior, match_views
from .prior_maps import PriorMaps, prepare_prior
from .rendering import PAPER, RasterizationSettings, Renderer, create_renderer
from .stage import Stage, StageOutput
from .start_errors import start_errors

Progress = Callable[[str, float], None]
OnLevel = Callable[[Gaussians], None]


@dataclass(frozen=True)
class HiSplatOutput:
    """What the network predicts.

    Attributes:
        accumulated: After each stage, the Gaussians of all stages so far; the last entry is the
            scene. Earlier ones have the opacities they had when their stage was done, or, with
            ``reweighted_coarse_sets``, those that the next stage gave them.
        stages: What each stage made by itself.
        prior: The prepared matching prior, if the network uses one.
    """

    accumulated: tuple[Gaussians, ...]
    stages: tuple[StageOutput, ...]
    prior: PriorMaps | None

    @property
    def gaussians(self) -> Gaussians:
        """The scene: all levels, re-weighted; ``level`` tells them apart."""
        return self.accumulated[-1]


class HiSplat(nn.Module):
    """The network of one preset.

    Args:
        config: See ``hisplat_models.config.PRESETS``.
        renderer: Draws the error maps; by default that of ``create_renderer``.

    Attributes:
        cut: What compression left of the network of this preset; None if it is whole.
        depths: Names of blocks that the faster depths of an elastic network skip; else empty.
    """

    cut: Cut | None = None
    depths: Mapping[str, frozenset[str]] = MappingProxyType({})

    def __init__(self, config: HiSplatConfig, renderer: Renderer | None = None):
        super().__init__()
        self.config = config
        self.renderer = renderer
        injected = 64 if config.vit else None
        self.cnn = ResidualUNet(config.cnn_widths, injected, config.cnn_stride)
        self._unread_levels = min(config.cnn_level(stage) for stage in config.stages)
        _drop_finest_levels(self.cnn, self._unread_levels)
        self.monocular = None
        if config.vit is not None:
            vit = VisionTransformer(config.vit.width, config.vit.depth, config.vit.heads)
            decoder = CrossViewTransformerDecoder(config.vit.width, config.vit.heads)
            self.monocular = MonocularBranch(vit, decoder)
        self.transformer = MultiViewTransformer(
            config.cnn_widths[-1],
            config.transformer_layers,
            config.transformer_expansion,
            pad=config.matching_prior,
        )
        self.stages = nn.ModuleList([Stage(config, i) for i in range(len(config.stages))])
        self.fusion = None
        if config.modulating_fusion and len(config.stages) > 1:
            features = raw_channels(config.sh_degree) - 2
            self.fusion = ModulatingFusion(features, residual=config.matching_prior)

    @property
    def size_multiple(self) -> int:
        """Image sides must be multiples of it."""
        return self.config.size_multiple

    @property
    def rasterization(self) -> RasterizationSettings:
        """The rules by which the network's Gaussians are meant to be drawn."""
        return PAPER if self.config.rasterization == "paper" else RasterizationSettings()

    def create_renderer(self, device: torch.device | str) -> Renderer:
        """The renderer for this network's Gaussians on a device: its own error renders use it."""
        return create_renderer(device, self.rasterization)

    def forward(
        self,
        images: Float[Tensor, "batch view 3 height width"],
        cameras: Cameras,
        progress: Progress | None = None,
        prior: MatchingPrior | None = None,
        on_level: OnLevel | None = None,
    ) -> HiSplatOutput:
        """Predicts the scene in the world frame and scale of the cameras.

        ::

            photos --> CNN (+ ViT) --> F_0, F_1, F_2 --> transformer on F_0 --> T
            photos --> matching prior (small preset)

            stage 0: cost volume of T      --> Gaussians G_0
            stage 1: |photo - render(G_0)| --> Gaussians, opacities of G_0 modulated --> G_1
            stage 2: |photo - render(G_1)| --> Gaussians, opacities of G_1 modulated --> G_2

        Args:
            images: RGB in [0, 1]; two or more views; sides multiples of ``size_multiple``.
            cameras: Shape (batch, view).
            progress: Called with a step's name and the fraction done; may raise to cancel.
            prior: The matching prior of these photos, if it has been computed before.
            on_level: Called with the scene so far after each stage but the last, while the finer
                ones are still to come; may raise to cancel.

        Raises:
            ValueError: for fewer than two views, sides that are no such multiples, or cameras that
                do not match the photos.
        """
        self._check(images, cameras)
        report = progress if progress is not None else _silent
        report("matching the photos", 0.0)
        maps = self._prior(images, cameras, prior)
        report("reading the photos", 0.6)
        cnn, transformer = self._features(images)

        made: list[StageOutput] = []
        parts: list[Gaussians] = []
        accumulated: list[Gaussians] = []
        for index, stage in enumerate(self.stages):
            report(f"placing Gaussians, level {index + 1} of {len(self.stages)}", 0.7 + 0.1 * index)
            error = self._error(accumulated[-1], cameras, images) if index > 0 else None
            coarser = made[-1].surface if made else None
            features = self._cnn_map(cnn, index)
            known = self._known_errors(index, error, accumulated, cameras, images, maps)
            output = stage(transformer, features, images, cameras, coarser, known, maps)
            if error is not None:
                parts = self._modulated(parts, made, output, error)
                if self.config.reweighted_coarse_sets:
                    accumulated[-1] = Gaussians.cat(parts)
            parts.append(output.gaussians)
            made.append(output)
            accumulated.append(Gaussians.cat(parts))
            if on_level is not None and index < len(self.stages) - 1:
                on_level(accumulated[-1])
        report("done", 1.0)
        return HiSplatOutput(tuple(accumulated), tuple(made), maps)

    def _check(self, images: Tensor, cameras: Cameras) -> None:
        height, width = images.shape[-2:]
        if cameras.batch_shape != images.shape[:2]:
            raise ValueError(
                f"Expected one camera per photo, {tuple(images.shape[:2])}, got cameras of shape "
                f"{tuple(cameras.batch_shape)}."
            )
        if images.shape[1] < 2:
            raise ValueError(f"Expected at least two views, got {images.shape[1]}.")
        if height % self.size_multiple or width % self.size_multiple:
            raise ValueError(
                f"Expected image sides that are multiples of {self.size_multiple}, got "
                f"{width}x{height}; resize the photos first."
            )

    def _prior(
        self, images: Tensor, cameras: Cameras, prior: MatchingPrior | None
    ) -> PriorMaps | None:
        if not self.config.matching_prior:
            return None
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            prior = match_views(images, cameras) if prior is None else prior
            return prepare_prior(prior, images, cameras)

    def _features(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        views = images.shape[:2]
        injected = None
        if self.monocular is not None:
            injected = self.monocular(imagenet_normalised(images)).flatten(0, 1)
        encoded = self.cnn.encode(imagenet_normalised(images).flatten(0, 1))
        maps = self.cnn.decode(encoded[self._unread_levels :], injected)
        maps = [m.unflatten(0, views) for m in maps]
        return maps, self.transformer(maps[0])

    def _cnn_map(self, maps: list[Tensor], stage: int) -> Tensor:
        """A stage's map; they come coarsest first and double from level to level."""
        level = self.config.cnn_level(self.config.stages[stage])
        return maps[self._unread_levels - level - 1]

    def _error(self, gaussians: Gaussians, cameras: Cameras, images: Tensor) -> Tensor | None:
        if not (self.config.error_aware or self.fusion is not None):
            return None
        renderer = self.renderer or self.create_renderer(images.device)
        return render_error(gaussians, cameras, images, renderer, self.config.error_stride)

    def _known_errors(
        self,
        index: int,
        error: Tensor | None,
        accumulated: list[Gaussians],
        cameras: Cameras,
        images: Tensor,
        prior: PriorMaps | None,
    ) -> Tensor | None:
        """What a stage is told of errors: those so far, and its own start's if it is the last."""
        if error is None or not self.config.error_aware:
            return None
        if not self.config.reads_start_errors(index):
            return error
        stage = self.stages[index]
        assert isinstance(stage, Stage)
        assert prior is not None
        renderer = self.renderer or self.create_renderer(images.device)
        stride = self.config.error_stride
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            scene = Gaussians.cat([accumulated[-1], stage.start(prior, cameras)])
            depth, px = prior.candidates[:, :, 0], prior.pixels_per_inverse_depth
            start = start_errors(scene, depth, px, cameras, images, renderer, stride)
        return torch.cat([error, start], dim=2)

    def _modulated(
        self,
        parts: list[Gaussians],
        made: list[StageOutput],
        current: StageOutput,
        error: Tensor,
    ) -> list[Gaussians]:
        if self.fusion is None:
            return parts
        now = torch.cat([current.raw[:, :, 2:], current.opacities[:, :, None]], dim=2)
        earlier = [
            EarlierStage(part, stage.raw[:, :, 2:], stage.padding)
            for part, stage in zip(parts, made, strict=True)
        ]
        if self.config.fusion_over == "scene":
            return self.fusion(earlier, now, error)
        return [self.fusion([stage], now, error)[0] for stage in earlier]


def _drop_finest_levels(cnn: ResidualUNet, count: int) -> None:
    """Leaves out the decoder levels that no stage reads, so that every parameter matters."""
    kept = len(cnn.heads) - count
    cnn.heads = cnn.heads[:kept]
    cnn.ascents = cnn.ascents[: kept - 1]
    if cnn.injections is not None:
        cnn.injections = cnn.injections[:kept]


def _silent(step: str, fraction: float) -> None:
    pass
