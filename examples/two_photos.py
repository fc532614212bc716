"""From two photos to a scene file, its cameras and a picture from between them.

python examples/two_photos.py a.jpg b.jpg --output scene
"""

from dataclasses import replace
from pathlib import Path

import tyro
from PIL import Image

from hisplat_app import reconstruct


def main(
    left: tyro.conf.Positional[Path],
    right: tyro.conf.Positional[Path],
    output: Path = Path("scene"),
    fov: float | None = None,
    size: int = 448,
) -> None:
    """Writes scene.ply, cameras.json and between.png.

    Args:
        left: First photo.
        right: Second photo.
        output: Folder to write to; made if it isn't there.
        fov: Horizontal field of view in degrees; by default from EXIF.
        size: Long side that the photos are brought to, pixels.
    """
    scene = reconstruct(left, right, fov_degrees=fov, size=size)
    for warning in scene.report.warnings:
        print("warning:", warning)
    output.mkdir(parents=True, exist_ok=True)
    scene.write_ply(output / "scene.ply")
    scene.write_cameras(output / "cameras.json")

    # Halfway to the right photo, looking as the left one does.
    pose = scene.cameras.camera_to_world[:1].clone()
    pose[0, :3, 3] = scene.cameras.positions.mean(0)
    between = replace(scene.cameras[:1], camera_to_world=pose)
    height, width = scene.photos.shape[-2:]
    picture = scene.render(between, (height, width))[0]
    pixels = (picture.permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(pixels).save(output / "between.png")


if __name__ == "__main__":
    tyro.cli(main)
