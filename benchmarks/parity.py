"""Differences of the preset "hisplat" from the reference tensors of the published network.

Both have weights made up by the same rule. The tests hold every tensor to its gate; this writes
down how far off each is. Usage, in the repository's root:
HISPLAT_PARITY_DIR=DIR python -m benchmarks.parity --output docs/benchmarks/parity.json
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import tyro

from hisplat_app.machine import machine
from tests.models.parity import Case, Comparison, parity_cases, published_network
from tests.models.published_tensors import published_tensors

SHOWN = (
    "vit_tokens_2", "dino_fused", "cnn_feature_0", "trans_feature", "cost_volume", "depth_logits",
    "stage0_depths", "stage1_depths", "stage2_depths", "stage2_raw_gaussians", "stage2_mod_weight",
    "final_means", "final_covariances", "final_harmonics", "stage2_final_opacities",
    "stage0_render", "stage1_render", "stage2_render",
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """Compares every reference case."""

    output: Path | None = None
    """JSON file for all tensors; none is written by default."""
    all_tensors: bool = False
    """Print every tensor instead of the main ones."""


def main(options: Options) -> None:
    """Prints a Markdown table and writes the file.

    Raises:
        SystemExit: without reference cases, or if a tensor is beyond its gate.
    """
    if not parity_cases():
        raise SystemExit("No reference cases: set HISPLAT_PARITY_DIR to their folder.")
    network = published_network()
    results: dict[str, list[Comparison]] = {}
    for name in parity_cases():
        case = Case(name)
        ours = published_tensors(network, case["in_image"], case.cameras())
        results[name] = [case.compared(tensor, ours[tensor]) for tensor in case.tensors]
    for name, comparisons in results.items():
        passed = sum(c.passed for c in comparisons)
        print(f"\nCase {name}: {passed} of {len(comparisons)} tensors within their gates\n")
        print("| tensor | max | mean | gate max | gate mean |\n|---|---|---|---|---|")
        for c in comparisons:
            if options.all_tensors or c.name in SHOWN:
                print(_row(c))
    if options.output is not None:
        cases = {name: {c.name: _entry(c) for c in all_} for name, all_ in results.items()}
        document = {"machine": machine(), "cases": cases}
        options.output.write_text(json.dumps(document, indent=1) + "\n")
    if not all(c.passed for comparisons in results.values() for c in comparisons):
        raise SystemExit("Some tensors are beyond their gates.")


def _row(c: Comparison) -> str:
    largest = "-" if math.isinf(c.gate.largest) else f"{c.gate.largest:.0e}"
    return f"| {c.name} | {c.largest:.1e} | {c.mean:.1e} | {largest} | {c.gate.mean:.0e} |"


def _entry(c: Comparison) -> dict[str, float | None]:
    return {
        "max": _rounded(c.largest),
        "mean": _rounded(c.mean),
        "gate_max": None if math.isinf(c.gate.largest) else _rounded(c.gate.largest),
        "gate_mean": _rounded(c.gate.mean),
    }


def _rounded(value: float) -> float:
    return float(f"{value:.2e}")


if __name__ == "__main__":
    main(tyro.cli(Options))
