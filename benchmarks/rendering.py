"""Times the CPU renderer, forward and with gradients, and writes what was measured as JSON.

Random Gaussians of about one pixel fill the image at a mean opacity of one half. "Placed" is the
same picture, and its gradients to opacities, sizes and colours, of Gaussians whose places before
the camera are settled, as refinement draws them. Minima over repeated runs: other work on the
machine only ever adds time.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table

from hisplat_app.machine import machine
from hisplat_models.cameras import Cameras
from hisplat_models.gaussians import Gaussians
from hisplat_models.rendering import Appearance, CpuRenderer, place

# (Gaussians, (height, width), spherical-harmonic degree)
CASES = [
    (131_072, (256, 256), 0),
    (172_032, (256, 256), 0),
    (172_032, (256, 256), 3),
    (270_000, (304, 448), 0),
]
PARAMETERS = ["means", "scales", "quaternions_wxyz", "opacities", "harmonics"]


@dataclass(frozen=True)
class Options:
    """Times the CPU renderer."""

    output: Path | None = None
    """JSON file for the results; none is written by default."""
    repeats: int = 10
    """Runs per case, of which the fastest counts."""
    threads: int = 0
    """Threads to render with; 0 leaves torch's default."""


@dataclass(frozen=True)
class Timing:
    """The fastest runs of one case."""

    gaussians: int
    height: int
    width: int
    sh_degree: int
    forward_ms: float
    forward_and_backward_ms: float
    placed_forward_and_backward_ms: float


def main(options: Options) -> None:
    """Measures all cases, prints a table and writes the JSON."""
    if options.threads:
        torch.set_num_threads(options.threads)
    timings = [measure(*case, repeats=options.repeats) for case in CASES]
    print_table(timings)
    if options.output is not None:
        results = {"machine": machine(), "timings": [asdict(t) for t in timings]}
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(results, indent=2) + "\n")


def measure(count: int, size: tuple[int, int], sh_degree: int, repeats: int) -> Timing:
    """Times one random scene seen by one camera."""
    gaussians, cameras = scene(count, size, sh_degree)
    leaves = {name: getattr(gaussians, name).requires_grad_() for name in PARAMETERS}
    gaussians = replace(gaussians, **leaves)
    renderer = CpuRenderer()
    weights = torch.randn(1, 1, 3, *size)

    def forward() -> None:
        with torch.no_grad():
            renderer(gaussians, cameras, size)

    def forward_and_backward() -> None:
        torch.autograd.grad(
            renderer(gaussians, cameras, size).color, list(leaves.values()), weights
        )

    draw = place(renderer, gaussians.detach(), cameras, size)
    looks = [
        x.detach().clone().requires_grad_()
        for x in (gaussians.opacities, torch.ones(1, count), gaussians.base_colors)
    ]

    def placed_forward_and_backward() -> None:
        torch.autograd.grad(draw(Appearance(*looks)), looks, weights)

    return Timing(
        count,
        *size,
        sh_degree,
        fastest_ms(forward, repeats),
        fastest_ms(forward_and_backward, repeats),
        fastest_ms(placed_forward_and_backward, repeats),
    )


def fastest_ms(work: Callable[[], None], repeats: int) -> float:
    """Milliseconds of the fastest of several runs, after one that compiles."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return round(1000 * min(times), 2)


def scene(count: int, size: tuple[int, int], sh_degree: int) -> tuple[Gaussians, Cameras]:
    """Gaussians of about one pixel all over the image of one camera."""
    generator = torch.Generator().manual_seed(0)
    z = 1 + 4 * torch.rand(1, count, 1, generator=generator)
    sides = torch.tensor([1.0, size[0] / size[1]])
    means = torch.cat([(torch.rand(1, count, 2, generator=generator) - 0.5) * sides * z, z], -1)
    sigma_px = 0.6 + 0.8 * torch.rand(1, count, 3, generator=generator)
    gaussians = Gaussians(
        means=means,
        scales=sigma_px * z / size[1],
        quaternions_wxyz=torch.nn.functional.normalize(
            torch.randn(1, count, 4, generator=generator), dim=-1
        ),
        opacities=torch.rand(1, count, generator=generator),
        harmonics=0.5 * torch.randn(1, count, (sh_degree + 1) ** 2, 3, generator=generator),
        level=torch.zeros(1, count, dtype=torch.long),
    )
    intrinsics = torch.tensor([[1.0, 0, 0.5], [0, size[1] / size[0], 0.5], [0, 0, 1]])
    ones = torch.ones(1, 1)
    return gaussians, Cameras(torch.eye(4)[None, None], intrinsics[None, None], ones, 5 * ones)


def print_table(timings: list[Timing]) -> None:
    """One row per case."""
    table = Table("Gaussians", "image", "SH degree", "forward", "forward + backward", "placed")
    for t in timings:
        table.add_row(
            f"{t.gaussians:,}",
            f"{t.width}x{t.height}",
            str(t.sh_degree),
            f"{t.forward_ms:.1f} ms",
            f"{t.forward_and_backward_ms:.1f} ms",
            f"{t.placed_forward_and_backward_ms:.1f} ms",
        )
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Options))
