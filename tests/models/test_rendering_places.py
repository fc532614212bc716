"""Gaussians drawn from settled places look and change as the plain renderers have them."""

from dataclasses import dataclass, fields, replace

import pytest
import torch
from torch import Tensor

from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import Gaussians
from hisplat_models.rendering import (
    PAPER,
    Appearance,
    CpuRenderer,
    RasterizationSettings,
    ReferenceRenderer,
    Renderer,
    Rendering,
    place,
)
from hisplat_models.rendering.places import Draw

from .test_rendering import random_scene

SIZE = (40, 56)


def appearance(scene: Gaussians, seed: int = 0) -> Appearance:
    """Another one than the scene's own, some of it invisible."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64).to(scene.means)

    return Appearance(
        opacities=uniform(*scene.opacities.shape),
        sizes=0.5 + uniform(*scene.opacities.shape),
        colors=scene.base_colors + 0.2 * uniform(*scene.base_colors.shape),
    )


def gradients(draw: Draw, looks: Appearance) -> dict[str, Tensor]:
    """Of a random weighting of all pixels."""
    leaves = {f.name: getattr(looks, f.name).clone().requires_grad_() for f in fields(Appearance)}
    color = draw(Appearance(**leaves))
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(color.shape, generator=generator, dtype=torch.float64)
    (color.double() * weights).sum().backward()
    return {name: leaf.grad.double() for name, leaf in leaves.items() if leaf.grad is not None}


def assert_alike(found: dict[str, Tensor], expected: dict[str, Tensor], relative: float) -> None:
    assert found.keys() == expected.keys() == {f.name for f in fields(Appearance)}
    for name, value in expected.items():
        error = (found[name] - value).abs().max() / value.abs().max()
        assert error < relative, f"{name}: relative error {error:.1e}"


@dataclass(frozen=True)
class Anew:
    """A renderer that `place` knows nothing of."""

    renderer: Renderer

    def __call__(
        self,
        gaussians: Gaussians,
        cameras: Cameras,
        image_size: tuple[int, int],
        background: Tensor | None = None,
    ) -> Rendering:
        return self.renderer(gaussians, cameras, image_size, background)


@pytest.mark.parametrize("sh_degree", [0, 3])
@pytest.mark.parametrize("settings", [RasterizationSettings(), PAPER], ids=["default", "paper"])
@pytest.mark.parametrize("only_some", [False, True])
def test_pictures_and_gradients_are_those_of_drawing_anew(
    sh_degree: int, settings: RasterizationSettings, only_some: bool
):
    scene, cameras = random_scene(batch=2, views=2, sh_degree=sh_degree, size=SIZE)
    chosen = torch.arange(scene.count) % 3 > 0 if only_some else None
    looks = appearance(scene)
    fast = place(CpuRenderer(settings), scene, cameras, SIZE, chosen)
    plain = place(Anew(ReferenceRenderer(settings)), scene, cameras, SIZE, chosen)
    torch.testing.assert_close(fast(looks), plain(looks), atol=1e-11, rtol=0)
    if settings == PAPER:  # its ends at tile borders are no more differentiable than its order
        plain = place(Anew(CpuRenderer(settings)), scene, cameras, SIZE, chosen)
    assert_alike(gradients(fast, looks), gradients(plain, looks), 1e-8)


def test_single_precision_is_close_to_double():
    double, cameras = random_scene(count=400, size=SIZE)
    single, _ = random_scene(count=400, dtype=torch.float32, size=SIZE)
    single_cameras = Cameras(*(getattr(cameras, f.name).float() for f in fields(Cameras)))
    looks = appearance(double)
    same = Appearance(*(getattr(looks, f.name).float() for f in fields(Appearance)))
    draw = place(CpuRenderer(), single, single_cameras, SIZE)
    exact = place(CpuRenderer(), double, cameras, SIZE)
    assert draw(same).dtype == torch.float32
    torch.testing.assert_close(draw(same).double(), exact(looks), atol=2e-5, rtol=0)
    assert_alike(gradients(draw, same), gradients(exact, looks), 1e-4)


def test_where_pixels_fill_up_gradients_end_too():
    scene, cameras = random_scene(count=600, sigma_px=5.0)
    looks = replace(appearance(scene), opacities=appearance(scene).opacities ** 0.1)
    fast, plain = (place(r, scene, cameras, (20, 28)) for r in (CpuRenderer(), ReferenceRenderer()))
    torch.testing.assert_close(fast(looks), plain(looks), atol=1e-12, rtol=0)
    assert_alike(gradients(fast, looks), gradients(plain, looks), 1e-8)


def test_places_serve_any_appearance_again():
    scene, cameras = random_scene(dtype=torch.float32, size=SIZE)
    draw = place(CpuRenderer(), scene, cameras, SIZE)
    first, other = appearance(scene), appearance(scene, seed=5)
    before = draw(first)
    assert not torch.equal(draw(other), before)
    assert torch.equal(draw(first), before)


def test_gradients_are_the_same_for_any_number_of_threads():
    scene, cameras = random_scene(count=9000, dtype=torch.float32, size=(96, 80))
    draw, looks = place(CpuRenderer(), scene, cameras, (96, 80)), appearance(scene)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        many = gradients(draw, looks)
        torch.set_num_threads(1)
        one = gradients(draw, looks)
    finally:
        torch.set_num_threads(threads)
    for name, value in many.items():
        assert torch.equal(value, one[name]), name


def test_what_cannot_be_drawn_is_refused():
    scene, cameras = random_scene(size=SIZE)
    broken = replace(scene, means=scene.means * torch.nan)
    with pytest.raises(ValueError, match=r"finite gaussians\.means"):
        place(CpuRenderer(), broken, cameras, SIZE)
    looks = appearance(scene)
    draw = place(CpuRenderer(), scene, cameras, SIZE)
    with pytest.raises(ValueError, match="finite sizes"):
        draw(replace(looks, sizes=looks.sizes * torch.nan))
