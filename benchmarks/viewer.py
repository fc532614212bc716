"""Server-side times of the page with a large made-up scene: first splats, levels, filters, colours.

The page's code runs against a viser server that no browser is connected to: until the messages are
queued. Sending them (32 bytes a splat) and drawing depends on the network and the browser.

Usage: OMP_WAIT_POLICY=PASSIVE python benchmarks/viewer.py --output docs/benchmarks/viewer.json
"""

import contextlib
import io
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
import viser
from rich.console import Console
from rich.table import Table

from hisplat_app.machine import machine
from hisplat_models.cameras import Cameras
from hisplat_models.gaussian_filters import Filters
from hisplat_models.gaussians import Gaussians
from hisplat_models.rendering import create_renderer
from hisplat_viewer import Scene
from hisplat_viewer.crop_gizmo import crop_box
from hisplat_viewer.scene import MEDIAN_DEPTH, DisplayFrame
from hisplat_viewer.scene_view import Look, SceneView

SHARES = (0.05, 0.15, 0.8)
"""Of the levels in the scene."""


@dataclass(frozen=True)
class Options:
    """Times what the page does with a large scene."""

    gaussians: int = 400_000
    """How many."""
    repeats: int = 5
    """Repeats of each; colours of the first one are made, those of others remembered."""
    output: Path | None = None
    """JSON file for the results; none is written by default."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds of the first, the fastest and the slowest repeat."""

    what: str
    first_ms: float
    fastest_ms: float
    slowest_ms: float


def main(options: Options) -> None:
    """Measures, prints a table, and writes what was measured."""
    scene = made_up_scene(options.gaussians)
    timings = measure(scene, options.repeats)
    table = Table("", "first, ms", "fastest, ms", "slowest, ms")
    for t in timings:
        table.add_row(t.what, *(f"{ms:.1f}" for ms in (t.first_ms, t.fastest_ms, t.slowest_ms)))
    Console().print(table)
    if options.output is not None:
        document = {
            "machine": machine(),
            "gaussians": options.gaussians,
            "repeats": options.repeats,
            "timings": [asdict(t) for t in timings],
        }
        options.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def made_up_scene(count: int) -> Scene:
    """A wavy wall before two cameras in three levels, with photos that are renders of it."""
    generator = torch.Generator().manual_seed(0)
    xy = torch.rand(count, 2, generator=generator) * 4 - 2
    z = 5 + 0.5 * torch.sin(2 * xy[:, :1]) * torch.cos(3 * xy[:, 1:])
    ends = (torch.tensor(SHARES).cumsum(0) * count).long()
    level = torch.bucketize(torch.arange(count), ends, right=True).clamp_max(2)
    spacing = 4 / math.sqrt(count)
    scales = (
        spacing
        * torch.tensor([8.0, 3.0, 1.0])[level][:, None]
        * torch.rand(count, 3, generator=generator).clamp_min(0.2)
    )
    colors = torch.cat([xy, z - 5], dim=1).sin()
    gaussians = Gaussians(
        means=torch.cat([xy, z], dim=1),
        scales=scales,
        quaternions_wxyz=torch.nn.functional.normalize(
            torch.randn(count, 4, generator=generator), dim=-1
        ),
        opacities=torch.rand(count, generator=generator).clamp_min(0.02),
        harmonics=colors[:, None],
        level=level,
    )
    pose = torch.eye(4).repeat(2, 1, 1)
    pose[1, 0, 3] = 0.3
    intrinsics = torch.tensor([[1.0, 0, 0.5], [0, 1.5, 0.5], [0, 0, 1]]).repeat(2, 1, 1)
    cameras = Cameras(pose, intrinsics, torch.full((2,), 2.0), torch.full((2,), 10.0))
    renderer = create_renderer("cpu")
    with torch.no_grad():
        photos = renderer(gaussians[None], cameras[None], (427, 640)).color[0].clamp(0, 1)
    confidence = torch.rand(count, generator=generator)
    return Scene(gaussians, cameras, photos, "made up", confidence=confidence, renderer=renderer)


def measure(scene: Scene, repeats: int) -> list[Timing]:
    """All timings of one scene."""
    # viser announces itself on stdout.
    with contextlib.redirect_stdout(io.StringIO()):
        server = viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
    try:
        stage = _Stage(server, scene)
        return [
            stage.timed("scene put into the page", stage.first_splats, lambda: None, repeats),
            *(
                stage.timed(what, lambda look=look: stage.view.show(look), stage.whole, repeats)
                for what, look in _looks(scene, stage.frame).items()
            ),
            stage.timed(
                "render of a photo and its PSNR",
                lambda: stage.view.psnr(0),
                lambda: stage.view.show(Look(filters=Filters(min_opacity=0.1))),
                repeats,
            ),
        ]
    finally:
        server.stop()


def _looks(scene: Scene, frame: DisplayFrame) -> dict[str, Look]:
    size = scene.gaussians.scales.amax(dim=-1)
    box = crop_box(
        np.array([0.0, 0.0, MEDIAN_DEPTH]), np.array([1.0, 0, 0, 0]), np.full(3, 4.0), frame
    )
    return {
        "fine level hidden": Look(levels=frozenset({0, 1})),
        "only the coarse level": Look(levels=frozenset({0})),
        "opacity filter": Look(filters=Filters(min_opacity=0.3)),
        "size filter": Look(filters=Filters(sizes=(0.0, size.median().item()))),
        "confidence filter": Look(min_confidence=0.5),
        "crop box": Look(filters=Filters(box=box)),
        "scale of all": Look(filters=Filters(scale=0.5)),
        "points": Look(points=True),
        "depth": Look(shade="depth"),
        "confidence": Look(shade="confidence"),
        "error": Look(shade="error"),
    }


class _Stage:
    """One scene in one page without a browser."""

    def __init__(self, server: viser.ViserServer, scene: Scene) -> None:
        self._server = server
        self._scene = scene
        self.frame = DisplayFrame.of(scene)
        self._number = 0
        self.view = self._new_view()

    def first_splats(self) -> None:
        """Replaces the scene as the page does."""
        before, self.view = self.view, self._new_view()
        before.remove()

    def whole(self) -> None:
        """Shows everything again."""
        self.view.show(Look())

    def timed(
        self, what: str, action: Callable[[], object], prepare: Callable[[], None], repeats: int
    ) -> Timing:
        """Times of the action, each after the preparation."""
        seconds = []
        for _ in range(repeats):
            prepare()
            start = time.perf_counter()
            action()
            seconds.append(time.perf_counter() - start)
        return Timing(what, 1000 * seconds[0], 1000 * min(seconds), 1000 * max(seconds))

    def _new_view(self) -> SceneView:
        self._number += 1
        return SceneView(
            self._server,  # pyright: ignore[reportArgumentType] as good as a client here
            f"scene_{self._number}",
            self._scene,
            Look(),
            lambda _: None,
        )


if __name__ == "__main__":
    main(tyro.cli(Options))
