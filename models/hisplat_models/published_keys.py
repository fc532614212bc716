"""Which tensor of the published HiSplat checkpoint (ICLR 2025) each of our parameters is.

Tables map module paths (or single parameters) of our blocks to the published ones; the last part
of a key (``weight``, ``bias``, ``running_mean``, ...) is the same in both. Shapes agree, and
nothing is merged or split. ``NETWORK`` covers every published tensor of the preset "hisplat".
"""

from collections.abc import Mapping

KeyTable = Mapping[str, str]


def published_key(our_key: str, table: KeyTable | None = None) -> str:
    """The published name of one of our state-dict keys; ``table`` defaults to ``NETWORK``.

    Published checkpoints write an additional "encoder." in front of it.

    Raises:
        KeyError: if the published network has no such tensor.
    """
    table = NETWORK if table is None else table
    if our_key in table:
        return table[our_key]
    module, _, leaf = our_key.rpartition(".")
    if module not in table:
        raise KeyError(f"{our_key!r} has no counterpart in the published network.")
    return f"{table[module]}.{leaf}"


def nested(ours: str, published: str, table: KeyTable) -> dict[str, str]:
    """``table`` with prefixes put in front of our and of the published paths."""
    return {_join(ours, a): _join(published, b) for a, b in table.items()}


def _join(prefix: str, path: str) -> str:
    return ".".join(part for part in (prefix, path) if part)


def _repeated(table: KeyTable, *pairs: tuple[str, str]) -> dict[str, str]:
    """One copy of ``table`` per pair (our prefix, published prefix)."""
    return {a: b for ours, published in pairs for a, b in nested(ours, published, table).items()}


def _two_blocks(
    ours: str, published: str, first_has_shortcut: bool, second: bool
) -> dict[str, str]:
    table = {}
    for index, has_shortcut in enumerate((first_has_shortcut, second)):
        block = {"conv1": "conv1", "conv2": "conv2"}
        if has_shortcut:
            block["shortcut"] = "downsample.0"
        table |= nested(f"{ours}.{index}", f"{published}.{index}", block)
    return table


RESIDUAL_UNET: KeyTable = {
    "stem": "encoder.conv1",
    **_two_blocks("encoder.0", "encoder.layer0", False, False),
    **_two_blocks("encoder.1", "encoder.layer1", True, False),
    **_two_blocks("encoder.2", "encoder.layer2", True, False),
    **_two_blocks("bottleneck", "encoder.layer3", False, False),
    "bottleneck_projection": "encoder.conv2",
    # Ours count from the coarsest level, the published ones from the finest.
    **_two_blocks("heads.0", "decoder.out_layer2", True, False),
    **_two_blocks("heads.1", "decoder.out_layer1", True, False),
    **_two_blocks("heads.2", "decoder.out_layer0", True, False),
    **_two_blocks("ascents.0", "decoder.decode_layer1", True, True),
    **_two_blocks("ascents.1", "decoder.decode_layer0", True, True),
    "injections.0": "up_dino_cnn.0",
    "injections.1": "up_dino_cnn.1",
    "injections.2": "up_dino_cnn.2",
}
"""``features.ResidualUNet`` with three levels."""

_WINDOW_ATTENTION: KeyTable = {
    "query": "q_proj",
    "key": "k_proj",
    "value": "v_proj",
    "merge": "merge",
    "norm": "norm1",
}

_TRANSFORMER_LAYER: KeyTable = {
    **nested("self_attention", "self_attn", _WINDOW_ATTENTION),
    **nested("cross_attention", "cross_attn_ffn", _WINDOW_ATTENTION),
    "ffn.expand": "cross_attn_ffn.mlp.0",
    "ffn.contract": "cross_attn_ffn.mlp.2",
    "ffn.norm": "cross_attn_ffn.norm2",
}

TRANSFORMER: KeyTable = _repeated(
    _TRANSFORMER_LAYER, *[(f"layers.{i}", f"layers.{i}") for i in range(6)]
)
"""``features.MultiViewTransformer`` with six layers; UniMatch's checkpoints use the same keys."""

_BLOCK_BESIDE_ATTENTION: KeyTable = {
    "norm1": "norm1",
    "projection": "attn.proj",
    "scale1": "ls1.gamma",
    "norm2": "norm2",
    "mlp.0": "mlp.fc1",
    "mlp.2": "mlp.fc2",
    "scale2": "ls2.gamma",
}

VISION_TRANSFORMER: KeyTable = {
    "class_token": "cls_token",
    "position_embedding": "pos_embed",
    "mask_token": "mask_token",
    "patch_embedding": "patch_embed.proj",
    **_repeated(
        {**_BLOCK_BESIDE_ATTENTION, "qkv": "attn.qkv"},
        *[(f"blocks.{i}", f"blocks.{i}") for i in range(12)],
    ),
    "norm": "norm",
}
"""``features.VisionTransformer`` ViT-B/14; DINOv2's own checkpoints use the same keys."""

_LINEAR_BLOCK: KeyTable = {
    **_BLOCK_BESIDE_ATTENTION,
    "query": "attn.q_proj",
    "key": "attn.k_proj",
    "value": "attn.v_proj",
}

