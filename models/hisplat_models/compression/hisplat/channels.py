"""Which channels of HiSplat go together, declared along with the network's code.

Declared rather than traced, so that a slim file is rebuilt without running or tracing anything,
on a network without memory for its weights. For the CNN a test compares with what torch-pruning's
dependency graph finds.

What is an interface stays whole: the CNN's maps, the tokens of the transformers, what the stages
make of them for several readers. Their widths are built into positions, normalisations and
correlations of the network.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from ...channels_last import GroupNorm
from ...depth_heads import CandidateDepth, CostVolumeDepth, LimitedDepth
from ...features import CrossViewTransformerDecoder, ResidualUNet, VisionTransformer
from ...features.residual_unet import ResidualBlock
from ...features.transformer import FeedForward, MultiViewTransformer, WindowAttention
from ...features.vit import LinearBlock, ViTBlock
from ...network import HiSplat
from ...refine_unet import CrossViewAttention, RefineUNet, ResBlock
from ...stage import Stage
from ..groups import ChannelGroup, GroupMember, GroupSize
from .parts import Part, check_parts

MAP_DIVISOR = 8
"""Maps keep multiples of it: processors convolve that many channels at once."""
SMALL_MAP_DIVISOR = 4
"""The same below 64 channels, where a step of 8 would be too coarse."""


def channel_groups(network: HiSplat, parts: Sequence[Part]) -> list[ChannelGroup]:
    """All channel groups of these parts of the network, which may be without memory.

    Raises:
        ValueError: for parts that it does not have.
    """
    check_parts(network, parts)
    groups: list[ChannelGroup] = []
    if "cnn" in parts:
        groups += _cnn(network.cnn, "cnn")
    if "transformer" in parts:
        groups += _transformer(network.transformer, "transformer")
    if network.monocular is not None:
        if "vit" in parts:
            groups += _vit(network.monocular.vit, "monocular.vit")
        if "decoder" in parts:
            groups += _decoder(network.monocular.decoder, "monocular.decoder")
    if "stages" in parts:
        for index, stage in enumerate(network.stages):
            assert isinstance(stage, Stage)
            groups += _stage(stage, f"stages.{index}")
    return groups


# ---- One group ----------------------------------------------------------------------------------


@dataclass
class _Channels:
    """Collects the members of one group.

    Attributes:
        name: Of the module that makes the channels first.
        count: Channels.
        divisor: See ``ChannelGroup``.
    """

    name: str
    count: int
    divisor: int = 1
    members: list[GroupMember] = field(default_factory=list)
    sizes: list[GroupSize] = field(default_factory=list)

    def made_by(self, name: str, module: nn.Module) -> "_Channels":
        """A layer's outputs, or a norm's channels, are the group's."""
        self.add(f"{name}.weight", 0, "produced", (0,))
        if getattr(module, "bias", None) is not None:
            self.add(f"{name}.bias", 0, "produced", (0,))
        if isinstance(module, GroupNorm):
            self.divisor = math.lcm(self.divisor, module.num_groups)
        return self

    def read_by(self, name: str, *offsets: int) -> "_Channels":
        """A layer's inputs from these offsets on are the group's."""
        self.add(f"{name}.weight", 1, "consumed", offsets or (0,))
        return self

    def add(
        self,
        tensor: str,
        axis: int,
        role: Literal["produced", "consumed"],
        offsets: tuple[int, ...],
    ) -> None:
        """The group runs along an axis of a tensor, from each of these entries on."""
        positions = torch.arange(self.count)[:, None] + torch.tensor(offsets)
        self.members.append(GroupMember(tensor, axis, positions, role))

    def group(self) -> ChannelGroup:
        """What was collected."""
        return ChannelGroup(
            self.name, self.count, self.divisor, tuple(self.members), tuple(self.sizes)
        )


