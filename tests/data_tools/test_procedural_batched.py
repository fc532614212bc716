"""Procedural scenes cast in torch: the pictures that the compiled renderer makes, any device."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import Tensor

from hisplat_data_tools.datasets.cached import CachedDataset
from hisplat_data_tools.procedural import (
    LAYOUTS,
    Camera,
    ProceduralDataset,
    ProceduralSettings,
    Rendering,
    Scene,
    render,
    sample_cameras,
    sample_scene,
)
from hisplat_data_tools.procedural.batched import reliefs, shading, shapes, trace
from hisplat_data_tools.procedural.batched.cast import Renderings, Views, Workload, cast
from hisplat_data_tools.procedural.batched.examples import batch_size, fill_cache, make_examples
from hisplat_data_tools.procedural.batched.jpeg import through_jpeg
from hisplat_data_tools.procedural.batched.scenes import pack
from hisplat_data_tools.procedural.furniture import add_leaves
from hisplat_data_tools.procedural.photo_effects import _through_jpeg
from hisplat_data_tools.procedural.raycast import (
    BARS,
    BOX,
    CONE,
    CYLINDER,
    ELLIPSOID,
    HEIGHT_FIELD,
    HOLES,
    LATTICE,
    RECTANGLE,
)
from hisplat_data_tools.procedural.scene import SceneBuilder, random_rotation
from hisplat_data_tools.procedural.textures import make_texture
from hisplat_data_tools.procedural.views import look_at
from hisplat_models.cameras import Cameras
from hisplat_models.example import Example

CPU = torch.device("cpu")
DEVICES = [
    CPU,
    pytest.param(
        torch.device("cuda"),
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ),
]
HEIGHT, WIDTH = 60, 84
SMALL = ProceduralSettings(height=40, width=56, samples_per_pixel=2, texture_size=64)


def everything() -> tuple[Scene, Camera]:
    """A scene with every shape, cut-out, light and kind of surface there is, seen at once."""
    build = SceneBuilder(np.random.default_rng(3), texture_size=64)
    rng = build.rng
    looks = [build.material(build.texture(style), 0.7) for style in ("noise", "stripes", "print")]
    stain = build.texture("dead_leaves")
    floor = build.material(build.texture("bricks"), 1.5, stain, glossy=1.0, mirror=0.3)
    glowing = build.material(build.texture("wood"), 1.0, stain, glossy=1.0, emission=0.5)
    build._rows[floor][9] = build._rows[glowing][9] = 0.6  # certainly stained
    build.add(RECTANGLE, (0, 4, 0), (6, 6, 1), floor)
    places = np.array([(x, 4.0 + 0.3 * x, 1.6) for x in (-2.2, -1.1, 0, 1.1, 2.2)])
    for kind, place in zip((BOX, ELLIPSOID, CYLINDER, CONE, CONE), places, strict=True):
        size = (0.4, 0.3, 0.5)
        build.add(kind, place, size, int(rng.choice(looks)), random_rotation(rng))
    for kind, x in zip((BARS, LATTICE, HOLES), (-2, 0, 2), strict=True):
        build.wall((x, 6, 1.5), (0, -1, 0), 0.8, 1.3, looks[1], (kind, 5, 6, 0.4))
    add_leaves(build, np.array([-1.2, 2.5, 0.5]), (0.5, 0.5, 0.5), looks[0], 0.4)
    relief = rng.uniform(-1, 1, (20, 20)).clip(-0.8, 0.8)
    build.add(HEIGHT_FIELD, (1.2, 2.6, 0.25), (0.8, 0.8, 0.25), glowing, relief=relief)
    build.rod((-2, 3, 0), (-1.5, 3, 3), 0.03, looks[2])
    build.sun((0.4, -1, 1.2), (0.8, 0.7, 0.6))
    build.lamp((-1, 1, 2.5), (0.6, 0.6, 0.9), 2.0)
    scene = build.build("everything", np.zeros((2, 3)), np.zeros((2, 3)))
    intrinsics = np.array([[0.9, 0, 0.5], [0, 0.9 * WIDTH / HEIGHT, 0.5], [0, 0, 1]])
    return scene, Camera(look_at(np.array([0.1, -1.2, 1.6]), np.array([0, 4, 0.9])), intrinsics)


def random_view(layout: str, seed: int = 7) -> tuple[Scene, Camera]:
    rng = np.random.default_rng(seed)
    while True:
        scene = sample_scene(rng, layout, 64)
        cameras = sample_cameras(rng, scene, WIDTH / HEIGHT)
        if cameras is not None:
            return scene, cameras.context[0]


def drawn(scene: Scene, camera: Camera, device: torch.device = CPU) -> Renderings:
    views = Views.of([camera], [0]).to(device)
    return cast(pack([scene]).to(device), views, HEIGHT, WIDTH, 4)


def share_that_differs(found: Renderings, expected: Rendering) -> tuple[float, float]:
    """Shares of pixels whose depth, and whose colour, is another one."""
    depth = np.abs(found.depth[0].cpu().numpy() / expected.depth - 1) > 1e-4
    depth |= found.is_sky[0].cpu().numpy() != expected.is_sky
    difference = np.abs(found.radiance[0].cpu().numpy() - expected.radiance).max(axis=-1)
    colour = difference > 2e-3 * expected.radiance.mean() + 2e-3 * expected.radiance.max(axis=-1)
    return float(depth.mean()), float(colour.mean())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layout", [*LAYOUTS, "everything"])
def test_depth_and_colour_are_those_of_the_compiled_renderer(layout: str, device: torch.device):
    scene, camera = everything() if layout == "everything" else random_view(layout)
    expected = render(scene, camera, HEIGHT, WIDTH, 4)
    depth, colour = share_that_differs(drawn(scene, camera, device), expected)
    assert depth < 0.002  # silhouettes
    assert colour < 0.01  # those and their shadows, and where two surfaces are one


def nothing_hit(*arguments: object) -> Tensor:
    return torch.full_like(arguments[1], torch.inf)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("kind", trace.KINDS)
def test_the_comparison_notices_a_missing_shape(kind: int, monkeypatch: pytest.MonkeyPatch):
    scene, camera = everything()
    monkeypatch.setattr(trace, "KINDS", tuple(k for k in trace.KINDS if k != kind))
    depth, _ = share_that_differs(drawn(scene, camera), render(scene, camera, HEIGHT, WIDTH, 4))
    assert depth > 0.01


@pytest.mark.parametrize("column", ["MIRROR", "EMISSION", "STAIN_STRENGTH", "SPECULAR", "OFFSET_U"])
def test_the_comparison_notices_a_missing_trait(column: str):
    scene, camera = everything()
    expected = render(scene, camera, HEIGHT, WIDTH, 4)
    scene.appearance.materials[:, getattr(shading, column)] = 0
    _, colour = share_that_differs(drawn(scene, camera), expected)
    assert colour > 0.02


def test_the_comparison_notices_missing_shadows_and_cut_outs(monkeypatch: pytest.MonkeyPatch):
    scene, camera = everything()
    expected = render(scene, camera, HEIGHT, WIDTH, 4)
    with monkeypatch.context() as change:
        change.setattr(shading, "NEAREST_BLOCKER", 1e5)
        assert share_that_differs(drawn(scene, camera), expected)[1] > 0.02
    with monkeypatch.context() as change:
        change.setattr(shapes, "NO_CUTOUT", -1)
        scene.geometry.shapes[:, 24] = -1
        assert share_that_differs(drawn(scene, camera), expected)[0] > 0.02


def test_a_scene_in_a_batch_looks_as_it_does_alone():
    pairs = [random_view(layout, seed) for seed, layout in enumerate(LAYOUTS)]
    scenes, cameras = zip(*pairs, strict=True)
    order = [3, 0, 6, 1, 5, 2, 4, 3]
    views = Views.of([cameras[n] for n in order], order)
    together = cast(pack(scenes), views, HEIGHT, WIDTH, 1)
    for place, n in enumerate(order):
        alone = cast(pack([scenes[n]]), Views.of([cameras[n]], [0]), HEIGHT, WIDTH, 1)
        torch.testing.assert_close(together.depth[place], alone.depth[0], rtol=1e-6, atol=0)
        torch.testing.assert_close(together.radiance[place], alone.radiance[0])


def test_how_much_is_computed_at_a_time_changes_nothing():
    scene, camera = everything()
    scenes, views = pack([scene]), Views.of([camera], [0])
    whole = cast(scenes, views, HEIGHT, WIDTH, 2, Workload(1 << 22, 1 << 22))
    little = cast(scenes, views, HEIGHT, WIDTH, 2, Workload(500, 700))
    torch.testing.assert_close(whole.depth, little.depth, rtol=0, atol=0)
    torch.testing.assert_close(whole.radiance, little.radiance, rtol=1e-6, atol=1e-7)


def test_rays_beside_the_grid_of_a_height_field_do_not_meet_it():
    build = SceneBuilder(np.random.default_rng(0), texture_size=16)
    look = build.material(build.texture("noise"), 1.0)
    build.add(HEIGHT_FIELD, (0, 5, 0), (1, 1, 1), look, relief=np.zeros((12, 12)))
    build.sun((0, 0, 1), (1, 1, 1))
    scene = build.build("field", np.zeros((2, 3)), np.zeros((2, 3)))
    camera = Camera(look_at(np.array([0, 0, 2.0]), np.array([0, 5.0, 0])), np.eye(3) - 0.0)
    camera.intrinsics[:2, 2] = 0.5
    share = 1 - drawn(scene, camera).is_sky.float().mean().item()
    expected = 1 - render(scene, camera, HEIGHT, WIDTH).is_sky.mean()
    assert 0.005 < expected < 0.3
    assert share == pytest.approx(expected, abs=1e-3)
    assert reliefs.BLOCK == 8  # 11 cells are one whole square and a part of another


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("change", [{}, {"photo_effects": 0.0}, {"context_views": 3}])
def test_examples_are_those_of_the_dataset(change: dict, device: torch.device):
    dataset = ProceduralDataset(ProceduralSettings(**{**vars(SMALL), **change}), 3, 9)
    indices = [7, 0, 4]
    made = list(make_examples(dataset, indices, device, workers=0))
    assert [example.name for example in made] == [f"procedural/3/{n}" for n in indices]
    for index, example in zip(indices, made, strict=True):
        assert_close(example, dataset[index])


def assert_close(found: Example, expected: Example) -> None:
    for kind in ("context_cameras", "target_cameras"):
        for f in fields(Cameras):
            one, other = getattr(getattr(found, kind), f.name), getattr(expected, kind)
            torch.testing.assert_close(one, getattr(other, f.name), rtol=1e-4, atol=1e-5)
    for kind in ("context", "target"):
        depth = getattr(found, f"{kind}_depth") / getattr(expected, f"{kind}_depth") - 1
        assert (depth.abs() > 1e-4).float().mean() < 0.005
        images = getattr(found, f"{kind}_images") - getattr(expected, f"{kind}_images")
        assert images.shape == getattr(expected, f"{kind}_images").shape
        # JPEG rounds what lies between two steps either way.
        assert images.abs().mean() < (2 / 255 if kind == "context" else 0.05 / 255)


def test_examples_do_not_depend_on_the_batch_or_on_workers():
    dataset = ProceduralDataset(SMALL, 5, 4)
    alone = [next(make_examples(dataset, [n], CPU, 0)) for n in (2, 3)]
    together = list(make_examples(dataset, [2, 3], CPU, workers=1))
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one.context_images, other.context_images, rtol=1e-5, atol=1e-5)


def test_large_pictures_are_made_fewer_at_a_time():
    sizes = [ProceduralSettings(height=height, width=height) for height in (128, 512, 2048)]
    assert [batch_size(settings) for settings in sizes] == [32, 3, 1]


@pytest.mark.parametrize("quality", [97, 80, 65, 30])
def test_jpeg_loses_what_a_stored_photo_loses(quality: int):
    picture = make_texture(np.random.default_rng(0), "dead_leaves", 128)[:117, :106]
    stored = _through_jpeg(picture, quality)
    found = through_jpeg(torch.from_numpy(picture)[None], torch.tensor([float(quality)]))[0].numpy()
    loss = np.abs(stored - picture).mean()
    assert np.abs(found - picture).mean() == pytest.approx(loss, rel=0.02)
    assert np.abs(found - stored).mean() < 0.3 * loss
    assert abs((found - stored).mean()) < 0.1 / 255


def test_a_cache_is_filled_with_what_it_lacks(tmp_path):
    dataset = ProceduralDataset(SMALL, 5, 3)
    cache = CachedDataset(dataset, tmp_path / "filled")
    first = cache[1]
    assert cache.missing() == [0, 2]
    assert fill_cache(cache, CPU, workers=0, rank=0, world_size=2) == 2
    assert fill_cache(cache, CPU, workers=0, rank=1, world_size=2) == 0
    assert cache.missing() == []
    torch.testing.assert_close(cache[1].context_images, first.context_images, rtol=0, atol=0)
    assert_close(cache[2], CachedDataset(dataset, tmp_path / "asked")[2])
    assert fill_cache(cache, CPU, workers=0) == 0


def test_textures_of_different_sizes_do_not_go_into_one_batch():
    scenes = [sample_scene(np.random.default_rng(0), "planes", size) for size in (32, 64)]
    with pytest.raises(ValueError, match="textures of one size"):
        pack(scenes)
