"""The published network's rasteriser: our `PAPER` settings against its images and its rules."""

import math
import sys
import types
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import (
    SH_C0,
    Gaussians,
    matrix_to_quaternion,
    multiply_quaternions,
)
from hisplat_models.rendering import (
    PAPER,
    CpuRenderer,
    RasterizationSettings,
    ReferenceRenderer,
    Renderer,
    create_renderer,
)
from hisplat_models.spherical_harmonics import sh_basis
from tests.models.parity import Case
from tests.models.test_rendering import (
    IMAGES,
    PARAMETERS,
    assert_same_gradients,
    assert_same_images,
    cameras_at,
    gradients,
    one_gaussian,
    random_scene,
)

by_both = pytest.mark.parametrize("kind", [ReferenceRenderer, CpuRenderer])


def published_colors(harmonics: Tensor, directions: Tensor) -> Tensor:
    """RGB (..., 3) of coefficients (..., 3, 25) as the published rasteriser evaluates them.

    Its basis is the usual one at directions with their axes turned round, but for one term of
    degree 3 that takes z where y belongs; degree 4 is left out.
    """
    basis = sh_basis(directions[..., [2, 0, 1]], 3)
    x, _, z = directions.unbind(-1)
    basis[..., 14] = 1.445305721320277 * z * (z * z - x * x)
    return (0.5 + torch.einsum("...k,...ck->...c", basis, harmonics[..., :16])).clamp_min(0.0)


