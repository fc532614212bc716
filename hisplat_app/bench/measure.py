"""Time, operations and errors of one case, part by part, beside the plain network."""

import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from hisplat_models.gaussians import Gaussians
from hisplat_models.metrics import psnr
from hisplat_models.network import HiSplat, HiSplatOutput

from .memory import peak_of
from .parts import PartMeter, Path, Reading
from .plain import plain_network
from .subject import Case, create_network, photos, prepared_network

WHOLE: Path = ("whole network",)


@dataclass(frozen=True)
class Seconds:
    """Of one part, with the parts inside it: the least of all runs.

    Attributes:
        wall: By the clock.
        processor: Of all cores together; hardly changes when other programs are running.
    """

    wall: float
    processor: float


@dataclass(frozen=True)
class Result:
    """One case.

    Attributes:
        case: What was run.
        fast: Time of each part.
        plain: The same of the plain network in float32.
        gflops: Operations of each part: two per multiplication of convolutions, matrix products.
        errors: What differs from the plain network's output.
        memory: See ``peak_of``.
        plain_memory: The same of the plain network.
        first_seconds: The first forward; it compiles, or loads what was compiled before.
    """

    case: Case
    fast: dict[Path, Seconds]
    plain: dict[Path, Seconds]
    gflops: dict[Path, float]
    errors: dict[str, float]
    memory: dict[str, float] | None
    plain_memory: dict[str, float] | None
    first_seconds: float

    def to_json(self) -> dict[str, Any]:
        """The result in JSON's types."""
        rows = [
            {
                "part": " / ".join(path),
                "seconds": _rounded(seconds.wall),
                "processor_seconds": _rounded(seconds.processor),
                "share": _rounded(seconds.wall / self.fast[WHOLE].wall),
                "plain_seconds": _rounded(self.plain[path].wall),
                "plain_processor_seconds": _rounded(self.plain[path].processor),
                "gflops": _rounded(self.gflops[path]),
            }
            for path, seconds in self.fast.items()
        ]
        return {
            "case": vars(self.case),
            "parts": rows,
            "first_seconds": _rounded(self.first_seconds),
            "memory": self.memory and {k: round(v) for k, v in self.memory.items()},
            "plain_memory": self.plain_memory
            and {k: round(v) for k, v in self.plain_memory.items()},
            "difference_from_plain": {k: float(f"{v:.2e}") for k, v in self.errors.items()},
        }


def measure(case: Case, repeats: int) -> Result:
    """Runs both networks in turns, so that what else the machine does hits both alike."""
    torch.set_num_threads(case.threads)
    networks = {"fast": prepared_network(case), "plain": create_network(case)}
    images, cameras = photos(case)
    best: dict[str, dict[Path, Seconds]] = {"fast": {}, "plain": {}}
    outputs: dict[str, HiSplatOutput] = {}

    def forward(kind: str, reading: Reading) -> PartMeter:
        meter = PartMeter(reading)
        around = plain_network() if kind == "plain" else nullcontext()
        with torch.no_grad(), around, meter.on(networks[kind]):
            outputs[kind] = networks[kind](images, cameras)
        return meter

    start = time.perf_counter()
    forward("fast", _clocks(case.device))
    first_seconds = time.perf_counter() - start
    with FlopCounterMode(display=False) as counter:
        operations = forward("plain", lambda: (float(counter.get_total_flops()),))
    for _ in range(repeats):
        for kind, least in best.items():
            for path, (wall, processor) in forward(kind, _clocks(case.device)).totals.items():
                seen = least.get(path, Seconds(float("inf"), float("inf")))
                least[path] = Seconds(min(seen.wall, wall), min(seen.processor, processor))
    errors = differences(networks["plain"], outputs["fast"], outputs["plain"], case)
    return Result(
        case,
        best["fast"],
        best["plain"],
        {path: flops / 1e9 for path, (flops,) in operations.totals.items()},
        errors,
        peak_of(case, plain=False),
        peak_of(case, plain=True),
        first_seconds,
    )


@torch.no_grad()
def differences(
    network: HiSplat, output: HiSplatOutput, expected: HiSplatOutput, case: Case
) -> dict[str, float]:
    """How far one output is from another: relative depths, opacities, PSNR between pictures."""
    _, cameras = photos(case)
    depths, expected_depths = (
        torch.cat([stage.surface.inverse_depth.flatten() for stage in x.stages])
        for x in (output, expected)
    )
    relative = (depths / expected_depths - 1).abs()
    opacities = (output.gaussians.opacities - expected.gaussians.opacities).abs()
    renderer = network.create_renderer(case.device)

    def picture(gaussians: Gaussians) -> torch.Tensor:
        return renderer(gaussians, cameras, (case.height, case.width)).color.clamp(0, 1)

    score = psnr(picture(output.gaussians), picture(expected.gaussians))
    return {
        "relative_depth_median": relative.median().item(),
        "relative_depth_max": relative.max().item(),
        "opacity_mean": opacities.mean().item(),
        "opacity_max": opacities.max().item(),
        "render_psnr_db": float(score.mean()),
    }


def _clocks(device: str) -> Reading:
    def read() -> tuple[float, ...]:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()

    return read


def _rounded(x: float) -> float:
    return float(f"{x:.4g}")
