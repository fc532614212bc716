"""Peak memory of one forward, in a process of its own: ``python -m hisplat_app.bench.memory``."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import torch

from ..evaluation.peak_memory import forget_peak, peak_memory_mib
from .plain import plain_network
from .subject import Case, create_network, photos, prepared_network


def peak_of(case: Case, plain: bool) -> dict[str, float] | None:
    """MiB of the weights and of the peak; None where the system does not tell.

    On a CPU the peak is the resident memory of a fresh process while it predicts for the second
    time, less what it held after loading the program: weights count, libraries don't. On a GPU
    it is that of all tensors there.
    """
    arguments = [json.dumps(asdict(case)), "plain" if plain else "fast"]
    # Spinning threads would slow each other; as for the timings.
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    run = subprocess.run(
        [sys.executable, "-m", __name__, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=environment,
    )
    return json.loads(run.stdout)


def main(case: Case, plain: bool) -> None:
    """Measures this process and prints the result."""
    device = torch.device(case.device)
    torch.set_num_threads(case.threads)
    baseline = 0.0 if device.type == "cuda" else _resident_mib()
    network = create_network(case) if plain else prepared_network(case)
    images, cameras = photos(case)
    with torch.no_grad(), plain_network() if plain else nullcontext():
        network(images, cameras)
        forget_peak(device)
        network(images, cameras)
    peak = peak_memory_mib(device)
    weights = sum(x.nbytes for x in (*network.parameters(), *network.buffers())) / 2**20
    if peak is None or baseline is None:
        print("null")
    else:
        print(json.dumps({"weights_mib": weights, "peak_mib": peak - baseline}))


def _resident_mib() -> float | None:
    """What the process holds now."""
    pages = Path("/proc/self/statm")
    if not pages.is_file():
        return None
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main(Case(**json.loads(sys.argv[1])), plain=sys.argv[2] == "plain")
