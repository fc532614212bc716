"""Markdown tables of what ``hisplat evaluate --cameras both`` wrote.

Usage: python benchmarks/quality_tables.py docs/benchmarks/evaluation.json
"""

import json
import sys
from pathlib import Path
from typing import Any

SCORES = ("psnr", "gain_corrected_psnr", "ssim", "coverage", "mean_alpha")
DIGITS = {"psnr": 2, "gain_corrected_psnr": 2, "ssim": 3, "coverage": 3, "mean_alpha": 3}
FURTHER_VIEWS = {
    "left_aligned": "laid over the stated ones by the left camera",
    "closer": "larger targets of the same scenes",
}


def main(path: Path) -> None:
    """Prints the tables of one result file."""
    results = json.loads(path.read_text(encoding="utf-8"))
    for source, part in results["cameras"].items():
        refused = part["refused_pairs"]
        print(f"\n### {source.capitalize()} cameras: {part['pairs']} pairs, {refused} refused\n")
        print(means_table(part["methods"]))
        print(f"\nGain-corrected PSNR / SSIM per scene, {source} cameras:\n")
        print(scenes_table(part["methods"]))
        for name, words in FURTHER_VIEWS.items():
            methods = {m: r[name] for m, r in part["methods"].items() if r.get(name)}
            if methods:
                print(f"\n{source.capitalize()} cameras, {words}:\n")
                print(means_table(methods))
        if part["gap_to_given"]:
            print("\nGain-corrected PSNR lost from given to estimated cameras:\n")
            print(gap_table(part["gap_to_given"]))
    print("\n### Disparity: end-point error px / bad-1 % / bad-2 %\n")
    print(disparity_table(results["stereo"]))


def row(*cells: str) -> str:
    """One line of a markdown table."""
    return f"| {' | '.join(cells)} |"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A markdown table."""
    return "\n".join([row(*header), row(*["---"] * len(header)), *(row(*r) for r in rows)])


def means_table(methods: dict[str, Any]) -> str:
    """Mean over scenes of each method, with the interval of the gain-corrected PSNR."""
    rows = []
    for name, result in methods.items():
        mean = result["mean"]
        cells = [f"{mean[s]['mean']:.{DIGITS[s]}f}" for s in SCORES]
        interval = mean["gain_corrected_psnr"]
        cells[1] += f" [{interval['low']:.1f}, {interval['high']:.1f}]"
        rows.append([name, *cells])
    return table(["method", "PSNR", "gain-corrected [95 %]", "SSIM", "coverage", "alpha"], rows)


def scenes_table(methods: dict[str, Any]) -> str:
    """One row per scene, one column per method."""
    scenes = sorted({scene for result in methods.values() for scene in result["scenes"]})
    rows = []
    for scene in scenes:
        cells = [result["scenes"].get(scene) for result in methods.values()]
        shown = [
            f"{c['gain_corrected_psnr']:.2f} / {c['ssim']:.3f}" if c else "failed" for c in cells
        ]
        rows.append([scene, *shown])
    return table(["scene", *methods], rows)


def gap_table(gaps: dict[str, Any]) -> str:
    """One row per scene and the mean, one column per method."""
    scenes = sorted({scene for gap in gaps.values() for scene in gap["scenes"]})
    rows = [
        [
            scene,
            *(f"{g['scenes'][scene]:.2f}" if scene in g["scenes"] else "" for g in gaps.values()),
        ]
        for scene in scenes
    ]
    rows.append(["mean", *(f"{gap['mean']:.2f}" for gap in gaps.values())])
    return table(["scene", *gaps], rows)


def disparity_table(stereo: dict[str, Any]) -> str:
    """One row per stereo pair, and the mean."""
    methods = list(stereo["mean"])
    parts = [(p["name"], p["errors"]) for p in stereo["pairs"]] + [("mean", stereo["mean"])]
    rows = []
    for name, errors in parts:
        cells = [errors[m] for m in methods]
        shown = [
            f"{c['end_point']:.2f} / {100 * c['bad_1']:.1f} / {100 * c['bad_2']:.1f}" for c in cells
        ]
        rows.append([name, *shown])
    return table(["pair", *methods], rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
