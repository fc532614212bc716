"""What the README shows works as it stands there."""

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

from hisplat_data_tools.ply import read_ply

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = {"hisplat": "main", "hisplat-view": "view_main"}  # functions of hisplat_app.cli


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def _command_lines() -> list[str]:
    """Every line of a bash block, and every command in the table."""
    lines = [line for block in _blocks("bash") for line in block.splitlines() if line.strip()]
    return lines + re.findall(r"\| `(hisplat[^`]*)` \|", README)


@cache
def _help(command: str, *subcommand: str) -> str:
    program = f"import sys; from hisplat_app.cli import {COMMANDS[command]} as f; sys.exit(f())"
    run = subprocess.run(
        [sys.executable, "-c", program, *subcommand, "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_python_snippet_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (left,) = (ROOT / "hisplat_app").rglob("left.jpg")
    for name, photo in (("a.png", left), ("b.png", left.with_name("right.jpg"))):
        Image.open(photo).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    (snippet,) = _blocks("python")
    names: dict[str, object] = {}
    exec(compile(snippet, "README.md", "exec"), names)
    scene = names["scene"]
    assert read_ply(tmp_path / "scene.ply").count == scene.gaussians.count > 1000  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("line", [c for c in _command_lines() if c.startswith("hisplat")])
def test_options_of_commands_exist(line: str):
    command, *arguments = shlex.split(line)
    subcommand = arguments[:1] if command == "hisplat" else []
    known = set(re.findall(r"--[a-z][a-z-]*", _help(command, *subcommand)))
    used = {argument for argument in arguments if argument.startswith("--")}
    assert used <= known
    assert used or arguments[0].endswith(".ply")


@pytest.mark.parametrize("line", [c for c in _command_lines() if c.startswith("make")])
def test_make_targets_exist(line: str):
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert shlex.split(line)[1] in targets


def test_files_it_links_to_exist():
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
