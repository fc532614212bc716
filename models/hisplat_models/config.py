"""The network's configuration and its presets."""

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class StageConfig:
    """One coarse-to-fine stage.

    Attributes:
        stride: Photo pixels per Gaussian along each axis.
        refine_channels: Width of the stage's U-Net.
        refine_levels: Resolutions in the stage's U-Net.
        refine_attention: Downsampling rate in the U-Net at which views attend to each other.
        refine_stride: The U-Net works at this further stride; what it finds is upsampled.
        head_channels: Hidden width of the Gaussian head.
        head_kernel: Kernel of the Gaussian head's first convolution.
        depth: How the stage places its Gaussians. "cost_volume": expected depth of a plane sweep;
            "residual": the previous stage's plus a residual; "limited": within 10 % of the
            previous stage's; "backdrop": the analytic backdrop, pushed by a bounded factor;
            "candidates": a choice among the matching prior's candidates, finely adjusted.
    """

    stride: int
    refine_channels: int
    refine_levels: int
    refine_attention: int
    refine_stride: int
    head_channels: int
    head_kernel: Literal[1, 3]
    depth: Literal["cost_volume", "residual", "limited", "backdrop", "candidates"]


@dataclass(frozen=True)
class ViTConfig:
    """The monocular branch (DINOv2 ViT and the cross-view decoder behind it)."""

    width: int = 768
    depth: int = 12
    heads: int = 12


@dataclass(frozen=True)
class HiSplatConfig:
    """Everything that shapes the network.

    Attributes:
        stages: Coarsest first.
        size_multiple: Image sides must be multiples of it.
        cnn_widths: Channels of the CNN pyramid, finest first, each level half as large.
        cnn_stride: Photo pixels per pixel of its finest level.
        transformer_layers: Self- plus cross-attention layers on the coarsest features.
        transformer_expansion: Hidden width of its feed-forward part, in multiples of its input.
        depth_candidates: Planes of the coarsest stage's cost volume.
        corr_channels: Width of the network that regularises the cost volume.
        corr_levels: Resolutions in that network.
        corr_attention: Its downsampling rate with cross-view attention.
        sh_degree: Degree of the predicted harmonics.
        vit: The monocular branch, or None to leave it out.
        matching_prior: Start from the layered analytic scene of the classical matcher, with all
            learned parts as zero-initialised, bounded residuals (needs stages at strides 8, 4, 1).
        error_aware: Feed each stage what the coarser ones still get wrong.
        error_of_start: Tell the last stage as well what the scene would get wrong if that stage
            kept its analytic start (``start_errors``); part of ``error_aware``, nothing without
            it. Needs ``matching_prior``.
        error_stride: Photo pixels per pixel of the error renders.
        modulating_fusion: Let each stage re-weight the opacities of the coarser ones.
        fusion_over: Which earlier Gaussians are normalised, and so weighed, together: those of
            each earlier stage, or all of the scene so far as published.
        reweighted_coarse_sets: Return each coarse set with the opacities that the stage after it
            gave it, as published, rather than those it had when its own stage was done. Matters
            to losses on coarse sets, not to the final scene.
        published_adapter: Make Gaussians of raw channels as published to the last rounding. Their
            harmonics are read as that network and its rasteriser do together, flaws included,
            instead of turning exactly with the camera. Their means are rounded in the published
            order of operations, which decides who is in front at equal depth.
        rasterization: Rules for the edges of the formulas with which the error renders are made
            and the scene is meant to be seen: "paper" for the published rasteriser's.
    """

    stages: tuple[StageConfig, ...]
    size_multiple: int
    cnn_widths: tuple[int, ...]
    cnn_stride: int
    transformer_layers: int
    transformer_expansion: int
    depth_candidates: int
    corr_channels: int
    corr_levels: int
    corr_attention: int
    sh_degree: int
    vit: ViTConfig | None
    matching_prior: bool
    error_aware: bool = True
    error_of_start: bool = False
    error_stride: int = 1
    modulating_fusion: bool = True
    fusion_over: Literal["stage", "scene"] = "stage"
    reweighted_coarse_sets: bool = False
    published_adapter: bool = False
    rasterization: Literal["default", "paper"] = "default"

    def __post_init__(self):
        if not self.stages:
            raise ValueError("Expected at least one stage, got none.")
        if self.matching_prior and [s.stride for s in self.stages] != [8, 4, 1]:
            strides = [s.stride for s in self.stages]
            raise ValueError(f"A matching prior needs stages at strides 8, 4, 1, got {strides}.")
        if self.error_of_start and not self.matching_prior:
            raise ValueError("Without a matching prior there is no start to draw the error of.")

    def with_levels(self, count: int) -> "HiSplatConfig":
        """The network with its ``count`` coarsest stages only.

        Raises:
            ValueError: unless there are that many, or if it has a matching prior.
        """
        if not 1 <= count <= len(self.stages):
            raise ValueError(f"Expected 1 to {len(self.stages)} levels, got {count}.")
        return replace(self, stages=self.stages[:count])

    def reads_start_errors(self, stage: int) -> bool:
        """Whether this stage is told the errors of its own start."""
        return self.error_aware and self.error_of_start and stage == len(self.stages) - 1

    def cnn_level(self, stage: StageConfig) -> int:
        """Index into ``cnn_widths`` of the resolution at which a stage's U-Net works."""
        return (stage.stride * stage.refine_stride // self.cnn_stride).bit_length() - 1


def _published_stage(
    stride: int, width: int, depth: Literal["cost_volume", "residual", "limited"]
) -> StageConfig:
    return StageConfig(
        stride=stride,
        refine_channels=width,
        refine_levels=5,
        refine_attention=16,
        refine_stride=1,
        head_channels=168,
        head_kernel=3,
        depth=depth,
    )


PRESETS: dict[str, HiSplatConfig] = {
    # HiSplat as published (ICLR 2025, configuration "re10k"): 150.9 M parameters.
    "hisplat": HiSplatConfig(
        stages=(
            _published_stage(4, 128, "cost_volume"),
            _published_stage(2, 64, "residual"),
            _published_stage(1, 32, "limited"),
        ),
        size_multiple=64,
        cnn_widths=(32, 64, 128),
        cnn_stride=1,
        transformer_layers=6,
        transformer_expansion=4,
        depth_candidates=128,
        corr_channels=128,
        corr_levels=3,
        corr_attention=4,
        sh_degree=4,
        vit=ViTConfig(),
        matching_prior=False,
        fusion_over="scene",
        reweighted_coarse_sets=True,
        published_adapter=True,
        rasterization="paper",
    ),
    # Small enough for a laptop without a GPU; bundled weights.
    "hisplat-small": HiSplatConfig(
        stages=(
            StageConfig(8, 32, 2, 2, 1, 32, 3, "backdrop"),
            StageConfig(4, 24, 3, 4, 1, 24, 3, "backdrop"),
            StageConfig(1, 24, 4, 8, 2, 24, 1, "candidates"),
        ),
        size_multiple=16,
        cnn_widths=(16, 24, 32),
        cnn_stride=2,
        transformer_layers=2,
        transformer_expansion=2,
        depth_candidates=32,
        corr_channels=32,
        corr_levels=2,
        corr_attention=2,
        sh_degree=0,
        vit=None,
        matching_prior=True,
        error_of_start=True,
        error_stride=2,
    ),
}
