"""Which blocks of HiSplat may be skipped: residual blocks whose input has their output's shape.

A block of the CNN without a shortcut passes its input on unchanged when its branch is left out,
since maps are rectified before it. Other blocks are sums of their input and a branch, except those
on the way up of the stages' U-Nets: skipped, they also leave out the map from the way down.
"""

from collections.abc import Iterator, Sequence

from ...features import CrossViewTransformerDecoder, ResidualUNet, VisionTransformer
from ...features.transformer import MultiViewTransformer
from ...network import HiSplat
from ...refine_unet import RefineUNet
from ..spaces import DepthSpace
from .parts import Part, check_parts

Stages = Iterator[tuple[list[str], int]]
"""Names of blocks in the order in which they are kept, and how many are kept at least."""


def depth_space(network: HiSplat, parts: Sequence[Part]) -> DepthSpace:
    """All depths of these parts of the network.

    Raises:
        ValueError: for parts that it does not have.
    """
    check_parts(network, parts)
    stages: list[tuple[list[str], int]] = []
    if "cnn" in parts:
        stages += _prefixed("cnn", _cnn(network.cnn))
    if "transformer" in parts:
        stages += _prefixed("transformer", _transformer(network.transformer))
    if network.monocular is not None:
        if "vit" in parts:
            stages += _prefixed("monocular.vit", _vit(network.monocular.vit))
        if "decoder" in parts:
            stages += _prefixed("monocular.decoder", _decoder(network.monocular.decoder))
    if "stages" in parts:
        for name, module in network.stages.named_modules(prefix="stages"):
            if isinstance(module, RefineUNet):
                stages += _prefixed(name, _refine_unet(module))
    return DepthSpace(tuple(tuple(blocks) for blocks, _ in stages), tuple(k for _, k in stages))


def _cnn(cnn: ResidualUNet) -> Stages:
    """Chains of blocks of one width; the first of a chain that changes the width is kept."""
    last = len(cnn.encoder) - 1
    for level in range(last):
        yield _blocks(f"encoder.{level}", 2), 0 if level == 0 else 1
    yield [*_blocks(f"encoder.{last}", 2), *_blocks("bottleneck", 2)], 1
    for level in range(len(cnn.heads)):
        yield _blocks(f"heads.{level}", 2), 1


def _transformer(transformer: MultiViewTransformer) -> Stages:
    """Layers from the end, so that straight and shifted windows still alternate."""
    yield _blocks("layers", len(transformer.layers)), 1


def _vit(vit: VisionTransformer) -> Stages:
    """Of each third the last block, behind which tokens are read, and the first are kept."""
    third = len(vit.blocks) // 3
    for start in range(0, len(vit.blocks), third):
        if third > 1:
            yield [f"blocks.{start + index}" for index in range(third - 1)], 1


def _decoder(decoder: CrossViewTransformerDecoder) -> Stages:
    """Tokens of each depth are added in any case; at least one block joins the views."""
    yield _blocks("self_blocks", len(decoder.self_blocks)), 0
    yield _blocks("cross_blocks", len(decoder.cross_blocks)), 1


def _refine_unet(unet: RefineUNet) -> Stages:
    """Down, the block of each resolution for itself; those in the middle; up, one of two stays."""
    for level in range(len(unet.descents)):
        yield [f"descents.{level}.block"], 0
    yield _blocks("middle", len(unet.middle)), 0
    for level in range(len(unet.ascents)):
        yield _blocks(f"ascents.{level}.blocks", 2), 1


def _blocks(parent: str, count: int) -> list[str]:
    return [f"{parent}.{index}" for index in range(count)]


def _prefixed(prefix: str, stages: Stages) -> list[tuple[list[str], int]]:
    return [([f"{prefix}.{block}" for block in blocks], least) for blocks, least in stages]
