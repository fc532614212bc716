"""Thousands of broken files for every reader: they are read or refused, never anything else.

Usage: python benchmarks/fuzz.py --inputs 20000 --output docs/benchmarks/fuzz.json
"""

import json
import logging
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from hisplat_app.machine import machine

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.data_tools.broken_files import Reader, targets


@dataclass(frozen=True)
class Options:
    """How many, and where the result goes."""

    inputs: int = 10_000
    """Files in all, spread over the readers."""
    seed: int = 0
    """Of the generator."""
    patience: int = 20
    """Seconds after which a reader hangs."""
    output: Path | None = None
    """JSON file for the result; none is written by default."""


class Hang(BaseException):
    """A reader took too long."""


def main(options: Options) -> None:
    """Prints and writes, for each reader, what became of its inputs."""
    random.seed(options.seed)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    signal.signal(signal.SIGALRM, _too_long)
    readers = targets()
    results = {}
    for name, (read, inputs) in readers.items():
        outcome: dict[str, Any] = {}
        _fuzz(read, inputs, options.inputs // len(readers), options, outcome)
        results[name] = outcome
        print(name, json.dumps(outcome), flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    document = {
        "machine": machine(),
        "seed": options.seed,
        "inputs": sum(r["inputs"] for r in results.values()),
        "peak_memory_mib": round(peak),
        "readers": results,
    }
    if options.output is not None:
        options.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if any(r["crashes"] or r["hangs"] or r["files_left"] for r in results.values()):
        raise SystemExit(1)


def _fuzz(read: Reader, inputs: Any, count: int, options: Options, outcome: dict[str, Any]) -> None:
    refused: Counter[str] = Counter()
    crashes: list[str] = []
    outcome.update(inputs=0, read=0, refused={}, hangs=0, crashes=crashes, slowest_s=0.0)
    with tempfile.TemporaryDirectory() as folder:

        @seeded(options.seed)
        @settings(
            max_examples=count,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
        )
        @given(inputs)
        def one(content: bytes) -> None:
            outcome["inputs"] += 1
            begin = time.perf_counter()
            signal.alarm(options.patience)
            try:
                read(content, Path(folder))
                outcome["read"] += 1
            except (ValueError, OSError) as error:
                refused[type(error).__name__] += 1
            except Hang:
                outcome["hangs"] += 1
            except Exception as error:  # what this program looks for
                if len(crashes) < 20:
                    crashes.append(f"{type(error).__name__}: {error}"[:200])
            finally:
                signal.alarm(0)
            outcome["slowest_s"] = max(outcome["slowest_s"], time.perf_counter() - begin)

        one()
        left = {p.name for p in Path(folder).iterdir()} - {"cameras.json"}
    outcome.update(
        refused=dict(refused), files_left=sorted(left), slowest_s=round(outcome["slowest_s"], 3)
    )


def _too_long(*_: object) -> None:
    raise Hang


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