def stage_0_of(case: Case) -> tuple[Gaussians, Cameras]:
    """The published network's first Gaussians, one copy of them coloured for each view."""
    cameras = case.cameras()
    means, harmonics = case["stage0_new_means"][0], case["stage0_new_harmonics"][0]
    to_world = matrix_to_quaternion(cameras.camera_to_world[0, :, :3, :3])
    # The first half was made by view 0, in whose axes its rotations are stored (x, y, z, w).
    turns = to_world.repeat_interleave(len(means) // 2, dim=0)
    colors = torch.stack(
        [
            published_colors(harmonics, torch.nn.functional.normalize(means - position, dim=-1))
            for position in cameras.positions[0]
        ]
    )
    count = len(means)
    gaussians = Gaussians(
        means=means.expand(2, count, 3),
        scales=case["stage0_new_scales"].expand(2, count, 3),
        quaternions_wxyz=multiply_quaternions(
            turns, case["stage0_new_rotations"][0][:, [3, 0, 1, 2]]
        ).expand(2, count, 4),
        opacities=case["stage0_new_opacities"].expand(2, count),
        harmonics=((colors - 0.5) / SH_C0)[:, :, None],
        level=torch.zeros(2, count, dtype=torch.long),
    )
    torch.testing.assert_close(
        gaussians.covariances()[:1], case["stage0_new_covariances"], atol=1e-6, rtol=1e-4
    )
    return gaussians, cameras[0][:, None]


@by_both
def test_published_gaussians_give_the_published_image(
    kind: type[ReferenceRenderer] | type[CpuRenderer],
) -> None:
    case = Case(64)
    gaussians, cameras = stage_0_of(case)
    rendering = kind(PAPER)(gaussians, cameras, (64, 64))
    largest, mean = case.difference("stage0_render", rendering.color[:, 0])
    # Nothing but rounding: 5e-7 and 6e-8 were seen.
    assert largest < 1e-5, f"mean {mean:.1e}, largest {largest:.1e}"
    assert mean < 5e-7
    other = kind(replace(PAPER, extent="alpha"))(gaussians, cameras, (64, 64))
    assert case.difference("stage0_render", other.color[:, 0])[0] > 1e-4


# --- our renderers agree, images and gradients ---


def solid_scene(size: tuple[int, int]) -> tuple[Gaussians, Cameras]:
    """Opaque Gaussians of several sizes, whose visible rims lie beyond three sigma."""
    gaussians, cameras = random_scene(count=60, sigma_px=4.0, sh_degree=1, size=size, seed=5)
    return replace(gaussians, opacities=gaussians.opacities**0.01), cameras


@pytest.mark.parametrize("size", [(20, 28), (75, 9), (64, 96), (1, 1)], ids=str)
def test_cpu_equals_reference(size: tuple[int, int]) -> None:
    scene = *solid_scene(size), size
    background = torch.tensor([0.2, 0.5, 0.7], dtype=torch.float64)
    expected = ReferenceRenderer(PAPER)(*scene, background)
    assert_same_images(CpuRenderer(PAPER)(*scene, background), expected, atol=1e-12)
    assert_same_gradients(
        gradients(CpuRenderer(PAPER), *scene, background),
        gradients(ReferenceRenderer(PAPER), *scene, background),
        relative=1e-8,
    )


def test_cpu_in_single_precision_is_close_to_double() -> None:
    size = (40, 56)
    single = *random_scene(count=400, dtype=torch.float32, size=size, seed=1), size
    double = *random_scene(count=400, size=size, seed=1), size
    assert_same_images(CpuRenderer(PAPER)(*single), ReferenceRenderer(PAPER)(*double), atol=1e-5)
    assert_same_gradients(
        gradients(CpuRenderer(PAPER), *single),
        gradients(ReferenceRenderer(PAPER), *double),
        relative=3e-5,
    )


@pytest.mark.parametrize("field", ["alpha_max", "extent", "frustum"])
def test_each_setting_shows(field: str) -> None:
    scene = *solid_scene((64, 96)), (64, 96)
    default = {field: getattr(RasterizationSettings(), field)}
    paper, other = CpuRenderer(PAPER)(*scene), CpuRenderer(replace(PAPER, **default))(*scene)
    assert (paper.color - other.color).abs().max() > 1e-3


def test_gradients_equal_finite_differences_where_tiles_cut() -> None:
    size = (18, 34)
    gaussians, cameras = random_scene(count=3, sh_degree=1, size=size, sigma_px=4.0, seed=43)
    gaussians = replace(gaussians, opacities=0.9 + 0.05 * gaussians.opacities)
    uncut = CpuRenderer(replace(PAPER, extent="alpha"))(gaussians, cameras, size)
    cut = CpuRenderer(PAPER)(gaussians, cameras, size)
    assert ((uncut.alpha > 0) & (cut.alpha == 0)).any()
    fields = {name: getattr(gaussians, name) for name in PARAMETERS}

    def draw(*values: Tensor) -> Tensor:
        scene = replace(gaussians, **dict(zip(fields, values[:-1], strict=True)))
        view = replace(cameras, camera_to_world=values[-1])
        result = CpuRenderer(PAPER)(scene, view, size)
        images = [getattr(result, name).flatten() for name in IMAGES]
        return torch.cat(images)[::31]  # a sample of pixels, for time

    leaves = [x.clone().requires_grad_() for x in [*fields.values(), cameras.camera_to_world]]
    assert torch.autograd.gradcheck(draw, leaves, atol=1e-6, rtol=1e-4)


# --- its rules ---


@by_both
@pytest.mark.parametrize("vertical", [False, True])
@pytest.mark.parametrize(
    ("center", "tiles"),
    [
        (36.05, range(1, 4)),  # the square from 16.05 on: not the first tile
        (35.95, range(4)),
        (28.95, range(3)),  # to 48.95: the last tile is entered by less than a pixel
        (29.05, range(4)),
    ],
)
def test_a_gaussian_ends_at_the_tiles_of_its_three_sigma_square(
    kind: type[ReferenceRenderer] | type[CpuRenderer],
    vertical: bool,
    center: float,
    tiles: range,
) -> None:
    # Variance 44 px², so the square reaches 20 px to each side, and alpha 1 / 255 some 22 px.
    side, variance = 64, 44.0
    scale = 2.0 * math.sqrt(variance - 0.3) / side
    cameras = cameras_at(torch.eye(4, dtype=torch.float64).reshape(1, 1, 4, 4), (side, side))
    # Moved by the principal point, which leaves the ellipse a circle.
    axis = int(vertical)
    k = cameras.intrinsics.clone()
    k[..., :2, 2] = 0.5
    k[..., axis, 2] = (center + 0.5) / side
    settings = replace(PAPER, frustum="pinhole")
    alpha = kind(settings)(
        one_gaussian([0.0, 0.0, 2.0], scale, 0.99), replace(cameras, intrinsics=k), (side, side)
    ).alpha[0, 0]
    line = alpha[:, side // 2] if vertical else alpha[side // 2]
    pixels = torch.arange(side, dtype=torch.float64)
    squared = (pixels - center) ** 2 + 0.5**2
    falloff = 0.99 * torch.exp(-0.5 * squared / variance)
    drawn = torch.isin(pixels // 16, torch.tensor(list(tiles), dtype=torch.float64))
    visible = falloff >= 1 / 255
    torch.testing.assert_close(line, torch.where(drawn & visible, falloff, 0.0))
    assert (visible & ~drawn).any() == (len(tiles) < 4)


@by_both
def test_only_the_field_of_view_of_an_off_centre_camera_counts(
    kind: type[ReferenceRenderer] | type[CpuRenderer],
) -> None:
    gaussians, cameras = random_scene(views=2)  # principal point (0.52, 0.45)
    inverse = torch.linalg.inv(cameras.intrinsics[0, 0])
    middles = [[(0, 0.5, 1), (1, 0.5, 1)], [(0.5, 0, 1), (0.5, 1, 1)]]
    angles = []
    for pair in middles:
        a, b = (inverse @ torch.tensor(point, dtype=torch.float64) for point in pair)
        angles.append(math.acos(float(a @ b / (a.norm() * b.norm()))))
    k = torch.eye(3, dtype=torch.float64)
    for i, angle in enumerate(angles):
        k[i, i], k[i, 2] = 0.5 / math.tan(angle / 2), 0.5
    centred = replace(cameras, intrinsics=k.expand(1, 2, 3, 3))
    expected = kind(replace(PAPER, frustum="pinhole"))(gaussians, centred, (20, 28))
    assert_same_images(kind(PAPER)(gaussians, cameras, (20, 28)), expected, atol=1e-12)
    assert_same_images(kind(PAPER)(gaussians, centred, (20, 28)), expected, atol=1e-12)


@by_both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_of_equally_deep_gaussians_the_first_is_in_front(
    kind: type[ReferenceRenderer] | type[CpuRenderer], dtype: torch.dtype
) -> None:
    gaussians, _ = random_scene(count=40, sh_degree=0, dtype=dtype)
    means = gaussians.means.clone()
    means[..., 2] = torch.tensor([2.0, 3.0]).repeat(20)
    cameras = cameras_at(torch.eye(4, dtype=dtype).reshape(1, 1, 4, 4), (20, 28))
    level = replace(gaussians, means=means)
    # Moved apart by a hair, in the order of their indices and against it.
    hair = 1 + 1e-6 * torch.arange(40)
    in_order = replace(gaussians, means=means * hair[:, None].to(dtype))
    against = replace(gaussians, means=means * hair.flip(0)[:, None].to(dtype))
    images = [kind(PAPER)(scene, cameras, (20, 28)) for scene in (level, in_order, against)]
    assert_same_images(images[0], images[1], atol=1e-3)
    assert (images[0].color - images[2].color).abs().max() > 0.05


def test_gsplat_says_what_it_draws_differently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gsplat", types.ModuleType("gsplat"))
    with pytest.warns(UserWarning, match="alpha_max=0.999 instead of 0.99 and extent='alpha'"):
        assert isinstance(create_renderer("cuda", PAPER), Renderer)
    with pytest.raises(ValueError, match="with alpha_max"):
        create_renderer("cuda", RasterizationSettings(alpha_max=0.9))
    with pytest.raises(ValueError, match="alpha_min"):
        create_renderer("cuda", replace(PAPER, alpha_min=0.01))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="gsplat draws on CUDA only")
@pytest.mark.filterwarnings("ignore:gsplat draws with")
def test_gsplat_is_close_to_the_reference() -> None:
    pytest.importorskip("gsplat")
    size = (40, 56)
    gaussians, cameras = random_scene(views=3, dtype=torch.float32, size=size)
    expected = ReferenceRenderer(PAPER)(gaussians, cameras, size)
    actual = create_renderer("cuda", PAPER)(gaussians.to("cuda"), cameras.to("cuda"), size)
    # A Gaussian cut off at three sigma would still have had an alpha of 0.011.
    torch.testing.assert_close(actual.color.cpu(), expected.color, atol=0.03, rtol=0)
    torch.testing.assert_close(actual.alpha.cpu(), expected.alpha, atol=0.03, rtol=0)
