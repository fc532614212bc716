"""The command line: ``hisplat COMMAND …`` and ``hisplat-view …``."""

import importlib
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import tyro
from rich.console import Console
from rich.table import Table

from . import __version__
from .commands.console import complain
from .memory_errors import TOO_LITTLE, is_out_of_memory

logger = logging.getLogger(__name__)

USER_ERROR = 2
INTERRUPTED = 130
BROKEN_PIPE = 141


@runtime_checkable
class Command(Protocol):
    """A dataclass of options that can be run."""

    def run(self) -> int:
        """The exit status."""
        ...


@dataclass(frozen=True)
class Entry:
    """Where a command's class is; loaded only when the command is used."""

    module: str
    name: str
    help: str

    def load(self) -> type[Command]:
        """The class of the command."""
        return getattr(importlib.import_module(self.module, __package__), self.name)


COMMANDS = {
    "view": Entry(".commands.view", "View", "Two photos to a scene in the browser."),
    "reconstruct": Entry(
        ".commands.reconstruct",
        "Reconstruct",
        "Two photos, more, or a whole capture to a scene file.",
    ),
    "render": Entry(".commands.render", "Render", "Pictures and videos of a scene file."),
    "export": Entry(".commands.export", "Export", "A scene file in other formats."),
    "evaluate": Entry(".evaluation", "Evaluate", "Measure quality on photos with known cameras."),
    "train": Entry(".train", "Train", "Train a network."),
    "compress": Entry(".compress", "Compress", "Make a trained network smaller and faster."),
    "data": Entry(".commands.data", "Data", "Prepare datasets: chunk files, evaluation indices."),
    "convert": Entry(
        ".commands.convert", "Convert", "A published checkpoint to a file for --model."
    ),
    "bench": Entry(".bench", "Bench", "Measure the network's time and memory."),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """``hisplat``: runs the command named first; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    first = arguments[0] if arguments else "--help"
    if first in COMMANDS:
        return run_command(first, f"hisplat {first}", arguments[1:])
    if first == "--version":
        print(f"hisplat {__version__}")
        return 0
    if first in ("-h", "--help"):
        _print_help()
        return 0
    complain(
        f"There is no command {first!r}; there are: {', '.join(COMMANDS)}. See hisplat --help."
    )
    return USER_ERROR


def view_main(arguments: Sequence[str] | None = None) -> int:
    """``hisplat-view``: the same as ``hisplat view``."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if "--version" in arguments:
        print(f"hisplat-view {__version__}")
        return 0
    return run_command("view", "hisplat-view", arguments)


def run_command(command: str, program: str, arguments: Sequence[str]) -> int:
    """Parses the options and runs the command.

    What the user can mend (bad options, files, photos: ValueError and OSError, a missing optional
    package, or a wish too large for the memory) ends with one line and status 2; set HISPLAT_DEBUG
    to see where it arose.
    """
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    try:
        kind = COMMANDS[command].load()
        choose = getattr(kind, "for_arguments", None)  # defaults that depend on an option
        kind = choose(arguments) if choose is not None else kind
        options = tyro.cli(kind, prog=program, args=list(arguments))
        return options.run()
    except BrokenPipeError:
        return BROKEN_PIPE  # whoever read our output has had enough
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("HISPLAT_DEBUG"):
            raise
        complain(str(error))
        return USER_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if os.environ.get("HISPLAT_DEBUG") or not is_out_of_memory(error):
            raise
        complain(TOO_LITTLE)
        return USER_ERROR


def _print_help() -> None:
    console = Console(highlight=False)
    console.print("usage: hisplat COMMAND [OPTIONS]\n\nTwo photos in, a 3D Gaussian scene out.\n")
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, entry in COMMANDS.items():
        table.add_row(f"[bold]{name}[/bold]", entry.help)
    console.print(table)
    console.print(
        "\nhisplat COMMAND --help tells all about a command, hisplat --version the version.\n"
        "\nexamples:\n"
        "  hisplat view --demo\n"
        "  hisplat view --left a.jpg --right b.jpg\n"
        "  hisplat reconstruct --left a.jpg --right b.jpg --output scene.ply",
        markup=False,
    )