VIEW_DECODER: KeyTable = {
    **_repeated(_LINEAR_BLOCK, *[(f"self_blocks.{i}", f"self_attn_blocks.{i}") for i in range(2)]),
    **_repeated(
        _LINEAR_BLOCK, *[(f"cross_blocks.{i}", f"cross_attn_blocks.{i}") for i in range(3)]
    ),
    "norms.0": "norm_layers.0",
    "norms.1": "norm_layers.1",
    "previous_weights.0": "prev_values.0",
    "previous_weights.1": "prev_values.1",
    "project.conv": "proj.0",
    "project.norm": "proj.1",
    "upsample.0.conv": "upsampler0.0",
    "upsample.0.norm": "upsampler0.1",
    "upsample.1.conv": "upsampler1.0",
    "upsample.1.norm": "upsampler1.1",
}
"""``features.CrossViewTransformerDecoder``."""


def refine_unet_table(levels: int) -> dict[str, str]:
    """``RefineUNet`` with attention at its deepest level only, as in every published one."""
    block = {
        "conv1": "in_layers.0",
        "norm1": "in_layers.1",
        "conv2": "out_layers.0",
        "norm2": "out_layers.1",
    }
    wide_block = {**block, "shortcut": "skip_connection"}
    attention = {"qkv": "qkv", "projection": "proj_out", "norm": "norm"}
    deepest = levels - 1

    table = {"stem": "input_blocks.0.0", "out": "out.0", "out_norm": "out.1"}
    for level in range(levels):
        descent, number = f"descents.{level}", 2 * level + 1
        table |= nested(f"{descent}.block", f"input_blocks.{number}.0", block)
        if level < deepest:
            table[f"{descent}.downsample"] = f"input_blocks.{number + 1}.0.op"
    table |= nested(f"descents.{deepest}.attention", f"input_blocks.{2 * deepest + 1}.1", attention)

    table |= nested("middle.0", "middle_block.0", block)
    table |= nested("middle.1", "middle_block.2", block)

    for ascent in range(levels):  # the deepest first, with two blocks each
        for index, number in enumerate((2 * ascent, 2 * ascent + 1)):
            table |= nested(
                f"ascents.{ascent}.blocks.{index}", f"output_blocks.{number}.0", wide_block
            )
            if ascent == 0:
                table |= nested(
                    f"ascents.0.attentions.{index}", f"output_blocks.{number}.1", attention
                )
        if ascent < deepest:
            upsample = f"output_blocks.{2 * ascent + 1}.{2 if ascent == 0 else 1}.conv"
            table[f"ascents.{ascent}.upsample"] = upsample
    return table


_STAGE: KeyTable = {
    "full": "upsampler.0",
    "projection": "proj_feature",
    "refine_in": "refine_unet.0",
    "refine_norm": "refine_unet.1",
    **nested("refine", "refine_unet.3", refine_unet_table(5)),
    "head_hidden": "to_gaussians.0",
    "head_out": "to_gaussians.2",
    "disparity_hidden": "to_disparity.0",
    "disparity_out": "to_disparity.2",
}
"""``stage.Stage``, any of the three."""

COST_VOLUME_DEPTH: KeyTable = {
    "stem": "corr_refine_net.corr_refine_net.0",
    "stem_norm": "corr_refine_net.corr_refine_net.1",
    **nested("unet", "corr_refine_net.corr_refine_net.3", refine_unet_table(3)),
    "out": "corr_refine_net.corr_refine_net.4",
    "shortcut": "corr_refine_net.regressor_residual",
    "hidden": "raw_depth_head.0",
    "logits": "raw_depth_head.2",
}
"""``depth_heads.CostVolumeDepth`` of the first stage."""

_LIMITED_DEPTH: KeyTable = {
    "features": "lim_surf.conv1",
    "mix": "lim_surf.conv2",
    "fraction": "lim_surf.conv3",
}
"""``depth_heads.LimitedDepth`` of the last stage."""

_FUSION: KeyTable = {
    "reduce.0": "reduce_dim_mlp.0",
    "reduce.3": "reduce_dim_mlp.3",
    "weigh.1": "gen_weight.1",
    "weigh.4": "gen_weight.4",
}

_PREDICTOR = "depth_predictor.depth_predictor"

NETWORK: KeyTable = {
    **nested("cnn", "backbone.backbone", RESIDUAL_UNET),
    **nested("monocular.vit", "backbone.dino.vit", VISION_TRANSFORMER),
    **nested("monocular.decoder", "backbone.dino.decoder_vit", VIEW_DECODER),
    **nested("transformer", "backbone.transformer", TRANSFORMER),
    **_repeated(_STAGE, *[(f"stages.{i}", f"{_PREDICTOR}.{i}") for i in range(3)]),
    **nested("stages.0.surface", f"{_PREDICTOR}.0", COST_VOLUME_DEPTH),
    **nested("stages.2.placement", f"{_PREDICTOR}.2", _LIMITED_DEPTH),
    **nested("fusion", "depth_predictor.modulater", _FUSION),
}
"""The whole network of the preset "hisplat"."""
