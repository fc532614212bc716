"""Laws that every renderer obeys, and the compiled renderer against the plain one."""

import math
import multiprocessing
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import SH_C0, Gaussians, quaternions_to_matrices
from hisplat_models.rendering import (
    PAPER,
    CpuRenderer,
    RasterizationSettings,
    ReferenceRenderer,
    Renderer,
    Rendering,
    create_renderer,
)

RENDERERS = [ReferenceRenderer(), CpuRenderer()]
PARAMETERS = ["means", "scales", "quaternions_wxyz", "opacities", "harmonics"]
IMAGES = ["color", "depth", "alpha"]

any_renderer = pytest.mark.parametrize("renderer", RENDERERS, ids=lambda r: type(r).__name__)


def random_scene(
    count: int = 120,
    batch: int = 1,
    views: int = 1,
    dtype: torch.dtype = torch.float64,
    sh_degree: int = 3,
    size: tuple[int, int] = (20, 28),
    sigma_px: float = 2.0,
    seed: int = 0,
) -> tuple[Gaussians, Cameras]:
    """Gaussians of every orientation that fill images of off-centre cameras, some beyond."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    z = 1 + 3 * uniform(batch, count, 1)
    means = torch.cat([(uniform(batch, count, 2) - 0.5) * 1.4 * z, z], dim=-1)
    gaussians = Gaussians(
        means=means.to(dtype),
        scales=(sigma_px * z / size[1] * (0.3 + 1.4 * uniform(batch, count, 3))).to(dtype),
        quaternions_wxyz=(normal(batch, count, 4) * 3).to(dtype),
        opacities=uniform(batch, count).to(dtype),
        harmonics=(normal(batch, count, (sh_degree + 1) ** 2, 3) * 0.5).to(dtype),
        level=torch.zeros(batch, count, dtype=torch.long),
    )
    pose = torch.eye(4, dtype=torch.float64).repeat(batch, views, 1, 1)
    identity = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)
    pose[..., :3, :3] = quaternions_to_matrices(identity + 0.05 * normal(batch, views, 4))
    pose[..., :3, 3] = 0.1 * normal(batch, views, 3)
    return gaussians, cameras_at(pose.to(dtype), size)


def cameras_at(pose: Tensor, size: tuple[int, int]) -> Cameras:
    """Cameras of one focal length in pixels, their principal point off the centre."""
    rows = [[1.0, 0, 0.52], [0, size[1] / size[0], 0.45], [0, 0, 1]]
    k = torch.tensor(rows, dtype=pose.dtype)
    ones = pose.new_ones(pose.shape[:-2])
    return Cameras(pose, k.expand(*pose.shape[:-2], 3, 3), 0.5 * ones, 10 * ones)


def one_gaussian(mean: list[float], scale: float = 0.1, opacity: float = 0.6) -> Gaussians:
    """A single round Gaussian of colour (0.9, 0.5, 0.1)."""
    color = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)
    return Gaussians(
        means=torch.tensor([[mean]], dtype=torch.float64),
        scales=torch.full((1, 1, 3), scale, dtype=torch.float64),
        quaternions_wxyz=torch.tensor([[[1.0, 0, 0, 0]]], dtype=torch.float64),
        opacities=torch.full((1, 1), opacity, dtype=torch.float64),
        harmonics=((color - 0.5) / SH_C0).reshape(1, 1, 1, 3),
        level=torch.zeros(1, 1, dtype=torch.long),
    )


def gradients(
    renderer: Renderer,
    gaussians: Gaussians,
    cameras: Cameras,
    size: tuple[int, int],
    background: Tensor | None = None,
) -> dict[str, Tensor]:
    """Of a random weighting of all images, to all parameters and the poses."""
    leaves = {name: getattr(gaussians, name).clone().requires_grad_() for name in PARAMETERS}
    pose = cameras.camera_to_world.clone().requires_grad_()
    rendering = renderer(
        replace(gaussians, **leaves), replace(cameras, camera_to_world=pose), size, background
    )
    generator = torch.Generator().manual_seed(1)
    loss = torch.zeros((), dtype=torch.float64)
    for name in IMAGES:
        image = getattr(rendering, name)
        weights = torch.randn(image.shape, generator=generator, dtype=torch.float64)
        loss = loss + (image.double() * weights).sum()
    loss.backward()
    found = {name: leaf.grad for name, leaf in leaves.items()} | {"camera_to_world": pose.grad}
    return {name: grad.double() for name, grad in found.items() if grad is not None}


def assert_same_images(actual: Rendering, expected: Rendering, atol: float) -> None:
    for name in IMAGES:
        torch.testing.assert_close(
            getattr(actual, name).double(),
            getattr(expected, name).double(),
            atol=atol,
            rtol=0,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def assert_same_gradients(
    actual: dict[str, Tensor], expected: dict[str, Tensor], relative: float
) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        error = (actual[name] - value).abs().max() / value.abs().max()
        assert error < relative, f"{name}: relative error {error:.1e}"


# --- the compiled renderer against the plain one ---


@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [(20, 28), (75, 9), (1, 1)], ids=str)
def test_cpu_equals_reference_in_double_precision(size: tuple[int, int], sh_degree: int) -> None:
    scene = *random_scene(sh_degree=sh_degree, size=size), size
    background = torch.tensor([0.2, 0.5, 0.7], dtype=torch.float64)
    expected = ReferenceRenderer()(*scene, background)
    assert expected.alpha.max() > 0.5
    assert_same_images(CpuRenderer()(*scene, background), expected, atol=1e-12)
    assert_same_gradients(
        gradients(CpuRenderer(), *scene, background),
        gradients(ReferenceRenderer(), *scene, background),
        relative=1e-9,
    )


def test_cpu_equals_reference_for_batches_of_views() -> None:
    scene = *random_scene(batch=2, views=3), (20, 28)
    expected = ReferenceRenderer()(*scene)
    assert expected.color.shape == (2, 3, 3, 20, 28)
    assert_same_images(CpuRenderer()(*scene), expected, atol=1e-12)
    assert_same_gradients(
        gradients(CpuRenderer(), *scene), gradients(ReferenceRenderer(), *scene), relative=1e-9
    )


def test_cpu_in_single_precision_is_close_to_double() -> None:
    size = (40, 56)
    single = *random_scene(count=400, dtype=torch.float32, size=size), size
    double = *random_scene(count=400, size=size), size
    rendering = CpuRenderer()(*single)
    assert rendering.color.dtype == torch.float32
    assert_same_images(rendering, ReferenceRenderer()(*double), atol=1e-5)
    assert_same_gradients(
        gradients(CpuRenderer(), *single), gradients(ReferenceRenderer(), *double), relative=3e-5
    )


def test_cpu_equals_reference_where_pixels_fill_up() -> None:
    gaussians, cameras = random_scene(count=600, sigma_px=5.0)
    gaussians = replace(gaussians, opacities=gaussians.opacities**0.1)
    scene = gaussians, cameras, (20, 28)
    expected = ReferenceRenderer()(*scene)
    assert (1 - expected.alpha).max() < 0.02  # pixels stop early, alphas are clamped
    assert_same_images(CpuRenderer()(*scene), expected, atol=1e-12)
    assert_same_gradients(
        gradients(CpuRenderer(), *scene), gradients(ReferenceRenderer(), *scene), relative=1e-8
    )


def test_cpu_equals_reference_with_the_papers_settings() -> None:
    gaussians, cameras = random_scene(seed=3)
    gaussians = replace(gaussians, means=gaussians.means * 0.1, scales=gaussians.scales * 0.1)
    scene = gaussians, cameras, (20, 28)
    expected = ReferenceRenderer(PAPER)(*scene)
    assert (expected.color - ReferenceRenderer()(*scene).color).abs().max() > 1e-3
    assert_same_images(CpuRenderer(PAPER)(*scene), expected, atol=1e-12)


def test_gradients_equal_finite_differences() -> None:
    # Where nothing crosses a threshold: faint, wide Gaussians that cover every pixel.
    gaussians, cameras = random_scene(count=3, sh_degree=1, size=(3, 4), sigma_px=30.0)
    gaussians = replace(gaussians, opacities=0.3 + 0.3 * gaussians.opacities)
    gaussians = replace(gaussians, means=gaussians.means * torch.tensor([0.2, 0.2, 1.0]))
    fields = {name: getattr(gaussians, name) for name in PARAMETERS}

    def draw(*values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scene = replace(gaussians, **dict(zip(fields, values[:-1], strict=True)))
        result = CpuRenderer()(scene, replace(cameras, camera_to_world=values[-1]), (3, 4))
        return result.color, result.depth, result.alpha

    leaves = [x.clone().requires_grad_() for x in [*fields.values(), cameras.camera_to_world]]
    assert torch.autograd.gradcheck(draw, leaves, atol=1e-6, rtol=1e-4)


# --- laws ---


@any_renderer
def test_empty_scene_shows_the_background(renderer: Renderer) -> None:
    gaussians, cameras = random_scene(count=0, views=2)
    background = torch.tensor([0.2, 0.5, 0.7], dtype=torch.float64)
    rendering = renderer(gaussians, cameras, (5, 7), background)
    assert torch.equal(rendering.color, background[:, None, None].expand(1, 2, 3, 5, 7))
    assert not rendering.alpha.any()
    assert not rendering.depth.any()
    assert gradients(renderer, gaussians, cameras, (5, 7))["means"].shape == (1, 0, 3)


@any_renderer
def test_one_gaussian_has_its_closed_form(renderer: Renderer) -> None:
    size, scale, z = (16, 24), 0.2, 2.0
    cameras = cameras_at(torch.eye(4, dtype=torch.float64).reshape(1, 1, 4, 4), size)
    background = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    rendering = renderer(one_gaussian([0.0, 0.0, z], scale), cameras, size, background)
    variance_px = (24 * scale / z) ** 2 + 0.3
    for y, x in [(7, 12), (2, 20), (15, 0)]:
        squared = (x + 0.5 - 0.52 * 24) ** 2 + (y + 0.5 - 0.45 * 16) ** 2
        alpha = 0.6 * math.exp(-0.5 * squared / variance_px)
        expected = alpha if alpha >= 1 / 255 else 0.0
        assert rendering.alpha[0, 0, y, x].item() == pytest.approx(expected, abs=1e-12)
        assert rendering.depth[0, 0, y, x].item() == pytest.approx(expected * z, abs=1e-12)
        color = [0.9 * expected, 0.5 * expected, 0.1 * expected + 1 - expected]
        assert rendering.color[0, 0, :, y, x].tolist() == pytest.approx(color, abs=1e-12)


@any_renderer
def test_the_nearer_gaussian_covers_the_farther_one(renderer: Renderer) -> None:
    near, far = one_gaussian([0, 0, 1], opacity=0.8), one_gaussian([0, 0, 2], opacity=0.5)
    far = replace(far, harmonics=-far.harmonics)
    cameras = cameras_at(torch.eye(4, dtype=torch.float64).reshape(1, 1, 4, 4), (9, 9))
    one_way = renderer(Gaussians.cat([near, far]), cameras, (9, 9))
    other_way = renderer(Gaussians.cat([far, near]), cameras, (9, 9))
    assert_same_images(one_way, other_way, atol=1e-15)
    assert one_way.color[0, 0, 0, 4, 4] > one_way.color[0, 0, 2, 4, 4]


@any_renderer
@pytest.mark.parametrize("z", [-2.0, 0.0, 0.005])
def test_gaussians_behind_the_near_plane_are_not_drawn(renderer: Renderer, z: float) -> None:
    cameras = cameras_at(torch.eye(4, dtype=torch.float64).reshape(1, 1, 4, 4), (8, 8))
    scene = one_gaussian([0, 0, z], scale=1.0), cameras, (8, 8)
    assert not renderer(*scene).alpha.any()
    assert all(not value.any() for value in gradients(renderer, *scene).values())


@any_renderer
def test_scenes_with_a_near_surface_are_drawn(renderer: Renderer) -> None:
    cameras = cameras_at(torch.eye(4, dtype=torch.float64).reshape(1, 1, 4, 4), (8, 8))
    assert renderer(one_gaussian([0, 0, 0.05], 0.01), cameras, (8, 8)).alpha.max() > 0.5


@any_renderer
def test_huge_gaussians_cover_the_image_evenly(renderer: Renderer) -> None:
    cameras = cameras_at(torch.eye(4, dtype=torch.float64).reshape(1, 1, 4, 4), (70, 20))
    alpha = renderer(one_gaussian([0, 0, 2.0], 1e5, 0.7), cameras, (70, 20)).alpha
    torch.testing.assert_close(alpha, torch.full_like(alpha, 0.7), atol=1e-6, rtol=0)


@any_renderer
def test_transparent_gaussians_leave_no_trace(renderer: Renderer) -> None:
    gaussians, cameras = random_scene()
    gaussians = replace(gaussians, opacities=torch.zeros_like(gaussians.opacities))
    scene = gaussians, cameras, (20, 28)
    assert not renderer(*scene).alpha.any()
    assert all(value.isfinite().all() for value in gradients(renderer, *scene).values())


@any_renderer
def test_moving_world_and_cameras_together_changes_nothing(renderer: Renderer) -> None:
    gaussians, cameras = random_scene(sh_degree=0)
    motion = torch.eye(4, dtype=torch.float64)
    motion[:3, :3] = quaternions_to_matrices(torch.tensor([0.3, -0.5, 0.2, 0.9]).double())
    motion[:3, 3] = torch.tensor([1.0, -2.0, 0.5])
    moved = renderer(gaussians.transformed(motion), cameras.transformed(motion), (20, 28))
    assert_same_images(moved, renderer(gaussians, cameras, (20, 28)), atol=1e-9)


@any_renderer
def test_alpha_is_what_the_background_lacks(renderer: Renderer) -> None:
    gaussians, cameras = random_scene()
    black = renderer(gaussians, cameras, (20, 28))
    white = renderer(gaussians, cameras, (20, 28), torch.ones(3, dtype=torch.float64))
    lacking = 1 - (white.color - black.color)
    torch.testing.assert_close(lacking, black.alpha[:, :, None].expand_as(lacking))
    assert black.expected_depth()[black.alpha > 0.5].min() > 0.5


# --- refusals ---


@any_renderer
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", [*PARAMETERS, "camera_to_world", "intrinsics"])
def test_parameters_that_are_not_finite_are_refused(
    renderer: Renderer, name: str, value: float
) -> None:
    gaussians, cameras = random_scene()
    if name in PARAMETERS:
        spoiled = getattr(gaussians, name).clone()
        gaussians = replace(gaussians, **{name: spoiled})
    else:
        spoiled = getattr(cameras, name).clone()
        cameras = replace(cameras, **{name: spoiled})
    spoiled.view(-1)[-1] = value
    with pytest.raises(ValueError, match=name):
        renderer(gaussians, cameras, (20, 28))


@any_renderer
def test_shapes_that_do_not_fit_are_refused(renderer: Renderer) -> None:
    gaussians, cameras = random_scene(batch=2)
    with pytest.raises(ValueError, match="as many scenes"):
        renderer(gaussians, cameras[:1], (20, 28))
    with pytest.raises(ValueError, match="batched Gaussians"):
        renderer(gaussians[0], cameras, (20, 28))
    with pytest.raises(ValueError, match=r"\(batch, view\)"):
        renderer(gaussians, cameras[0], (20, 28))
    with pytest.raises(ValueError, match="image size"):
        renderer(gaussians, cameras, (0, 28))
    degree_4 = replace(gaussians, harmonics=gaussians.harmonics.new_zeros(2, 120, 25, 3))
    with pytest.raises(ValueError, match="degree 0 to 3"):
        renderer(degree_4, cameras, (20, 28))


def test_settings_without_meaning_are_refused() -> None:
    with pytest.raises(ValueError, match="alpha_min"):
        RasterizationSettings(alpha_min=0.0)
    with pytest.raises(ValueError, match="near_plane"):
        RasterizationSettings(near_plane=-1.0)


# --- the compiled renderer as a citizen of a process ---


def test_gradients_are_the_same_every_time_and_for_any_number_of_threads() -> None:
    scene = *random_scene(count=9000, dtype=torch.float32, size=(96, 80)), (96, 80)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        first, again = gradients(CpuRenderer(), *scene), gradients(CpuRenderer(), *scene)
        torch.set_num_threads(1)
        alone = gradients(CpuRenderer(), *scene)
    finally:
        torch.set_num_threads(threads)
    for name, value in first.items():
        assert torch.equal(value, again[name]), name
        assert torch.equal(value, alone[name]), name


def test_only_wanted_gradients_are_made() -> None:
    gaussians, cameras = random_scene()
    expected = gradients(CpuRenderer(), gaussians, cameras, (20, 28))
    for name in PARAMETERS:
        leaf = getattr(gaussians, name).clone().requires_grad_()
        scene = replace(gaussians, **{name: leaf})
        result = CpuRenderer()(scene, cameras, (20, 28))
        generator = torch.Generator().manual_seed(1)
        images = [getattr(result, image) for image in IMAGES]
        weights = [torch.randn(i.shape, generator=generator, dtype=i.dtype) for i in images]
        torch.autograd.backward(images, weights)
        assert leaf.grad is not None
        torch.testing.assert_close(leaf.grad, expected[name])


def test_nothing_is_kept_without_gradients() -> None:
    gaussians, cameras = random_scene()
    gaussians = replace(gaussians, means=gaussians.means.requires_grad_())
    with torch.no_grad():
        assert not CpuRenderer()(gaussians, cameras, (20, 28)).color.requires_grad


def test_two_threads_render_what_one_renders() -> None:
    scenes = [
        (*random_scene(count=3000, dtype=torch.float32, size=(64, 64), seed=s), (64, 64))
        for s in range(6)
    ]
    serial = [gradients(CpuRenderer(), *scene) for scene in scenes]
    with ThreadPoolExecutor(2) as pool:
        parallel = list(pool.map(lambda scene: gradients(CpuRenderer(), *scene), scenes))
    for one, other in zip(serial, parallel, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


class _Renders(torch.utils.data.Dataset):
    """Items that are rendered where they are loaded."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        torch.set_num_threads(2)  # so that a worker needs threads of its own
        gaussians, cameras = random_scene(dtype=torch.float32, size=(64, 64), seed=index)
        return CpuRenderer()(gaussians, cameras, (64, 64)).color


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="needs fork to test forking"
)
def test_forked_loader_workers_render_after_their_parent_did() -> None:
    expected = [_Renders()[i] for i in range(4)]
    loader = torch.utils.data.DataLoader(
        _Renders(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=120
    )
    for actual, color in zip(loader, expected, strict=True):
        assert torch.equal(actual, color)


# --- choosing ---


def test_the_device_chooses_the_renderer() -> None:
    assert create_renderer("cpu") == CpuRenderer()
    assert create_renderer(torch.device("cpu"), PAPER) == CpuRenderer(PAPER)
    with pytest.raises(ValueError, match="CPU or CUDA"):
        create_renderer("meta")


def test_importing_the_renderers_does_not_import_gsplat() -> None:
    code = "import sys, hisplat_models.rendering; assert 'gsplat' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_gsplat_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gsplat", None)
    with pytest.raises(ImportError, match=r'pip install "hisplat-app\[gpu\]"'):
        create_renderer("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="gsplat draws on CUDA only")
def test_gsplat_equals_the_reference() -> None:
    pytest.importorskip("gsplat")
    gaussians, cameras = random_scene(batch=2, views=3, dtype=torch.float32, size=(40, 56))
    background = torch.tensor([0.2, 0.5, 0.7])
    expected = ReferenceRenderer()(gaussians, cameras, (40, 56), background)
    on_gpu = gaussians.to("cuda"), cameras.to("cuda"), (40, 56), background.cuda()
    actual = create_renderer("cuda")(*on_gpu)
    for name in IMAGES:
        torch.testing.assert_close(
            getattr(actual, name).cpu(), getattr(expected, name), atol=1e-4, rtol=1e-3
        )
    assert_same_gradients(
        {k: v.cpu() for k, v in gradients(create_renderer("cuda"), *on_gpu).items()},
        gradients(ReferenceRenderer(), gaussians, cameras, (40, 56), background),
        relative=1e-2,
    )
