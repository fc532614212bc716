"""The network as a whole: starts at the analytic scene, any shape, any number of views."""

import dataclasses

import pytest
import torch

from hisplat_models.cameras import Cameras
from hisplat_models.config import PRESETS, HiSplatConfig, StageConfig, ViTConfig
from hisplat_models.example import collate
from hisplat_models.layered import layered_gaussians, layered_stages
from hisplat_models.matching import match_views
from hisplat_models.network import HiSplat

from .scenes import example, rigid_pose

SMALL = PRESETS["hisplat-small"]
# The published structure with tiny widths.
TINY = dataclasses.replace(
    PRESETS["hisplat"],
    stages=(
        StageConfig(4, 16, 3, 4, 1, 16, 3, "cost_volume"),
        StageConfig(2, 8, 3, 4, 1, 16, 3, "residual"),
        StageConfig(1, 8, 3, 4, 1, 16, 3, "limited"),
    ),
    size_multiple=16,
    cnn_widths=(8, 8, 16),
    transformer_layers=2,
    depth_candidates=16,
    corr_channels=16,
    corr_levels=2,
    corr_attention=2,
    vit=ViTConfig(width=24, depth=3, heads=2),
)


def randomised(model: HiSplat) -> HiSplat:
    """The network with its zero-initialised parts moved away from zero."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def small(trained: bool = False, **changes) -> HiSplat:
    torch.manual_seed(0)
    model = HiSplat(dataclasses.replace(SMALL, **changes))
    return randomised(model) if trained else model.eval()


@torch.no_grad()
def test_untrained_small_network_is_the_layered_analytic_scene():
    batch = collate([example()])
    prior = match_views(batch.context_images, batch.context_cameras)
    expected = layered_gaussians(
        layered_stages(prior, batch.context_images, batch.context_cameras), batch.context_cameras
    )
    scene = small()(batch.context_images, batch.context_cameras).gaussians
    for field in ("means", "scales", "opacities", "harmonics"):
        torch.testing.assert_close(
            getattr(scene, field), getattr(expected, field), rtol=1e-4, atol=1e-5
        )
    assert torch.equal(scene.level, expected.level)


@torch.no_grad()
@pytest.mark.parametrize("config", [SMALL, TINY], ids=["small", "published"])
@pytest.mark.parametrize(("height", "width", "views"), [(32, 80, 2), (64, 48, 3)])
def test_any_shape_and_number_of_views(config: HiSplatConfig, height: int, width: int, views: int):
    batch = collate([example(0, height, width, views)])
    torch.manual_seed(0)
    model = HiSplat(config).eval()
    output = model(batch.context_images, batch.context_cameras)
    fine = output.stages[-1].gaussians
    assert fine.means.shape == (1, views * height * width, 3)
    assert set(output.gaussians.level.unique().tolist()) == {0, 1, 2}
    for field in dataclasses.fields(output.gaussians):
        assert torch.isfinite(getattr(output.gaussians, field.name)).all()
    assert (output.gaussians.opacities <= 1).all()
    assert (output.gaussians.opacities >= 0).all()


@torch.no_grad()
@pytest.mark.parametrize("config", [SMALL, TINY], ids=["small", "published"])
def test_a_batch_equals_its_elements(config: HiSplatConfig):
    torch.manual_seed(0)
    model = randomised(HiSplat(config))
    examples = [example(0), example(1)]
    both = collate(examples)
    together = model(both.context_images, both.context_cameras).gaussians
    for index, one in enumerate(examples):
        alone = model(one.context_images[None], one.context_cameras[None]).gaussians
        torch.testing.assert_close(together.means[index], alone.means[0], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(
            together.opacities[index], alone.opacities[0], rtol=1e-2, atol=5e-3
        )


@torch.no_grad()
def test_moving_and_scaling_the_world_moves_and_scales_the_scene():
    batch = collate([example()])
    model = small(trained=True)
    pose = rigid_pose(0.7, (3.0, -1.0, 2.0))
    scene = model(batch.context_images, batch.context_cameras).gaussians
    moved_cameras = batch.context_cameras.scaled(2.5).transformed(pose)
    moved = model(batch.context_images, moved_cameras).gaussians
    expected = scene[0].scaled(2.5).transformed(pose)
    # Rounding may flip single hard choices between depth candidates.
    distance = (moved.means[0] - expected.means).norm(dim=-1)
    assert (distance < 1e-2).float().mean() > 0.995
    assert ((moved.opacities[0] - expected.opacities).abs() < 1e-2).float().mean() > 0.995


@torch.no_grad()
def test_geometry_keeps_full_precision_under_autocast():
    batch = collate([example()])
    model = small()
    expected = model(batch.context_images, batch.context_cameras).gaussians
    with torch.autocast("cpu", torch.bfloat16):
        scene = model(batch.context_images, batch.context_cameras).gaussians
    assert scene.means.dtype == torch.float32
    torch.testing.assert_close(scene.means, expected.means, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(scene.scales, expected.scales, rtol=1e-5, atol=1e-6)


def test_sides_that_are_no_multiples_are_refused():
    batch = collate([example()])
    with pytest.raises(ValueError, match="multiples of 16, got 60x48"):
        small()(batch.context_images[..., :60], batch.context_cameras)


def test_one_view_is_refused():
    batch = collate([example()])
    with pytest.raises(ValueError, match="at least two views, got 1"):
        small()(batch.context_images[:, :1], batch.context_cameras[:, :1])


@torch.no_grad()
@pytest.mark.parametrize("switch", ["error_aware", "modulating_fusion"])
def test_each_module_can_be_switched_off_and_matters_once_trained(switch: str):
    batch = collate([example()])
    with_it = small(trained=True)
    without = small(**{switch: False})
    shared = without.state_dict()
    donor = with_it.state_dict()
    without.load_state_dict(
        {k: donor[k] if k in donor and donor[k].shape == v.shape else v for k, v in shared.items()}
    )
    a = with_it(batch.context_images, batch.context_cameras).gaussians.opacities
    b = without.eval()(batch.context_images, batch.context_cameras).gaussians.opacities
    assert (a - b).abs().max() > 1e-4


@torch.no_grad()
def test_fusion_changes_only_earlier_opacities():
    batch = collate([example()])
    output = small(trained=True)(batch.context_images, batch.context_cameras)
    first, last = output.accumulated[0], output.accumulated[-1]
    count = first.count
    assert torch.equal(first.means, last.means[:, :count])
    assert not torch.equal(first.opacities, last.opacities[:, :count])
    fine = output.stages[-1].gaussians
    assert torch.equal(fine.opacities, last.opacities[:, -fine.count :])


def test_every_parameter_that_is_used_gets_a_gradient():
    batch = collate([example()])
    model = small(trained=True)
    model.train()
    output = model(batch.context_images, batch.context_cameras)
    loss = output.gaussians.opacities.sum() + output.gaussians.means.sum()
    logits = output.stages[-1].candidate_logits
    assert logits is not None
    loss = loss + logits.square().sum() + output.gaussians.harmonics.square().sum()
    loss = loss + output.gaussians.scales.sum() + output.stages[0].surface.inverse_depth.sum()
    (loss + output.gaussians.quaternions_wxyz[..., 1].sum()).backward()
    without = [n for n, p in model.named_parameters() if p.grad is None]
    assert without == []


def test_progress_is_reported_and_may_cancel():
    batch = collate([example()])
    seen: list[float] = []

    def stop_half_way(step: str, fraction: float) -> None:
        seen.append(fraction)
        if fraction > 0.5:
            raise KeyboardInterrupt(step)

    with pytest.raises(KeyboardInterrupt):
        small()(batch.context_images, batch.context_cameras, progress=stop_half_way)
    assert seen == sorted(seen)
    assert seen[0] == 0.0


def test_published_preset_has_the_published_size():
    with torch.device("meta"):
        model = HiSplat(PRESETS["hisplat"])
    assert sum(p.numel() for p in model.parameters()) == 150_876_854


def test_small_preset_fits_a_laptop():
    count = sum(p.numel() for p in small().parameters())
    assert 200_000 <= count <= 3_000_000


def test_cameras_of_another_batch_shape_are_refused():
    batch = collate([example()])
    cameras = batch.context_cameras
    wrong = Cameras(*(getattr(cameras, f.name)[:, :1] for f in dataclasses.fields(cameras)))
    with pytest.raises(ValueError, match="one camera per photo"):
        small()(batch.context_images, wrong)