def _map(name: str, maker: nn.Conv2d | nn.Linear) -> _Channels:
    """Channels of a map, whose first maker is this layer."""
    count = maker.weight.shape[0]
    divisor = MAP_DIVISOR if count >= 64 else SMALL_MAP_DIVISOR
    return _Channels(name, count, divisor).made_by(name, maker)


def _hidden_units(name: str, maker: nn.Linear, reader: str) -> ChannelGroup:
    """Units between two linear layers."""
    units = _Channels(name, maker.out_features, MAP_DIVISOR).made_by(name, maker)
    return units.read_by(reader).group()


# ---- CNN ----------------------------------------------------------------------------------------


def _cnn(cnn: ResidualUNet, p: str) -> Iterator[ChannelGroup]:
    """Inside every block, along each level of the encoder, and between the decoder's blocks.

    Blocks without a shortcut add to their input, so that a level has one group; the last level
    and the bottleneck share theirs. Levels of the decoder read both what comes from below and
    the encoder's level beside it, one after the other.
    """
    levels = len(cnn.encoder)
    coarsest_first = list(reversed(range(levels)))[: len(cnn.heads)]
    for name, block in cnn.named_modules(prefix=p):
        if isinstance(block, ResidualBlock):
            yield _map(f"{name}.conv1", block.conv1).read_by(f"{name}.conv2").group()
    for level in range(levels):
        stream = _encoder_level(cnn, p, level)
        if level in coarsest_first:
            _read_beside(stream, cnn, p, coarsest_first.index(level), offset=stream.count)
        yield stream.group()
    for index in range(len(cnn.heads)):
        yield _decoder_level(cnn, p, index).group()
    for index, ascent in enumerate(cnn.ascents):
        if _block(ascent, 1).shortcut is not None:
            yield _ascent(cnn, p, index).group()


def _encoder_level(cnn: ResidualUNet, p: str, level: int) -> _Channels:
    blocks = [(f"{p}.encoder.{level}.{i}", _block(cnn.encoder[level], i)) for i in (0, 1)]
    last = level == len(cnn.encoder) - 1
    if last:
        blocks += [(f"{p}.bottleneck.{i}", _block(cnn.bottleneck, i)) for i in (0, 1)]
    if level == 0:
        stream = _map(f"{p}.stem", cnn.stem)
    else:
        name, first = blocks[0]
        stream = _map(f"{name}.conv2", first.conv2)
        _made_by_shortcut(stream, name, first)
    for index, (name, block) in enumerate(blocks):
        inside = index > 0 or level == 0
        if inside:
            stream.made_by(f"{name}.conv2", block.conv2)
            stream.read_by(f"{name}.conv1")
    if last:
        return stream.read_by(f"{p}.bottleneck_projection")
    following = f"{p}.encoder.{level + 1}.0"
    return _read_by_block(stream, following, _block(cnn.encoder[level + 1], 0))


def _decoder_level(cnn: ResidualUNet, p: str, index: int) -> _Channels:
    """What comes from below, before the encoder's level is put beside it."""
    if index == 0:
        name = f"{p}.bottleneck_projection"
        stream = _map(name, cnn.bottleneck_projection)
    else:
        name, block = f"{p}.ascents.{index - 1}.1", _block(cnn.ascents[index - 1], 1)
        if block.shortcut is None:  # adds to its input
            stream = _ascent(cnn, p, index - 1).made_by(f"{name}.conv2", block.conv2)
        else:
            stream = _map(f"{name}.conv2", block.conv2)
            _made_by_shortcut(stream, name, block)
    if cnn.injections is not None:
        stream.made_by(f"{p}.injections.{index}", cnn.injections[index])
    return _read_beside(stream, cnn, p, index, offset=0)


def _ascent(cnn: ResidualUNet, p: str, index: int) -> _Channels:
    """What goes from the first to the second block on the way up."""
    first, second = (_block(cnn.ascents[index], i) for i in (0, 1))
    name = f"{p}.ascents.{index}"
    stream = _map(f"{name}.0.conv2", first.conv2)
    _made_by_shortcut(stream, f"{name}.0", first)
    return _read_by_block(stream, f"{name}.1", second)


