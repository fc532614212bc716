import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hisplat_app.bench import subject
from hisplat_app.bench.memory import peak_of
from hisplat_app.bench.parts import PartMeter
from hisplat_app.bench.plain import plain_network
from hisplat_app.bench.subject import Case, create_network, photos
from hisplat_app.cli import main
from hisplat_models.channels_last import (
    GroupNorm,
    Pointwise,
    channels_last,
    instance_norm,
    side_by_side,
)
from hisplat_models.config import PRESETS
from hisplat_models.cost_volume import disparity_candidates, plane_sweep_cost_volume
from hisplat_models.features import MultiViewTransformer, ResidualUNet
from hisplat_models.inference import prepare
from hisplat_models.network import HiSplatOutput
from hisplat_models.refine_unet import RefineUNet
from tests.models.small_published import SMALL

CASE = Case("tiny", 64, 128)


@pytest.fixture(autouse=True)
def _tiny_preset(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(PRESETS, "tiny", SMALL)
    torch.manual_seed(0)


def awakened(network: nn.Module) -> nn.Module:
    """The network with noise on all weights, so that zero-initialised branches count."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def predicted(case: Case = CASE, **options: object) -> HiSplatOutput:
    network = prepare(create_network(case), **options)  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        return network(*photos(case))


# --- The fast network against the plain one ---

BLOCKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    # Large enough for several blocks of rows in the norms.
    "cnn": (lambda: ResidualUNet((8, 12, 16)), (2, 3, 64, 96)),
    "transformer": (lambda: MultiViewTransformer(8, layers=2), (1, 2, 8, 16, 24)),
    "refine": (lambda: RefineUNet(16, 3, attention_downsample=4), (1, 3, 16, 64, 48)),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_predict_what_the_plain_ones_do(name: str):
    create, shape = BLOCKS[name]
    network, x = awakened(create()), torch.randn(shape)
    with torch.no_grad():
        fast = network(x)
        with plain_network():
            plain = network(x)
    torch.testing.assert_close(fast, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_have_the_gradients_of_the_plain_ones(name: str):
    create, shape = BLOCKS[name]
    network, x = awakened(create()), torch.randn(shape, requires_grad=True)

    def gradients() -> list[Tensor]:
        output = network(x)
        maps = output if isinstance(output, list) else [output]
        total = torch.stack([(m * torch.linspace(0, 1, m.shape[-1])).sum() for m in maps]).sum()
        return list(torch.autograd.grad(total, [x, *network.parameters()]))

    fast = gradients()
    with plain_network():
        plain = gradients()
    for a, b in zip(fast, plain, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4 * float(b.abs().max() + 1), rtol=1e-4)


@pytest.mark.parametrize("pixel_centers", [True, False])
@pytest.mark.parametrize("views", [2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiled_cost_volume_is_the_plain_one(pixel_centers: bool, views: int, dtype: torch.dtype):
    _, pair = photos(CASE)
    pair = pair.to(dtype)
    third = pair[:, :1]
    moved = third.camera_to_world.clone()
    moved[..., :3, 3] += torch.tensor([0.05, -0.4, 0.8], dtype=dtype)  # its border cuts the picture
    both = {
        name: torch.cat([getattr(pair, name), getattr(third, name)], dim=1)[:, -views:]
        for name in ("camera_to_world", "intrinsics", "near", "far")
    }
    both["camera_to_world"] = torch.cat([pair.camera_to_world, moved], dim=1)[:, -views:]
    cameras = replace(pair, **both)
    features = torch.randn(1, views, 7, 9, 13, dtype=dtype)
    candidates = disparity_candidates(cameras.near, cameras.far, 6)
    fast = plane_sweep_cost_volume(features, cameras, candidates, pixel_centers)
    with plain_network():
        plain = plane_sweep_cost_volume(features, cameras, candidates, pixel_centers)
    assert fast.abs().max() > 1
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    torch.testing.assert_close(fast, plain, atol=tolerance, rtol=tolerance)


def test_whole_network_predicts_what_the_plain_one_does_from_photos_that_are_not_square():
    fast = predicted()
    with plain_network():
        plain = predicted()
    assert fast.gaussians.count == 2 * (64 * 128) * 21 // 16
    for a, b in zip(fast.stages, plain.stages, strict=True):
        torch.testing.assert_close(
            a.surface.inverse_depth, b.surface.inverse_depth, rtol=1e-3, atol=0
        )
        torch.testing.assert_close(a.opacities, b.opacities, atol=1e-3, rtol=0)
    torch.testing.assert_close(
        fast.gaussians.opacities, plain.gaussians.opacities, atol=2e-3, rtol=0
    )


# --- Norms and layouts ---


@pytest.mark.parametrize("mean", [0.0, 5.0])
def test_norms_of_large_maps_keep_their_precision(mean: float):
    maps = channels_last(torch.randn(2, 16, 128, 160) + mean)
    layer = GroupNorm(4, 16)
    with torch.no_grad():
        maps = channels_last(maps)
        expected = nn.functional.group_norm(maps.double(), 4)
        torch.testing.assert_close(layer(maps).double(), expected, atol=3e-5, rtol=0)
        expected = nn.functional.instance_norm(maps.double())
        torch.testing.assert_close(instance_norm(maps).double(), expected, atol=6e-5, rtol=0)


@pytest.mark.parametrize("stride", [1, 2])
def test_pointwise_is_a_convolution(stride: int):
    layer, maps = Pointwise(5, 7, stride), torch.randn(2, 5, 9, 12)
    expected = nn.functional.conv2d(maps, layer.weight, layer.bias, stride)
    with torch.no_grad():
        torch.testing.assert_close(layer(channels_last(maps)), expected)
    torch.testing.assert_close(layer(maps), expected)


@torch.no_grad()
def test_maps_side_by_side_stay_channels_last_beside_single_channels():
    maps = [torch.randn(2, c, 4, 6) for c in (3, 1, 1, 5)]
    both = side_by_side(maps)
    assert both.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(both, torch.cat(maps, dim=1), atol=0, rtol=0)


# --- Precision and compilation ---


def test_half_precision_changes_little_and_returns_full_precision():
    full, half = predicted(), predicted(precision="bf16")
    assert half.gaussians.means.dtype == torch.float32
    assert half.gaussians.opacities.dtype == torch.float32
    depths = [
        torch.cat([s.surface.inverse_depth.flatten() for s in x.stages]) for x in (full, half)
    ]
    relative = (depths[1] / depths[0] - 1).abs()
    assert 0 < relative.median() < 0.05
    difference = (half.gaussians.opacities - full.gaussians.opacities).abs()
    assert 0 < difference.mean() < 0.05


def test_half_precision_ends_with_the_prediction_also_if_that_fails():
    network = prepare(create_network(CASE), precision="bf16")
    images, cameras = photos(CASE)
    with pytest.raises(ValueError, match="multiples of 64"):
        network(images[..., :100], cameras)
    assert not torch.is_autocast_enabled("cpu")
    network(images, cameras)
    assert not torch.is_autocast_enabled("cpu")


def test_only_networks_in_evaluation_mode_are_prepared():
    with pytest.raises(ValueError, match="evaluation mode"):
        prepare(create_network(CASE).train())


def test_compilation_without_a_compiler_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match=r"C\+\+ compiler"):
        prepare(create_network(CASE), compile=True)


# --- The benchmark ---


def test_parts_are_metered_inside_each_other_and_let_go_afterwards():
    network = create_network(CASE)
    calls = iter(range(1000))
    meter = PartMeter(lambda: (float(next(calls)),))
    with torch.no_grad(), meter.on(network):
        network(*photos(CASE))
    whole = ("whole network",)
    assert meter.totals[(*whole, "stage 0", "depth", "cost volume")] == (1.0,)
    inside = [total for path, (total,) in meter.totals.items() if len(path) == 2]
    assert len(inside) >= 8
    assert sum(inside) < meter.totals[whole][0]
    before = dict(meter.totals)
    with torch.no_grad():
        network(*photos(CASE))
    assert meter.totals == before


def test_bench_command_writes_its_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # The command knows only bundled presets; the tiny one stands in.
    monkeypatch.setitem(PRESETS, "hisplat", SMALL)
    monkeypatch.setattr("hisplat_app.bench.measure.peak_of", lambda case, plain: None)
    output = tmp_path / "network.json"
    options = ["--size", "64", "--precision", "fp32", "bf16", "--repeat", "1"]
    threads = torch.get_num_threads()
    try:
        assert main(["bench", "network", *options, "--output", str(output)]) == 0
    finally:
        torch.set_num_threads(threads)
    content = json.loads(output.read_text())
    assert content["machine"]["torch"] == torch.__version__
    full, half = content["results"]
    assert (full["case"]["precision"], half["case"]["precision"]) == ("fp32", "bf16")
    parts = {row["part"]: row for row in full["parts"]}
    whole = parts["whole network"]
    assert whole["share"] == 1
    assert whole["gflops"] > parts["whole network / stage 2 / heads"]["gflops"] > 0
    assert all(row["plain_seconds"] > 0 for row in full["parts"])
    assert full["difference_from_plain"]["relative_depth_median"] < 1e-4
    assert half["difference_from_plain"]["relative_depth_median"] > 1e-4


@pytest.mark.parametrize(
    "options", [["--size", "64", "64", "64"], ["--repeat", "0"], ["--threads", "0"]]
)
def test_bench_refuses_what_makes_no_sense(options: list[str], capfd: pytest.CaptureFixture[str]):
    assert main(["bench", "network", *options]) == 2
    assert "Expected" in capfd.readouterr().err


def test_memory_of_a_process_of_its_own_holds_the_weights():
    memory = peak_of(replace(CASE, preset="hisplat-small", height=64, width=64), plain=False)
    if memory is None:
        pytest.skip("this system does not tell a process's memory")
    assert memory["peak_mib"] > memory["weights_mib"] > 0


def test_bench_networks_are_the_same_every_time():
    a, b = (subject.create_network(CASE).state_dict() for _ in range(2))
    assert all(torch.equal(a[key], b[key]) for key in a)
