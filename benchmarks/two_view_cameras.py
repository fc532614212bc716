"""Estimated cameras of two photos against the stated ones, for every pair of every posed scene.

Usage: python benchmarks/two_view_cameras.py --data DIR --output FILE.json
"""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import tyro

from hisplat_app.evaluation.estimated_cameras import KnownLens, lens_to_tell
from hisplat_app.machine import machine
from hisplat_app.photo_cameras import find_photo_cameras
from hisplat_data_tools.cameras_json import CameraFile, ImageCamera, read_cameras
from hisplat_data_tools.images import load_photo
from hisplat_data_tools.two_view import TwoViewError

KNOWN_LENSES: tuple[KnownLens, ...] = "intrinsics", "focal", "nothing"


@dataclass(frozen=True)
class Result:
    """One pair: errors in degrees, CPU seconds; None where the pair was refused.

    ``known`` is what the estimator was told of the stated lens.
    """

    scene: str
    left: str
    right: str
    known: KnownLens
    cpu_seconds: float
    messages: tuple[str, ...]
    rotation_deg: float | None = None
    direction_deg: float | None = None
    focal_error_percent: float | None = None
    matches: int | None = None
    inliers: int | None = None
    angle_deg: float | None = None


def main(data: Path, output: Path) -> None:
    """Measures all pairs, writes them as JSON and prints a markdown table.

    Args:
        data: Folder of posed scenes, each with photos and a cameras.json.
        output: JSON file to write.
    """
    results = []
    for path in sorted(data.glob("*/cameras.json")):
        file = read_cameras(path)
        pairs = [(p.left, p.right) for p in file.pairs] or [(i.file for i in file.images[:2])]
        for left, right in pairs:
            results += [measured(file, left, right, known) for known in KNOWN_LENSES]
    output.parent.mkdir(parents=True, exist_ok=True)
    document = {"machine": machine(), "results": [asdict(r) for r in results]}
    output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(table(results))


def measured(file: CameraFile, left: str, right: str, known: KnownLens) -> Result:
    """One pair with so much known about its lens."""
    views = file.find(left), file.find(right)
    photos = [load_photo(file.photo_path(v)) for v in views]
    lens = lens_to_tell(photos, views, known)
    start = time.process_time()
    try:
        estimate = find_photo_cameras(photos, **lens)
    except TwoViewError as error:
        seconds = round(time.process_time() - start, 3)
        return Result(file.path.parent.name, left, right, known, seconds, (str(error),))
    seconds = time.process_time() - start
    right_to_left = estimate.cameras.camera_to_world[1].double().numpy()
    rotation_deg, direction_deg = errors_deg(right_to_left, *views)
    found_focal = estimate.image_cameras[0].fx
    return Result(
        scene=file.path.parent.name,
        left=left,
        right=right,
        known=known,
        rotation_deg=round(rotation_deg, 3),
        direction_deg=round(direction_deg, 3),
        focal_error_percent=round(100 * (found_focal / views[0].fx - 1), 2),
        matches=int(estimate.quality["matches"]),
        inliers=int(estimate.quality["inliers"]),
        angle_deg=round(estimate.quality["median_angle_deg"], 2),
        cpu_seconds=round(seconds, 3),
        messages=estimate.warnings,
    )


def errors_deg(
    right_to_left: np.ndarray, left: ImageCamera, right: ImageCamera
) -> tuple[float, float]:
    """Angles between estimated and stated relative rotations and directions of the baseline."""
    relative = np.linalg.inv(left.camera_to_world) @ right.camera_to_world
    turn = right_to_left[:3, :3].T @ relative[:3, :3] - np.eye(3)
    a, b = right_to_left[:3, 3], relative[:3, 3]
    shift = a / np.linalg.norm(a) - b / np.linalg.norm(b)
    return _angle_deg(np.linalg.norm(turn) / math.sqrt(2)), _angle_deg(np.linalg.norm(shift))


def _angle_deg(chord: np.floating) -> float:
    return math.degrees(2 * math.asin(min(1.0, float(chord) / 2)))


def table(results: Sequence[Result]) -> str:
    """Medians and maxima per scene and over all pairs, as markdown."""
    lines = [
        "| scene | pairs | rotation, intrinsics | direction, intrinsics | rotation, focal "
        "| direction, focal | rotation, nothing | direction, nothing | focal found, error % "
        "| CPU s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    scenes = sorted({r.scene for r in results})
    for name, chosen in [*((s, {s}) for s in scenes), ("all", set(scenes))]:
        rows = [r for r in results if r.scene in chosen]
        cells = [name, str(len(rows) // len(KNOWN_LENSES))]
        for known in KNOWN_LENSES:
            for field in ("rotation_deg", "direction_deg"):
                values = [getattr(r, field) for r in rows if r.known == known]
                solved = [v for v in values if v is not None]
                refused = len(values) - len(solved)
                cell = f"{median(solved):.2f} / {max(solved):.2f}" if solved else "–"
                cells.append(cell + (f" ({refused} refused)" if refused else ""))
        focals = [r.focal_error_percent for r in rows if r.known == "nothing"]
        cells.append(f"{median(abs(f) for f in focals if f is not None):.1f}")
        cells.append(f"{median(r.cpu_seconds for r in rows):.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    tyro.cli(main)