def _read_beside(
    stream: _Channels, cnn: ResidualUNet, p: str, index: int, offset: int
) -> _Channels:
    """Both readers of a decoder level: its head, and the way up to the next one."""
    for name in ("heads", "ascents"):
        blocks = getattr(cnn, name)
        if index < len(blocks):
            _read_by_block(stream, f"{p}.{name}.{index}.0", _block(blocks[index], 0), offset)
    return stream


def _read_by_block(
    stream: _Channels, name: str, block: ResidualBlock, offset: int = 0
) -> _Channels:
    stream.read_by(f"{name}.conv1", offset)
    if block.shortcut is not None:
        stream.read_by(f"{name}.shortcut", offset)
    return stream


def _made_by_shortcut(stream: _Channels, name: str, block: ResidualBlock) -> None:
    if block.shortcut is not None:
        stream.made_by(f"{name}.shortcut", block.shortcut)


def _block(pair: nn.Module, index: int) -> ResidualBlock:
    """One of two blocks in a row."""
    assert isinstance(pair, nn.Sequential)
    block = pair[index]
    assert isinstance(block, ResidualBlock)
    return block


# ---- Transformers -------------------------------------------------------------------------------


def _transformer(transformer: MultiViewTransformer, p: str) -> Iterator[ChannelGroup]:
    """Of every attention the channels that scores are sums over, and those of its values.

    Nothing reads the channels of queries but keys, which are taken as their readers: scaling a
    key's channel scales its summand of the scores.
    """
    for name, module in transformer.named_modules(prefix=p):
        if isinstance(module, WindowAttention):
            scores = _map(f"{name}.query", module.query)
            yield _also_along(scores, f"{name}.key").group()
            yield _map(f"{name}.value", module.value).read_by(f"{name}.merge").group()
        elif isinstance(module, FeedForward):
            yield _hidden_units(f"{name}.expand", module.expand, f"{name}.contract")


def _also_along(channels: _Channels, name: str) -> _Channels:
    channels.add(f"{name}.weight", 0, "consumed", (0,))
    return channels


def _vit(vit: VisionTransformer, p: str) -> Iterator[ChannelGroup]:
    """Whole heads, and the hidden units of every feed-forward net."""
    for index, block in enumerate(vit.blocks):
        assert isinstance(block, ViTBlock)
        name, width = f"{p}.blocks.{index}", block.projection.in_features
        heads = _Channels(f"{name}.qkv", block.heads, sizes=[GroupSize(name, "heads")])
        units = torch.arange(width).unflatten(0, (block.heads, -1))
        thirds = torch.cat([units, units + width, units + 2 * width], dim=1)
        for tensor in ("qkv.weight", "qkv.bias"):
            heads.members.append(GroupMember(f"{name}.{tensor}", 0, thirds, "produced"))
        heads.members.append(GroupMember(f"{name}.projection.weight", 1, units, "consumed"))
        yield heads.group()
        yield _mlp(name, block.mlp)


def _decoder(decoder: CrossViewTransformerDecoder, p: str) -> Iterator[ChannelGroup]:
    """The same of the decoder's blocks, whose attention is linear."""
    for name, block in decoder.named_modules(prefix=p):
        if not isinstance(block, LinearBlock):
            continue
        heads = _Channels(f"{name}.query", block.heads, sizes=[GroupSize(name, "heads")])
        units = torch.arange(block.query.out_features).unflatten(0, (block.heads, -1))
        for layer in ("query", "key", "value"):
            heads.members.append(GroupMember(f"{name}.{layer}.weight", 0, units, "produced"))
        heads.members.append(GroupMember(f"{name}.projection.weight", 1, units, "consumed"))
        yield heads.group()
        yield _mlp(name, block.mlp)


def _mlp(block: str, mlp: nn.Sequential) -> ChannelGroup:
    first = mlp[0]
    assert isinstance(first, nn.Linear)
    return _hidden_units(f"{block}.mlp.0", first, f"{block}.mlp.2")


