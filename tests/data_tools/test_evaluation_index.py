import json
from pathlib import Path

import pytest
import torch

from hisplat_data_tools.datasets import ViewChoice, read_index
from hisplat_data_tools.datasets.evaluation_index import (
    overlap_of,
    views_by_gap,
    views_by_overlap,
    with_third_view,
    write_index,
)
from hisplat_models.cameras import Cameras
from tests.chunk_files import path_cameras


def side_by_side(positions: list[float]) -> Cameras:
    """Cameras looking straight ahead with a field of view of 90 degrees."""
    count = len(positions)
    pose = torch.eye(4).repeat(count, 1, 1)
    pose[:, 0, 3] = torch.tensor(positions)
    k = torch.tensor([[0.5, 0, 0.5], [0, 0.5, 0.5], [0, 0, 1]]).repeat(count, 1, 1)
    return Cameras(pose, k, torch.full((count,), 1.0), torch.full((count,), 100.0))


def test_index_written_is_the_index_read(tmp_path: Path) -> None:
    entries = {"a": ViewChoice((3, 9), (4, 5)), "b": None, "c": ViewChoice((0, 2, 5), (1,))}
    write_index(tmp_path / "index.json", entries)
    assert read_index(tmp_path / "index.json") == entries


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"a": [1, 2]},
        {"a": {"context": [0, 2]}},
        {"a": {"context": [0], "target": [1]}},
        {"a": {"context": [0, 2.5], "target": [1]}},
        {"a": {"context": [0, -2], "target": [1]}},
        {"a": {"context": "02", "target": [1]}},
    ],
)
def test_other_documents_are_refused(tmp_path: Path, document: object) -> None:
    path = tmp_path / "index.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"Expected .*index\.json"):
        read_index(path)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"Cannot read .*index\.json"):
        read_index(path)
    with pytest.raises(FileNotFoundError, match="no evaluation index"):
        read_index(tmp_path / "none.json")


@pytest.mark.parametrize(("frames", "gap", "targets"), [(46, 45, 3), (100, 20, 4), (7, 4, 3)])
def test_views_by_gap_lie_in_the_middle_with_targets_between(
    frames: int, gap: int, targets: int
) -> None:
    views = views_by_gap(frames, gap, targets)
    assert views is not None
    left, right = views.context
    assert right - left == gap
    assert abs(left - (frames - 1 - right)) <= 1
    assert len({left, right, *views.target}) == targets + 2
    assert all(left < t < right for t in views.target)


def test_views_by_gap_need_frames_and_room() -> None:
    assert views_by_gap(45, 45, 3) is None
    with pytest.raises(ValueError, match="no room"):
        views_by_gap(45, 3, 3)


@pytest.mark.parametrize(("baseline", "overlap"), [(0.0, 1.0), (2.0, 0.5), (1.0, 0.75), (5.0, 0.0)])
def test_overlap_is_the_share_seen_at_the_assumed_depth(baseline: float, overlap: float) -> None:
    """A plane at depth 2 fills 4 units of a view of 90 degrees."""
    pair = side_by_side([0.0, baseline])
    assert overlap_of(pair, depth=2.0) == pytest.approx(overlap, abs=1 / 16)


def test_views_by_overlap_are_the_widest_that_overlap_enough() -> None:
    cameras = side_by_side([0.2 * i for i in range(30)])
    views = views_by_overlap(cameras, 0.6, 3, depth=2.0)
    assert views is not None
    assert overlap_of(cameras[list(views.context)], 2.0) >= 0.6
    wider = views_by_gap(30, views.context[1] - views.context[0] + 1, 3)
    assert wider is not None
    assert overlap_of(cameras[list(wider.context)], 2.0) < 0.6
    assert views_by_overlap(side_by_side([0.0, 2.0, 4.0, 6.0]), 0.6, 1, depth=2.0) is None


def test_third_view_is_the_free_frame_nearest_the_middle() -> None:
    cameras = path_cameras(9)
    assert with_third_view(ViewChoice((6, 0), (3, 5)), cameras) == ViewChoice((6, 2, 0), (3, 5))
    with_free_middle = with_third_view(ViewChoice((0, 6), (2, 5)), cameras)
    assert with_free_middle == ViewChoice((0, 3, 6), (2, 5))


def test_third_view_is_taken_from_the_targets_where_no_other_lies_between() -> None:
    cameras = path_cameras(9)
    assert with_third_view(ViewChoice((2, 6), (3, 4, 5)), cameras) == ViewChoice((2, 4, 6), (3, 5))
    assert with_third_view(ViewChoice((2, 4), (3,)), cameras) is None
