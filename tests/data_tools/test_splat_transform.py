"""Our files as another program reads them, and its files as we do.

`splat-transform` of PlayCanvas, the reader inside SuperSplat, is looked for in $SPLAT_TRANSFORM and
on the PATH; else it is installed once into a cache folder if npm is there.
"""

import csv
import os
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hisplat_data_tools.scene_files import read_scene, write_scene
from hisplat_models.gaussians import SH_C0, Gaussians

from .random_scenes import ALLOWED, Change, assert_alike, scene

PACKAGE = "@playcanvas/splat-transform@2.7.1"
EXACT = Change(1e-5, 1e-4, 0.1, 1e-5, 1e-5 * SH_C0, 1e-5, True)


@pytest.fixture(scope="session")
def splat_transform() -> str:
    """The program."""
    found = os.environ.get("SPLAT_TRANSFORM") or shutil.which("splat-transform")
    if found:
        return found
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("needs splat-transform (set SPLAT_TRANSFORM), or node and npm to install it")
    cache = Path(os.environ.get("XDG_CACHE_HOME", tempfile.gettempdir())) / "hisplat-test-npm"
    program = cache / "node_modules" / ".bin" / "splat-transform"
    if not program.exists():
        cache.mkdir(parents=True, exist_ok=True)
        options = ["--no-audit", "--no-fund", "--prefix", str(cache)]
        try:
            subprocess.run(
                [npm, "install", *options, PACKAGE], check=True, capture_output=True, timeout=120
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            pytest.skip(f"cannot install {PACKAGE}: {error}")
    return str(program)


def convert(program: str, source: Path, target: Path, *options: str) -> None:
    command = [program, "-q", "-w", *options, str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def from_csv(path: Path) -> Gaussians:
    """The values as the other program has understood them."""
    with path.open() as stream:
        rows = list(csv.DictReader(stream))
    rest = len([name for name in rows[0] if name.startswith("f_rest_")])

    def columns(*names: str) -> torch.Tensor:
        return torch.tensor([[float(row[n]) for n in names] for row in rows], dtype=torch.float64)

    colors = columns("f_dc_0", "f_dc_1", "f_dc_2")[:, None]
    if rest:
        bands = columns(*(f"f_rest_{i}" for i in range(rest))).unflatten(1, (3, rest // 3)).mT
        colors = torch.cat([colors, bands], dim=1)
    rotations = columns("rot_0", "rot_1", "rot_2", "rot_3")
    return Gaussians(
        means=columns("x", "y", "z").float(),
        scales=columns("scale_0", "scale_1", "scale_2").exp().float(),
        quaternions_wxyz=torch.nn.functional.normalize(rotations, dim=1).float(),
        opacities=columns("opacity").sigmoid()[:, 0].float(),
        harmonics=colors.float(),
        level=torch.zeros(len(rows), dtype=torch.long),
    )


def loosened(allowed: Change) -> Change:
    """Room for the rounding of the other program, and no levels, which it does not know."""
    # Bytes of rotations in a .splat are (b - 128) / 128 to its inventor, b / 127.5 - 1 to this one.
    degrees = None if allowed.degrees is None else allowed.degrees + 1
    return replace(allowed, degrees=degrees, mean=allowed.mean + 1e-5, keeps_levels=False)


@pytest.mark.parametrize("degree", [0, 3])
@pytest.mark.parametrize("ending", ALLOWED)
def test_it_reads_the_values_we_wrote(
    splat_transform: str, tmp_path: Path, ending: str, degree: int
) -> None:
    original = scene(count=300, degree=degree)
    write_scene(tmp_path / f"ours{ending}", original)
    convert(splat_transform, tmp_path / f"ours{ending}", tmp_path / "ours.csv")
    assert_alike(from_csv(tmp_path / "ours.csv"), original, loosened(ALLOWED[ending]))


@pytest.mark.parametrize(
    ("ending", "options"),
    [
        (".ply", ()),
        (".compressed.ply", ()),
        (".spz", ("--spz-version", "3")),
        (".spz", ("--spz-version", "4")),
    ],
)
@pytest.mark.parametrize("degree", [0, 3])
def test_we_read_the_values_it_wrote(
    splat_transform: str, tmp_path: Path, ending: str, options: tuple[str, ...], degree: int
) -> None:
    if "4" in options:
        pytest.importorskip("zstandard")
    original = scene(count=300, degree=degree)
    write_scene(tmp_path / "ours.ply", original)
    convert(splat_transform, tmp_path / "ours.ply", tmp_path / f"theirs{ending}", *options)
    allowed = loosened(ALLOWED[ending])
    if ending == ".spz":
        # It keeps 12 binary places of positions, 5 and 4 bits of harmonics.
        allowed = replace(allowed, mean=2**-12, harmonics=1 / 16 + 1 / 128)
    assert_alike(read_scene(tmp_path / f"theirs{ending}"), original, allowed)
    # And the values that it reads itself.
    convert(splat_transform, tmp_path / f"theirs{ending}", tmp_path / "theirs.csv")
    theirs = from_csv(tmp_path / "theirs.csv")
    assert_alike(
        read_scene(tmp_path / f"theirs{ending}"), theirs, replace(EXACT, keeps_levels=False)
    )
