import pytest
import torch
from torch import Tensor

from hisplat_models.features import (
    CrossViewTransformerDecoder,
    MonocularBranch,
    MultiViewTransformer,
    ResidualUNet,
    VisionTransformer,
)
from hisplat_models.features.vit import linear_attention, resized_to_patches
from hisplat_models.refine_unet import RefineUNet


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def awakened(network: torch.nn.Module) -> torch.nn.Module:
    """The network with noise on all weights, so that zero-initialised branches count."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def monocular_branch() -> MonocularBranch:
    vit = VisionTransformer(channels=12, depth=3, heads=2, patch_size=4, trained_patches=5)
    return MonocularBranch(vit, CrossViewTransformerDecoder(12, heads=2, map_channels=(8, 6, 5)))


# Every block that works on several views, and the (channels, height, width) of its maps.
BLOCKS = {
    "transformer": (lambda: MultiViewTransformer(8, layers=2, ffn_expansion=2), (8, 8, 12)),
    "refine": (lambda: RefineUNet(12, levels=3, attention_downsample=2), (12, 8, 12)),
    "monocular": (monocular_branch, (3, 32, 64)),
}


@pytest.mark.parametrize("block", BLOCKS)
def test_scenes_of_a_batch_do_not_mix(block: str):
    create, shape = BLOCKS[block]
    network = awakened(create())
    maps = torch.randn(2, 3, *shape)
    separately = torch.cat([network(maps[:1]), network(maps[1:])])
    torch.testing.assert_close(network(maps), separately, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("block", BLOCKS)
def test_views_of_a_scene_do_mix(block: str):
    create, shape = BLOCKS[block]
    network = awakened(create())
    maps = torch.randn(1, 2, *shape)
    other = maps.clone()
    other[:, 0] = torch.randn_like(other[:, 0])
    assert (network(maps)[:, 1] - network(other)[:, 1]).abs().max() > 1e-3


@pytest.mark.parametrize("block", ["transformer", "refine"])
@pytest.mark.parametrize("views", [2, 3])
def test_reordering_views_reorders_the_result(block: str, views: int):
    create, shape = BLOCKS[block]
    network = awakened(create())
    maps = torch.randn(1, views, *shape)
    order = list(reversed(range(views)))
    torch.testing.assert_close(network(maps[:, order]), network(maps)[:, order])


@pytest.mark.parametrize("block", BLOCKS)
def test_gradients_reach_every_learned_weight(block: str):
    create, shape = BLOCKS[block]
    network = awakened(create()).train()
    result = network(torch.randn(2, 2, *shape))
    (result * torch.randn_like(result)).sum().backward()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_vision_transformer_stays_frozen():
    branch = monocular_branch()
    branch(torch.randn(1, 2, 3, 64, 64)).sum().backward()
    assert all(not p.requires_grad and p.grad is None for p in branch.vit.parameters())


# --- Residual U-Net ---


@pytest.mark.parametrize("widths", [(8, 16), (8, 12, 16), (8, 16, 24, 32)])
def test_residual_unet_halves_per_level_coarsest_first(widths: tuple[int, ...]):
    levels = len(widths)
    unit = 2 ** (levels - 1)
    features = ResidualUNet(widths)(torch.randn(2, 3, 5 * unit, 3 * unit))
    sizes = [(2, widths[-1 - i], 5 * 2**i, 3 * 2**i) for i in range(levels)]
    assert [tuple(f.shape) for f in features] == sizes


def test_stem_stride_divides_every_size():
    features = ResidualUNet((4, 8), stem_stride=2)(torch.randn(1, 3, 24, 16))
    assert [tuple(f.shape) for f in features] == [(1, 8, 6, 4), (1, 4, 12, 8)]


def test_injected_map_reaches_every_level():
    network = ResidualUNet((4, 8, 12), injected_channels=5)
    images = torch.randn(1, 3, 16, 24)
    some, other = torch.randn(2, 1, 5, 3, 2)
    for a, b in zip(network(images, some), network(images, other), strict=True):
        assert (a - b).abs().max() > 1e-3


def test_residual_unet_trains_all_its_weights():
    network = ResidualUNet((4, 8), injected_channels=5)
    features = network(torch.randn(2, 3, 16, 24), torch.randn(2, 5, 3, 2))
    torch.cat([(f * torch.randn_like(f)).flatten() for f in features]).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        # Biases before instance norm have no effect, hence no gradient beyond rounding.
        if not name.endswith("shortcut.bias"):
            assert parameter.grad.abs().max() > 1e-6, name


def test_residual_unet_refuses_a_map_it_has_no_place_for():
    images, injected = torch.randn(1, 3, 8, 8), torch.randn(1, 5, 2, 2)
    with pytest.raises(ValueError, match="no injected map"):
        ResidualUNet((4, 8))(images, injected)
    with pytest.raises(ValueError, match="an injected map"):
        ResidualUNet((4, 8), injected_channels=5)(images)


def test_residual_unet_needs_two_levels():
    with pytest.raises(ValueError, match="two levels"):
        ResidualUNet((8,))


# --- Transformer ---


def test_first_layer_looks_only_inside_its_window():
    network = MultiViewTransformer(8, layers=1).eval()
    maps = torch.randn(1, 2, 8, 8, 12)
    changed = maps.clone()
    changed[..., :4, :6] += 1.0
    difference = (network(maps) - network(changed)).abs().amax((0, 1, 2))
    assert difference[:4, :6].min() > 1e-3
    assert difference[4:].max() == 0
    assert difference[:, 6:].max() == 0


def test_shifted_layer_crosses_windows_but_not_the_border():
    network = MultiViewTransformer(8, layers=2).eval()
    network.layers[0].forward = lambda x, windows: x  # leaves the shifted one
    maps = torch.randn(1, 3, 8, 8, 8)
    changed = maps.clone()
    changed[..., 0, 0] += 1.0
    difference = (network(maps) - network(changed)).abs().amax((0, 1, 2))
    # Windows of 4x4, shifted by 2: the corner's neighbours are rows and columns 0 and 1 only,
    # though the shift wraps it into one window with all four corners.
    assert difference[:2, :2].min() > 1e-4
    assert difference[2:].max() == 0
    assert difference[:, 2:].max() == 0


def test_padding_is_never_looked_at(monkeypatch: pytest.MonkeyPatch):
    network = MultiViewTransformer(8, layers=3, pad=True).eval()
    maps = torch.randn(1, 2, 8, 7, 9)
    expected = network(maps)
    assert expected.shape == maps.shape
    pad = torch.nn.functional.pad

    def pad_with_sevens(x: Tensor, amounts: tuple[int, ...]) -> Tensor:
        return pad(x, amounts, value=7.0)

    monkeypatch.setattr("hisplat_models.features.transformer.F.pad", pad_with_sevens)
    torch.testing.assert_close(network(maps), expected)


def test_transformer_refuses_maps_that_do_not_split():
    with pytest.raises(ValueError, match="2x2 windows, got 7x8"):
        MultiViewTransformer(8, layers=1)(torch.randn(1, 2, 8, 7, 8))


def test_transformer_refuses_a_single_view():
    with pytest.raises(ValueError, match="two views, got 1"):
        MultiViewTransformer(8, layers=1)(torch.randn(1, 1, 8, 8, 8))


# --- Monocular branch ---


@pytest.mark.parametrize("size", [(64, 64), (96, 160), (200, 70), (20, 40)])
def test_monocular_map_has_four_pixels_per_patch(size: tuple[int, int]):
    fused = monocular_branch().eval()(torch.randn(1, 3, 3, *size))
    patches = [max(1, side // 32) for side in size]
    assert fused.shape == (1, 3, 5, 4 * patches[0], 4 * patches[1])


@pytest.mark.parametrize("side", range(32, 600, 17))
def test_input_rule_is_seven_sixteenths_rounded_down_to_patches(side: int):
    expected = int(side * 0.4375 // 14 * 14)
    assert resized_to_patches(torch.zeros(1, 3, side, 64)).shape[-2:] == (expected, 28)


def test_trained_grid_of_patches_uses_positions_as_they_are():
    vit = VisionTransformer(channels=12, depth=3, heads=2, patch_size=4, trained_patches=5)
    assert vit._positions(5, 5) is vit.position_embedding
    close = vit._positions(5, 6)
    assert close.shape == (1, 31, 12)
    torch.testing.assert_close(close[:, 0], vit.position_embedding[:, 0])


def test_reference_view_ignores_the_others():
    branch = awakened(monocular_branch())
    images = torch.randn(1, 3, 3, 64, 64)
    torch.testing.assert_close(branch(images)[:, :1], branch(images[:, :1]))


def test_linear_attention_is_attention_with_its_own_scores():
    query, key, value = torch.randn(5, 2, 4), torch.randn(7, 2, 4), torch.randn(7, 2, 4)

    def phi(x: Tensor) -> Tensor:
        return torch.where(x > 0, x + 1, x.exp())

    scores = torch.einsum("thc,shc->hts", phi(query), phi(key))
    expected = torch.einsum("hts,shc->thc", scores / scores.sum(-1, keepdim=True), value)
    torch.testing.assert_close(linear_attention(query, key, value), expected, atol=1e-5, rtol=1e-5)


# --- Refine U-Net ---


@pytest.mark.parametrize("size", [(8, 12), (7, 9)])
@pytest.mark.parametrize("channels", [6, 24, 96])
def test_refine_unet_keeps_the_shape(size: tuple[int, int], channels: int):
    maps = torch.randn(1, 3, channels, *size)
    assert RefineUNet(channels, 3, attention_downsample=4)(maps).shape == maps.shape


def test_refine_unet_without_attention_keeps_views_apart():
    network = awakened(RefineUNet(8, levels=2))
    maps = torch.randn(1, 2, 8, 8, 8)
    torch.testing.assert_close(network(maps)[:, 1:], network(maps[:, 1:]), atol=1e-5, rtol=1e-5)


def test_refine_unet_refuses_attention_at_a_resolution_it_lacks():
    with pytest.raises(ValueError, match=r"\[1, 2, 4\], got 8"):
        RefineUNet(8, levels=3, attention_downsample=8)
