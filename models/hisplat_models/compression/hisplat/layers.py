"""All layers of HiSplat's parts by themselves: what is counted, and what is timed, for compression.

What lies between the stages' layers, geometry above all, needs values and has no weights.
"""

from jaxtyping import Float
from torch import Tensor, nn

from ...channels_last import channels_last
from ...depth_heads import CandidateDepth, CostVolumeDepth, LimitedDepth
from ...network import HiSplat
from ...refine_unet import RefineUNet
from ...stage import Stage


def run_layers(
    network: HiSplat, images: Float[Tensor, "batch view 3 height width"]
) -> list[Tensor]:
    """Some output of every layer: the features of the photos, and the stages' on maps of zeros."""
    maps, transformer = run_features(network, images)
    outputs = [transformer]
    for stage, cnn in zip(network.stages, maps, strict=True):
        assert isinstance(stage, Stage)
        outputs += run_stage(stage, transformer, cnn, images)
    return outputs


def run_features(
    network: HiSplat, images: Float[Tensor, "batch view 3 height width"]
) -> tuple[list[Tensor], Tensor]:
    """Single-view features of each stage, and multi-view features."""
    maps, transformer = network._features(images)
    return [network._cnn_map(maps, index) for index in range(len(network.stages))], transformer


def run_stage(
    stage: Stage,
    transformer: Float[Tensor, "batch view channels rows columns"],
    cnn: Float[Tensor, "batch view c h w"],
    images: Float[Tensor, "batch view 3 height width"],
) -> list[Tensor]:
    """Outputs of a stage's layers on zeros, each at its resolution."""
    b, v, _, rows, columns = transformer.shape
    coarse = (cnn.shape[-2], cnn.shape[-1])
    fine = (images.shape[-2], images.shape[-1]) if stage.refine_stride > 1 else coarse

    def run(layer: nn.Module | None, where: tuple[int, int]) -> Tensor:
        assert isinstance(layer, nn.Conv2d)
        return layer(channels_last(transformer.new_zeros(b * v, layer.in_channels, *where)))

    def run_unet(unet: RefineUNet, where: tuple[int, int]) -> Tensor:
        return unet(transformer.new_zeros(b, v, unet.stem.in_channels, *where))

    outputs = [run(x, coarse) for x in (stage.full, stage.projection, stage.refine_in)]
    outputs += [run_unet(stage.refine, coarse), run(stage.head_hidden, coarse)]
    outputs += [run(x, coarse) for x in (stage.disparity_hidden, stage.disparity_out)]
    outputs.append(run(stage.head_out, fine))
    if stage.head_fine is not None:
        outputs.append(run(stage.head_fine, fine))
    placement, surface = stage.placement, stage.surface
    if isinstance(placement, CandidateDepth):
        outputs.append(run(placement.residual, fine))
    if isinstance(placement, LimitedDepth):
        layers = (placement.features, placement.mix, placement.fraction)
        outputs += [run(layer, coarse) for layer in layers]
    if isinstance(surface, CostVolumeDepth):
        layers = (surface.stem, surface.out, surface.shortcut, surface.hidden, surface.logits)
        outputs += [run(layer, (rows, columns)) for layer in layers]
        outputs.append(run_unet(surface.unet, (rows, columns)))
    return outputs
