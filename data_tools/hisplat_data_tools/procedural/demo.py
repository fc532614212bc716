"""The example pair: ``python -m hisplat_data_tools.procedural.demo --output FOLDER``.

A composed room, photographed from two places a step apart, with a third picture between them to
compare with. The folder is a posed folder: pictures and a ``cameras.json``.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro

from .furniture import add_lamp, add_plant, add_seat, add_shelf, add_small_objects, add_table
from .photo_effects import Exposure, develop
from .raycast import BOX, CYLINDER, ELLIPSOID, RECTANGLE
from .render import Camera, Rendering, render
from .scene import Scene, SceneBuilder, turn
from .views import look_at

WIDTH, HEIGHT, FOCAL_PX = 640, 480, 560.0
SEED = 29


@dataclass(frozen=True)
class Photo:
    """One picture of the demo.

    Attributes:
        file: Name inside the folder.
        camera: Where it was taken.
        view: What the camera saw.
    """

    file: str
    camera: Camera
    view: Rendering


def _shell(build: SceneBuilder) -> None:
    """Floor, back wall, side walls and ceiling; the back wall is at y = 3."""
    floor = build.material(build.texture("wood"), 2.2, glossy=0.0, upright=True)
    bricks = build.material(build.texture("bricks"), 1.6, glossy=0.0, upright=True)
    paint = build.material(build.texture("noise"), 3.0, glossy=0.0, tint=(1.0, 0.97, 0.9))
    build.add(RECTANGLE, np.zeros(3), (4, 4, 1), floor)
    build.add(RECTANGLE, np.array([0, 0, 2.9]), (4, 4, 1), paint)
    build.wall(np.array([0, 3.0, 1.45]), np.array([0, -1.0, 0]), 4.0, 1.5, bricks)
    build.wall(np.array([-2.6, 0, 1.45]), np.array([1.0, 0, 0]), 4.0, 1.5, paint)
    build.wall(np.array([2.6, 0, 1.45]), np.array([-1.0, 0, 0]), 4.0, 1.5, paint)
    build.wall(np.array([0, -4.0, 1.45]), np.array([0, 1.0, 0]), 4.0, 1.5, paint)


def _pictures(build: SceneBuilder) -> None:
    """Framed pictures on the back wall and on the left wall."""
    frame = build.material(build.texture("wood"), 0.6, glossy=0.0, tint=(0.5, 0.4, 0.35))
    for x, z, half_w, half_h, style in (
        (-0.75, 1.75, 0.42, 0.32, "dead_leaves"),
        (0.3, 1.85, 0.3, 0.38, "marble"),
    ):
        picture = build.material(build.texture(style), 0.9, glossy=0.0, upright=True)
        build.add(BOX, np.array([x, 2.98, z]), (half_w + 0.04, 0.03, half_h + 0.04), frame)
        build.add(BOX, np.array([x, 2.97, z]), (half_w, 0.03, half_h), picture)
    picture = build.material(build.texture("dead_leaves"), 1.0, glossy=0.0, upright=True)
    build.add(BOX, np.array([-2.58, 1.2, 1.6]), (0.03, 0.54, 0.44), frame)
    build.add(BOX, np.array([-2.57, 1.2, 1.6]), (0.03, 0.5, 0.4), picture)


def _things(build: SceneBuilder) -> None:
    """Furniture, a rug, and a table laid with objects."""
    rug = build.material(build.texture("stripes"), 1.3, glossy=0.0, upright=True)
    build.add(BOX, np.array([0.0, 0.9, 0.01]), (1.5, 1.1, 0.01), rug, turn(2, 0.15))
    add_shelf(build, np.array([1.65, 2.75, 0]), np.array([0.75, 0.2, 2.0]), 0.0)
    add_seat(build, np.array([-1.2, 2.4, 0]), np.array([0.85, 0.42, 0.8]), 0.0)
    add_plant(build, np.array([-2.25, 2.6, 0]), np.array([0.3, 0.3, 1]), 0.4)
    add_lamp(build, np.array([0.55, 2.6, 0]), np.array([0.2, 0.2, 1.0]), 0.0)
    add_table(build, np.array([0.1, 0.8, 0]), np.array([0.75, 0.45, 0.62]), 0.2)
    top = np.array([0.1, 0.8, 0.62])
    add_small_objects(build, top, np.array([0.6, 0.3]), 9, 1.0)
    bowl = build.material(build.texture("marble"), 0.3, glossy=1.0)
    fruit = build.material(build.texture("noise"), 0.2, glossy=1.0, tint=(1.0, 0.55, 0.3))
    build.add(CYLINDER, top + np.array([0.1, -0.2, 0.03]), (0.16, 0.16, 0.03), bowl)
    for x, y, z in ((0.03, -0.22, 0.1), (0.16, -0.2, 0.1), (0.1, -0.13, 0.1), (0.1, -0.19, 0.18)):
        build.add(ELLIPSOID, top + np.array([x, y, z]), (0.06, 0.06, 0.058), fruit)
    add_seat(build, np.array([1.35, 0.9, 0]), np.array([0.22, 0.22, 1]), -1.9)


def demo_scene() -> Scene:
    """The composed room; always the same."""
    build = SceneBuilder(np.random.default_rng(SEED), texture_size=512)
    _shell(build)
    _pictures(build)
    _things(build)
    build.lamp(np.array([-0.8, 0.2, 2.6]), np.array([0.95, 0.88, 0.76]), 2.2)
    build.lamp(np.array([1.8, -1.5, 2.2]), np.array([0.3, 0.34, 0.4]), 2.5)
    build.ambient = np.array([[0.36, 0.36, 0.38], [0.26, 0.24, 0.22]])
    return build.build("demo", np.zeros((2, 3)), np.zeros((2, 3)))


def demo_photos(samples_per_pixel: int = 16) -> tuple[Photo, Photo, Photo]:
    """Left, middle and right picture of the room."""
    scene = demo_scene()
    intrinsics = np.array([[FOCAL_PX / WIDTH, 0, 0.5], [0, FOCAL_PX / HEIGHT, 0.5], [0, 0, 1.0]])
    photos = []
    for file, share in (("left.jpg", -0.5), ("middle.jpg", 0.0), ("right.jpg", 0.5)):
        eye = np.array([0.1 + 0.58 * share, -2.1 + 0.06 * share, 1.5])
        look = np.array([0.05 + 0.2 * share, 2.0, 0.95 + 0.05 * share])
        camera = Camera(look_at(eye, look, 0.02 * share), intrinsics)
        view = render(scene, camera, HEIGHT, WIDTH, samples_per_pixel)
        photos.append(Photo(file, camera, view))
    return photos[0], photos[1], photos[2]


def cameras_json(photos: tuple[Photo, Photo, Photo]) -> dict[str, object]:
    """The cameras in the posed-folder format, with the range of depths."""
    left, middle, right = photos
    seen = np.concatenate([left.view.depth.ravel(), right.view.depth.ravel()])
    near, far = (float(q) for q in np.quantile(seen, [0.02, 0.98]) * [0.75, 1.5])
    median = float(np.median(left.view.depth))
    step = right.camera.camera_to_world[:3, 3] - left.camera.camera_to_world[:3, 3]
    images = [
        {
            "file": photo.file,
            "width": WIDTH,
            "height": HEIGHT,
            "fx": FOCAL_PX,
            "fy": FOCAL_PX,
            "cx": WIDTH / 2,
            "cy": HEIGHT / 2,
            "c2w": photo.camera.camera_to_world.round(9).tolist(),
        }
        for photo in photos
    ]
    pair = {
        "left": left.file,
        "right": right.file,
        "targets": [middle.file],
        "baseline": float(np.linalg.norm(step)),
        "baseline_over_median_depth": float(np.linalg.norm(step)) / median,
        "near": near,
        "far": far,
    }
    return {"scene": "demo", "near": near, "far": far, "images": images, "pairs": [pair]}


def main(output: Path, samples_per_pixel: int = 16, quality: int = 88) -> None:
    """Writes the example pair, the picture between and their cameras.

    Args:
        output: Folder to write to; made if it isn't there.
        samples_per_pixel: Rays a pixel.
        quality: Of the JPEGs, in percent.
    """
    output.mkdir(parents=True, exist_ok=True)
    photos = demo_photos(samples_per_pixel)
    level = float(np.quantile(photos[0].view.radiance, 0.5))
    exposure = Exposure(np.full(3, 0.2 / level))
    for photo in photos:
        stored = (develop(photo.view.radiance, exposure)[..., ::-1] * 255 + 0.5).astype(np.uint8)
        path = str(output / photo.file)
        if not cv2.imwrite(path, stored, [cv2.IMWRITE_JPEG_QUALITY, quality]):
            raise OSError(f"Could not write {path}")
    (output / "cameras.json").write_text(json.dumps(cameras_json(photos), indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
