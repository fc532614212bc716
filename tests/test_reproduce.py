"""The commands of docs/reproduce.md are understood as they stand there."""

import re
import shlex
from pathlib import Path

import pytest
import tyro

from hisplat_app.cli import COMMANDS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reproduce.md"


def _commands() -> list[list[str]]:
    """The arguments after ``hisplat`` of every command in a block or in the text."""
    text = PAGE.read_text()
    blocks = "".join(re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    lines = blocks.replace("\\\n", " ").splitlines()
    lines += re.findall(r"`(hisplat [a-z]+ [^`]*)`", text)
    words = [shlex.split(line, comments=True) for line in lines]
    found = [w[w.index("hisplat_app") + 1 :] for w in words if "hisplat_app" in w]
    return found + [w[1:] for w in words if w[:1] == ["hisplat"] and w[1:] != ["--version"]]


@pytest.mark.parametrize("arguments", _commands(), ids=lambda arguments: " ".join(arguments)[:60])
def test_commands_are_understood(arguments: list[str]) -> None:
    command, *options = arguments
    options_class = COMMANDS[command].load()
    choose = getattr(options_class, "for_arguments", lambda _: options_class)
    tyro.cli(choose(options), args=options)


def test_ablations_are_understood() -> None:
    rows = re.findall(r"`(--ablate [^`]*)`", PAGE.read_text())
    assert len(rows) == 3
    for row in rows:
        options = ["--preset", "hisplat", "--run-dir", "run", *shlex.split(row)]
        kind = COMMANDS["train"].load()
        run = tyro.cli(getattr(kind, "for_arguments")(options), args=options)  # noqa: B009
        assert run.ablate == tuple(shlex.split(row)[1:])


def test_every_published_dataset_has_its_command() -> None:
    named = {c[c.index("--dataset") + 1] for c in _commands() if "--dataset" in c}
    assert named == {"re10k", "acid", "dtu", "replica"} | (named & {"chunks"})
    assert {c[0] for c in _commands()} >= {"convert", "evaluate", "train", "data"}


def test_files_it_links_to_exist() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", PAGE.read_text())
    assert links
    assert [link for link in links if not (PAGE.parent / link).exists()] == []
