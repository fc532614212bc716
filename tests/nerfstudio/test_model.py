"""The model by itself: its parameters, its pictures on the CPU, what density control is told."""

import logging
from dataclasses import replace

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras as NerfstudioCameras
from nerfstudio.data.scene_box import SceneBox
from torchmetrics.image import lpip

from hisplat_app.nerfstudio_plugin.cameras import from_nerfstudio
from hisplat_app.nerfstudio_plugin.cpu_drawing import draw, scene, set_screen_gradients
from hisplat_app.nerfstudio_plugin.model import HiSplatModel, HiSplatModelConfig, LazyLpips
from hisplat_app.nerfstudio_plugin.starts import point_gaussians, random_gaussians
from hisplat_models.gaussians import Gaussians
from hisplat_models.rendering import create_renderer

SIZE = (24, 32)


def model(**options: object) -> HiSplatModel:
    config = HiSplatModelConfig(background_color="black", **options)  # pyright: ignore[reportArgumentType]
    box = SceneBox(aabb=torch.tensor([[-1.0] * 3, [1.0] * 3]))
    made = config.setup(scene_box=box, num_train_data=4, metadata={}, seed_points=None)
    made.optimizers = {}
    return made


def some_gaussians(count: int = 60, degree: int = 0) -> Gaussians:
    generator = torch.Generator().manual_seed(3)
    quaternions = torch.randn(count, 4, generator=generator)
    return Gaussians(
        means=torch.rand(count, 3, generator=generator) - 0.5,
        scales=torch.rand(count, 3, generator=generator) * 0.05 + 0.02,
        quaternions_wxyz=torch.nn.functional.normalize(quaternions, dim=-1),
        opacities=torch.rand(count, generator=generator) * 0.8 + 0.1,
        harmonics=torch.randn(count, (degree + 1) ** 2, 3, generator=generator) * 0.3,
        level=torch.zeros(count, dtype=torch.long),
    )


def camera(x: float = 0.0) -> NerfstudioCameras:
    """Looks along -z from z = 2, as OpenGL's cameras do."""
    pose = torch.eye(4)[None, :3]
    pose[0, :, 3] = torch.tensor([x, 0.1, 2.0])
    height, width = SIZE
    return NerfstudioCameras(pose, fx=30.0, fy=31.0, cx=17.0, cy=11.0, width=width, height=height)


@pytest.mark.parametrize("degree", [0, 1, 3, 4])
def test_scene_that_is_put_in_is_the_model_s(degree: int):
    made, gaussians = model(), some_gaussians(degree=degree)
    made.put(gaussians)
    made.step = 10_000
    own = scene(made)
    for name in ("means", "scales", "quaternions_wxyz", "opacities"):
        torch.testing.assert_close(getattr(own, name), getattr(gaussians, name))
    kept = min(degree, 3)
    bands = (kept + 1) ** 2
    torch.testing.assert_close(own.harmonics[:, :bands], gaussians.harmonics[:, :bands])
    assert own.harmonics[:, bands:].abs().sum() == 0


def test_plain_colours_survive_without_harmonics():
    made, gaussians = model(sh_degree=0), some_gaussians()
    gaussians = replace(gaussians, harmonics=gaussians.harmonics.clamp(-1, 1))
    made.put(gaussians)
    torch.testing.assert_close(
        scene(made).base_colors, gaussians.base_colors.clamp(1e-4, 1 - 1e-4), atol=1e-5, rtol=1e-4
    )


def test_picture_is_that_of_our_renderer():
    made, gaussians = model(), some_gaussians()
    made.put(gaussians)
    made.eval()
    outputs = made.get_outputs_for_camera(camera())
    seen = from_nerfstudio(camera())
    drawn = create_renderer("cpu")(gaussians[None], seen[None], SIZE)
    torch.testing.assert_close(outputs["rgb"], drawn.color[0, 0].permute(1, 2, 0).clamp(0, 1))
    assert outputs["rgb"].max() > 0.2
    assert outputs["depth"].shape == outputs["accumulation"].shape == (*SIZE, 1)
    covered = outputs["accumulation"] > 0.5
    assert 1.4 < outputs["depth"][covered].mean() < 2.6


def test_camera_axes_are_turned():
    seen = from_nerfstudio(camera())
    ahead = seen.project(torch.zeros(1, 1, 3))
    torch.testing.assert_close(ahead[0, 0, 2], torch.tensor(2.0))
    right_and_up = seen.project(torch.tensor([[[0.3, 0.4, 0.0]]]))
    assert right_and_up[0, 0, 0] > ahead[0, 0, 0]
    assert right_and_up[0, 0, 1] < ahead[0, 0, 1]


