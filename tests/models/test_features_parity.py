"""Our blocks against tensors of the published network, with the same made-up weights.

Floors (largest, mean) are the effects of input noise of 1e-7 on the published network; tensors
without a measured floor take that of the nearest tensor behind them.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hisplat_models import published_keys as keys
from hisplat_models.cost_volume import (
    disparity_candidates,
    expected_disparity,
    plane_sweep_cost_volume,
)
from hisplat_models.features import (
    CrossViewTransformerDecoder,
    MonocularBranch,
    MultiViewTransformer,
    ResidualUNet,
    VisionTransformer,
    imagenet_normalised,
)
from hisplat_models.features.vit import resized_to_patches
from hisplat_models.refine_unet import RefineUNet, group_norm
from tests.models.parity import Case, filled, published_shapes

VIT_FLOOR = (3.6e-6, 6.7e-7)
CNN_FLOOR = (2.9e-5, 2.7e-6)
PREDICTOR = "depth_predictor.depth_predictor"


class CostRefinement(nn.Module):
    """The published regulariser of the cost volume, assembled around our U-Net."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(256, 128, 3, padding=1)
        self.stem_norm = group_norm(128)
        self.unet = RefineUNet(128, levels=3, attention_downsample=4)
        self.out = nn.Conv2d(128, 128, 3, padding=1)
        self.shortcut = nn.Conv2d(256, 128, 1)
        self.hidden = nn.Conv2d(128, 256, 3, padding=1)
        self.logits = nn.Conv2d(256, 128, 3, padding=1)

    def forward(self, volume: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """The refined volume and the logits of its candidates."""
        views = volume.shape[:2]
        x = torch.cat([volume, features], dim=2).flatten(0, 1)
        y = F.gelu(self.stem_norm(self.stem(x)))
        y = self.out(self.unet(y.unflatten(0, views)).flatten(0, 1)) + self.shortcut(x)
        logits = self.logits(F.gelu(self.hidden(y)))
        return y.unflatten(0, views), logits.unflatten(0, views)


@pytest.fixture(scope="module")
def case() -> Case:
    return Case(64)


def view_first(maps: Tensor) -> Tensor:
    """(batch, view, ...) to the order (view batch) that some reference tensors have."""
    return maps.transpose(0, 1).flatten(0, 1)


BLOCKS = {
    "cnn": (lambda: ResidualUNet(injected_channels=64), keys.RESIDUAL_UNET, "backbone.backbone"),
    "transformer": (MultiViewTransformer, keys.TRANSFORMER, "backbone.transformer"),
    "vit": (VisionTransformer, keys.VISION_TRANSFORMER, "backbone.dino.vit"),
    "decoder": (CrossViewTransformerDecoder, keys.VIEW_DECODER, "backbone.dino.decoder_vit"),
    "cost refinement": (CostRefinement, keys.COST_VOLUME_DEPTH, f"{PREDICTOR}.0"),
    **{
        f"refine {stage}": (
            lambda width=width: RefineUNet(width, levels=5, attention_downsample=16),
            keys.refine_unet_table(5),
            f"{PREDICTOR}.{stage}.refine_unet.3",
        )
        for stage, width in enumerate((128, 64, 32))
    },
}


@pytest.mark.parametrize("name", BLOCKS)
def test_block_has_exactly_the_published_tensors(name: str):
    create, table, prefix = BLOCKS[name]
    with torch.device("meta"):
        state = create().state_dict()
    ours = {f"{prefix}.{keys.published_key(key, table)}": state[key].shape for key in state}
    assert len(ours) == len(state)
    owned = tuple(f"{prefix}.{path}" for path in table.values())
    published = published_shapes()
    theirs = {
        key: shape
        for key, shape in published.items()
        if key in owned or key.rpartition(".")[0] in owned
    }
    assert {key: tuple(shape) for key, shape in ours.items()} == theirs
    if name != "cost refinement":  # its prefix holds all of the stage
        assert set(theirs) == {key for key in published if key.startswith(f"{prefix}.")}


def test_every_published_tensor_has_a_place_in_the_network():
    places = set(keys.NETWORK.values())
    assert len(places) == len(keys.NETWORK)
    missing = [
        key
        for key in published_shapes()
        if key not in places and key.rpartition(".")[0] not in places
    ]
    assert missing == []
    used = {key.rpartition(".")[0] for key in published_shapes()} | set(published_shapes())
    assert places <= used


def test_monocular_branch(case: Case):
    images = imagenet_normalised(case["in_image"])
    case.assert_close("vit_input", resized_to_patches(images.flatten(0, 1)), (1e-6, 1e-7))
    vit = filled(VisionTransformer(), keys.VISION_TRANSFORMER, "backbone.dino.vit")
    for index, tokens in enumerate(vit(case["vit_input"])):
        case.assert_close(f"vit_tokens_{index}", tokens, VIT_FLOOR)
    decoder = filled(CrossViewTransformerDecoder(), keys.VIEW_DECODER, "backbone.dino.decoder_vit")
    assert isinstance(vit, VisionTransformer)
    assert isinstance(decoder, CrossViewTransformerDecoder)
    with torch.no_grad():
        fused = MonocularBranch(vit, decoder)(images)
    case.assert_close("dino_fused", fused, VIT_FLOOR)


@torch.no_grad()
def test_residual_unet(case: Case):
    cnn = filled(ResidualUNet(injected_channels=64), keys.RESIDUAL_UNET, "backbone.backbone")
    assert isinstance(cnn, ResidualUNet)
    maps = cnn.encode(imagenet_normalised(case["in_image"]).flatten(0, 1))
    for index, encoded in enumerate(maps):
        case.assert_close(f"resunet_enc_{index}", encoded, CNN_FLOOR)
    for index, feature in enumerate(cnn.decode(maps, case["dino_fused"])):
        case.assert_close(f"cnn_feature_{index}", feature, CNN_FLOOR)


@torch.no_grad()
def test_multi_view_transformer(case: Case):
    transformer = filled(MultiViewTransformer(), keys.TRANSFORMER, "backbone.transformer")
    features = transformer(case["cnn_feature_0"].unflatten(0, (1, 2)))
    case.assert_close("trans_feature", features, (2.1e-4, 1.1e-5))


@torch.no_grad()
def test_cost_volume_and_depth(case: Case):
    features, cameras = case["trans_feature"], case.cameras()
    candidates = disparity_candidates(cameras.near, cameras.far, 128)
    volume = plane_sweep_cost_volume(features, cameras, candidates, pixel_centers=False)
    case.assert_close("cost_volume", view_first(volume), (8.1e-4, 3.9e-5))

    network = filled(CostRefinement(), keys.COST_VOLUME_DEPTH, f"{PREDICTOR}.0")
    refined, logits = network(volume, features)
    # No floor was measured between the cost volume and the logits; the tighter one is taken,
    # relative to the sizes of the two.
    scale = float(refined.std() / volume.std())
    case.assert_close("cost_volume_refined", view_first(refined), (8.1e-4 * scale, 3.9e-5 * scale))
    case.assert_close("depth_logits", view_first(logits), (2.1e-5, 1.4e-6))
    disparity, peak = expected_disparity(logits, candidates)
    depth = (1 / disparity).permute(0, 1, 3, 4, 2).reshape(1, 2, 256, 1, 1)
    case.assert_close("stage0_depths", depth, (4.5e-6, 3.5e-7))
    case.assert_close("stage0_pdf_max", view_first(peak), (4.5e-6, 3.5e-7))
