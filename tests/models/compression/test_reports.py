"""Result files take work up where it stopped, and are drawn."""

import json
from pathlib import Path

import pytest

from benchmarks.compression.plot import Bars, Frontier, draw
from benchmarks.compression.report import ResultFile, mean_and_spread, runs_of, table


def written(path: Path) -> Path:
    results = ResultFile(path, "test", {"epochs": 2})
    for seed in range(2):
        for keep in (0.25, 0.5):
            for mode in ("ST", "GKT"):
                results.add({"mode": mode, "seed": seed, "keep": keep, "main": 90.0 + seed})
    return path


def test_runs_are_kept_and_known(tmp_path: Path):
    path = written(tmp_path / "results.json")
    again = ResultFile(path, "test", {"epochs": 2})
    assert again.has("ST", 1)
    assert not again.has("ST", 2)
    again.add({"mode": "ST", "seed": 2, "main": 95.0})
    assert len(runs_of(path)) == 9
    assert {"torch", "processor"} <= set(json.loads(path.read_text())["machine"])
    assert list(tmp_path.iterdir()) == [path]


def test_runs_of_other_settings_are_not_mixed(tmp_path: Path):
    path = written(tmp_path / "results.json")
    with pytest.raises(ValueError, match="other settings"):
        ResultFile(path, "test", {"epochs": 3})


def test_tables_have_means_and_spreads():
    runs = [{"mode": "ST", "seed": seed, "main": value} for seed, value in enumerate((1.0, 3.0))]
    assert table(runs, {"main": "accuracy"}).splitlines()[-1] == "| ST | 2 | 2.0 ± 1.4 |"
    assert mean_and_spread([95.26], digits=2) == "95.26"


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_bars_and_frontiers_are_drawn_alike_every_time(tmp_path: Path, ending: str):
    path = written(tmp_path / "results.json")
    figures = {
        "bars": lambda output: Bars(path, ("main",), output),
        "frontier": lambda output: Frontier(path, "keep", "main", output),
    }
    for name, figure in figures.items():
        pictures = [tmp_path / f"{name}{count}.{ending}" for count in range(2)]
        for picture in pictures:
            draw(figure(picture))
        assert pictures[0].read_bytes() == pictures[1].read_bytes()
        if ending == "svg":
            assert "ST" in pictures[0].read_text()
            assert "GKT" in pictures[0].read_text()


def test_modes_that_are_missing_are_named(tmp_path: Path):
    path = written(tmp_path / "results.json")
    with pytest.raises(ValueError, match="STP"):
        draw(Bars(path, ("main",), tmp_path / "bars.svg", modes=("ST", "STP")))
