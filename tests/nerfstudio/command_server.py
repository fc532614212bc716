"""Runs nerfstudio's commands, each in a process of its own, after importing nerfstudio once.

Importing takes most of a short command's time. Reads one JSON list a line, log file first, then the
command and its arguments; writes the exit status of each.
"""

import json
import os
import sys
import traceback
from importlib.metadata import entry_points
from pathlib import Path

from nerfstudio.scripts import eval as _eval  # noqa: F401
from nerfstudio.scripts import exporter as _exporter  # noqa: F401
from nerfstudio.scripts import render as _render  # noqa: F401
from nerfstudio.scripts import train as _train  # noqa: F401


def run(log: str, command: str, *arguments: str) -> int:
    """The exit status of a console script, run in a child process that writes to ``log``."""
    (script,) = entry_points(group="console_scripts", name=command)
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        with Path(log).open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.argv = [command, *arguments]
        script.load()()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    for line in sys.stdin:
        answer = run(*json.loads(line))
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()
