"""Which views of which scenes an evaluation compares: ``{scene: {"context", "target"} or null}``.

The published files have this form (``evaluation_index_re10k.json`` and others); functions here
read it, and make such indices for one's own chunks.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from hisplat_models.cameras import Cameras

from ..atomic_write import write_atomically
from .posed_scene import UnusableScene
from .view_samplers import ViewChoice, with_context_views

_POINTS_PER_SIDE = 16


def read_index(path: Path | str) -> dict[str, ViewChoice | None]:
    """The views of every scene; None where the index says ``null``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not such an index.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no evaluation index {path}.")
    try:
        document = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"Cannot read {path} as JSON: {error}") from error
    if not isinstance(document, dict):
        raise ValueError(f"Expected a JSON object of scenes in {path}.")
    return {key: _entry(key, value, path) for key, value in document.items()}


def write_index(path: Path | str, entries: Mapping[str, ViewChoice | None]) -> None:
    """Writes an index; ``read_index`` gives the same back.

    Raises:
        FileNotFoundError: if the folder does not exist.
    """
    document = {
        key: None if e is None else {"context": list(e.context), "target": list(e.target)}
        for key, e in entries.items()
    }
    write_atomically(path, (json.dumps(document) + "\n").encode())


def views_by_gap(frames: int, gap: int, targets: int) -> ViewChoice | None:
    """Two frames so far apart in the middle of the scene, targets evenly between; None if too few.

    Raises:
        ValueError: if the gap has no room for the targets.
    """
    if targets < 1 or gap <= targets:
        raise ValueError(f"A gap of {gap} frames has no room for {targets} targets between.")
    if frames <= gap:
        return None
    left = (frames - 1 - gap) // 2
    between = [left + gap * (i + 1) // (targets + 1) for i in range(targets)]
    return ViewChoice((left, left + gap), tuple(between))


def views_by_overlap(
    cameras: Cameras, overlap: float, targets: int, depth: float | None = None
) -> ViewChoice | None:
    """The widest gap in the middle of the scene whose frames still overlap so much.

    Args:
        cameras: Of the scene, shape (frame,).
        overlap: Least share of either picture that the other one sees, 0 to 1.
        targets: Views between them.
        depth: Assumed for all points; by default midway between near and far in inverse depth.

    Returns:
        The views, or None if only frames too close for the targets overlap so much.
    """
    frames = len(cameras.near)
    for gap in range(frames - 1, targets, -1):
        views = views_by_gap(frames, gap, targets)
        if views is not None and overlap_of(cameras[list(views.context)], depth) >= overlap:
            return views
    return None


def overlap_of(pair: Cameras, depth: float | None = None) -> float:
    """The share of either of two pictures that the other one sees, the lesser of both.

    Points are assumed at one depth, by default midway between near and far in inverse depth.
    """
    assumed = 2 / (1 / pair.near[0] + 1 / pair.far[0]) if depth is None else torch.tensor(depth)
    rays = pair.rays(_POINTS_PER_SIDE, _POINTS_PER_SIDE)
    points = (pair.positions[:, None, None] + assumed * rays).flatten(1, 2)
    seen = pair.project(points.flip(0))
    inside = ((seen[..., :2] > 0) & (seen[..., :2] < 1)).all(dim=-1) & (seen[..., 2] > 0)
    return float(inside.float().mean(dim=1).min())


def with_third_view(views: ViewChoice, cameras: Cameras) -> ViewChoice | None:
    """The views with a third one to reconstruct from, between the two by where it was taken.

    It is the frame nearest to the middle of both cameras that is no target, if it is no farther
    from there than half their distance. Otherwise one of several targets is given instead of
    compared with; None if there is but one.
    """
    left, right = views.context
    positions = cameras.positions
    distances = (positions - (positions[left] + positions[right]) / 2).norm(dim=-1)
    reach = (positions[left] - positions[right]).norm() / 2
    others = set(range(len(positions))) - {left, right}
    free = [i for i in others - set(views.target) if distances[i] < reach]
    if free:
        third = min(free, key=lambda i: float(distances[i]))
        return ViewChoice((left, third, right), views.target)
    if len(views.target) < 2:
        return None
    third = min(views.target, key=lambda i: float(distances[i]))
    return ViewChoice((left, third, right), tuple(i for i in views.target if i != third))


def with_view_count(views: ViewChoice, count: int, cameras: Cameras, key: str) -> ViewChoice | None:
    """The views with so many to reconstruct from; None if the scene has no more of them.

    Raises:
        ValueError: for fewer than two.
    """
    if count < 2:
        raise ValueError(f"Expected two context views or more, got {count}.")
    if count == 3 and len(views.context) == 2:
        return with_third_view(views, cameras)
    try:
        return ViewChoice(with_context_views(views, count, key), views.target)
    except UnusableScene:
        return None


def _entry(key: str, value: Any, path: Path) -> ViewChoice | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError(f'Expected {{"context": [...], "target": [...]}} for {key} in {path}.')
    return ViewChoice(_frames(key, value, "context", path), _frames(key, value, "target", path))


def _frames(key: str, value: dict[str, Any], kind: str, path: Path) -> tuple[int, ...]:
    frames: Sequence[Any] = value.get(kind, ())
    whole = isinstance(frames, list) and all(type(i) is int and i >= 0 for i in frames)
    if not whole or len(frames) < (2 if kind == "context" else 1):
        raise ValueError(f"Expected frame numbers under {kind} of {key} in {path}, got {frames!r}.")
    return tuple(frames)