# ---- Stages -------------------------------------------------------------------------------------


def _stage(stage: Stage, p: str) -> Iterator[ChannelGroup]:
    """Inside every block of the U-Nets, along each whole U-Net, and inside the heads.

    Everything in a U-Net is added to or put beside maps of the same width, which is one group.
    """
    if isinstance(stage.surface, CostVolumeDepth):
        depth = f"{p}.surface"
        yield _entrance(
            f"{depth}.stem",
            stage.surface.stem,
            f"{depth}.stem_norm",
            stage.surface.stem_norm,
            f"{depth}.unet",
        )
        yield from _unet(stage.surface.unet, f"{depth}.unet", [f"{depth}.out"])
        yield _map(f"{depth}.hidden", stage.surface.hidden).read_by(f"{depth}.logits").group()
    yield _entrance(
        f"{p}.refine_in", stage.refine_in, f"{p}.refine_norm", stage.refine_norm, f"{p}.refine"
    )
    readers = [f"{p}.head_hidden", f"{p}.disparity_hidden"]
    if isinstance(stage.placement, LimitedDepth):
        readers.append(f"{p}.placement.features")
    yield from _unet(stage.refine, f"{p}.refine", readers)
    yield _head(stage, p)
    disparity = _map(f"{p}.disparity_hidden", stage.disparity_hidden)
    yield disparity.read_by(f"{p}.disparity_out").group()
    if isinstance(stage.placement, LimitedDepth):
        features = _map(f"{p}.placement.features", stage.placement.features)
        yield features.read_by(f"{p}.placement.mix").group()
        mix = _map(f"{p}.placement.mix", stage.placement.mix)
        yield mix.read_by(f"{p}.placement.fraction").group()


def _entrance(
    name: str, maker: nn.Conv2d, norm_name: str, norm: nn.Module, unet: str
) -> ChannelGroup:
    return _map(name, maker).made_by(norm_name, norm).read_by(f"{unet}.stem").group()


def _unet(unet: RefineUNet, p: str, readers: Sequence[str]) -> Iterator[ChannelGroup]:
    """Groups of a U-Net whose output these layers read at the beginning of their inputs."""
    along = _map(f"{p}.stem", unet.stem)
    for name, module in unet.named_modules(prefix=p):
        if isinstance(module, ResBlock):
            inside = _map(f"{name}.conv1", module.conv1).made_by(f"{name}.norm1", module.norm1)
            yield inside.read_by(f"{name}.conv2").group()
            along.made_by(f"{name}.conv2", module.conv2).made_by(f"{name}.norm2", module.norm2)
            if module.shortcut is None:
                along.read_by(f"{name}.conv1")
            else:  # what comes from below and, beside it, from the way down
                along.made_by(f"{name}.shortcut", module.shortcut)
                for layer in ("conv1", "shortcut"):
                    along.read_by(f"{name}.{layer}", 0, along.count)
        elif isinstance(module, CrossViewAttention):
            along.read_by(f"{name}.qkv").made_by(f"{name}.projection", module.projection)
            along.made_by(f"{name}.norm", module.norm)
        elif name.endswith((".downsample", ".upsample")):
            along.made_by(name, module).read_by(name)
    along.made_by(f"{p}.out", unet.out).read_by(f"{p}.out")
    along.made_by(f"{p}.out_norm", unet.out_norm)
    for reader in readers:
        along.read_by(reader)
    yield along.group()


def _head(stage: Stage, p: str) -> ChannelGroup:
    """Hidden channels of the Gaussian head, which a choice among candidates reads too."""
    hidden = _map(f"{p}.head_hidden", stage.head_hidden).read_by(f"{p}.head_out")
    if stage.head_fine is not None:
        hidden.made_by(f"{p}.head_fine", stage.head_fine)
    if isinstance(stage.placement, CandidateDepth):
        hidden.read_by(f"{p}.placement.residual")
    return hidden.group()