def test_training_pictures_have_the_scheduled_resolution():
    made = model(num_downscales=2, resolution_schedule=100)
    made.put(some_gaussians())
    for step, size in ((0, (6, 8)), (150, (12, 16)), (250, SIZE)):
        made.step = step
        assert draw(made, camera())["rgb"].shape == (*size, 3)


def test_screen_gradients_are_those_of_moving_gaussians_in_the_picture():
    made, gaussians = model(), some_gaussians(count=1)
    made.put(replace(gaussians, scales=torch.full((1, 3), 0.05), harmonics=gaussians.harmonics + 2))
    shown = from_nerfstudio(camera())
    weights = torch.rand(*SIZE, 3, generator=torch.Generator().manual_seed(0))
    (draw(made, camera())["rgb"] * weights).sum().backward()
    set_screen_gradients(made)
    told = made.info["means2d"].grad[0, 0]

    def moved(dx: float, dy: float) -> float:
        """The same sum with the Gaussian that many pixels elsewhere."""
        depth = shown.project(made.means.detach()[None])[0, 0, 2]
        step = torch.tensor([dx * depth / 30.0, -dy * depth / 31.0, 0.0])
        with torch.no_grad():
            other = model()
            other.put(replace(scene(made), means=made.means + step).detach())
            return float((draw(other, camera())["rgb"] * weights).sum())

    small = 0.02
    for axis, direction in enumerate(((small, 0.0), (0.0, small))):
        back = tuple(-d for d in direction)
        slope = (moved(*direction) - moved(*back)) / (2 * small)
        assert told[axis] == pytest.approx(slope, rel=0.1, abs=0.02)


def test_first_iteration_does_not_fade_the_scene():
    made = model()
    made.put(some_gaussians())
    before = made.opacities.detach().clone()
    draw(made, camera())["rgb"].sum().backward()
    made.step_post_backward(0)
    torch.testing.assert_close(made.opacities, before)


def test_optimisers_keep_the_parameters_of_a_loaded_scene():
    made, other = model(), model()
    other.put(some_gaussians(count=33))
    held = made.means
    made.load_state_dict(other.state_dict())
    assert made.means is held
    assert len(held) == 33


def test_antialiased_mode_is_refused():
    made = model(rasterize_mode="antialiased")
    made.put(some_gaussians())
    with pytest.raises(ValueError, match="antialiased needs a GPU"):
        draw(made, camera())


def test_missing_lpips_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def unreachable(**_: object) -> None:
        raise OSError("no connection")

    monkeypatch.setattr(lpip, "LearnedPerceptualImagePatchSimilarity", unreachable)
    measure, image = LazyLpips(), torch.rand(1, 3, 8, 8)
    with caplog.at_level(logging.WARNING):
        assert measure(image, image).isnan()
        assert measure(image, image).isnan()
    assert [r.levelname for r in caplog.records] == ["WARNING"]


def test_lpips_is_made_once_and_is_no_part_of_the_model(monkeypatch: pytest.MonkeyPatch):
    made: list[torch.nn.Module] = []

    class Metric(torch.nn.Linear):
        def __init__(self, normalize: bool):
            assert normalize
            super().__init__(1, 1)
            made.append(self)

        def forward(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return (images - targets).abs().mean()

    monkeypatch.setattr(lpip, "LearnedPerceptualImagePatchSimilarity", Metric)
    owner, image = model(), torch.rand(1, 3, 8, 8)
    assert owner.lpips(image, image) == owner.lpips(image, image) == 0
    assert len(made) == 1
    assert not any("lpips" in name for name in owner.state_dict())


def test_points_become_gaussians_as_wide_as_their_distances():
    grid = torch.stack(torch.meshgrid(*[torch.arange(5.0)] * 3, indexing="ij"), -1).reshape(-1, 3)
    colors = torch.rand(len(grid), 3)
    made = point_gaussians(grid, colors)
    torch.testing.assert_close(made.scales, torch.ones(len(grid), 3))
    torch.testing.assert_close(made.base_colors, colors)


def test_random_gaussians_fill_the_cube():
    made = random_gaussians(2000, 10.0)
    assert made.means.abs().max() <= 5
    assert made.means.std() == pytest.approx(10 / 12**0.5, rel=0.05)
