"""A scene writer of one's own: a function from Gaussians to the content of a file.

This one writes coloured points as text (.xyz), which any point-cloud program reads.

python examples/own_writer.py scene.ply points.xyz
"""

from pathlib import Path

import torch
import tyro

from hisplat_data_tools.ply import read_ply
from hisplat_models.gaussians import Gaussians


def to_xyz_bytes(gaussians: Gaussians) -> bytes:
    """A line for each Gaussian: centre in world units, colour from 0 to 255."""
    colors = (gaussians.base_colors.clamp(0, 1) * 255).round()
    rows = torch.cat([gaussians.means, colors], dim=-1).tolist()
    lines = [f"{x:.6g} {y:.6g} {z:.6g} {r:.0f} {g:.0f} {b:.0f}\n" for x, y, z, r, g, b in rows]
    return "".join(lines).encode()


def main(scene: tyro.conf.Positional[Path], output: tyro.conf.Positional[Path]) -> None:
    """Converts a Gaussian .ply.

    Args:
        scene: The .ply to read.
        output: The .xyz to write.
    """
    output.write_bytes(to_xyz_bytes(read_ply(scene)))


if __name__ == "__main__":
    tyro.cli(main)
