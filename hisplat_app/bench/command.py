"""``hisplat bench network``: the network's time and memory, part by part."""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from ..commands.console import progress_line, tell

if TYPE_CHECKING:
    from .measure import Result


@dataclass(frozen=True)
class Bench:
    """Measure the network, part by part, beside a plain version of it in the same run.

    Weights are random and photos made up. Seconds are the least of all repetitions, in which both
    versions take turns. Memory is measured in processes of their own. For example:

      hisplat bench network --threads 1 2 --precision fp32 bf16 --output network.json
    """

    what: tyro.conf.Positional[Literal["network"]]
    """What to measure."""
    preset: Literal["hisplat", "hisplat-small"] = "hisplat"
    """The network's configuration."""
    size: Annotated[tuple[int, ...], tyro.conf.arg(metavar="PX [PX]")] = (256,)
    """Side of the photos, or height and width."""
    threads: Annotated[tuple[int, ...], tyro.conf.arg(metavar="N [N …]")] = (1,)
    """Numbers of threads to measure one after the other."""
    precision: tuple[Literal["fp32", "bf16"], ...] = ("fp32",)
    """Precisions to measure; the plain version is always fp32."""
    compile: tyro.conf.FlagCreatePairsOff[bool] = False
    """Measure each precision with torch.compile too (needs a C++ compiler)."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to run."""
    repeat: int = 3
    """Repetitions of each."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE.JSON")] = None
    """Also write the results, with what they depend on."""

    def run(self) -> int:
        """Prints the tables and writes the file; 0 when done.

        Raises:
            ValueError: for impossible options, before anything runs.
        """
        self._check()
        with progress_line() as progress:
            progress("loading the program", 0.0)
            from ..machine import machine
            from ..reconstruction import choose_device
            from .measure import measure
            from .subject import Case

            choose_device(self.device)
            height, width = self.size * 2 if len(self.size) == 1 else self.size
            cases = [
                Case(self.preset, height, width, threads, precision, compiled, self.device)
                for threads, precision, compiled in itertools.product(
                    self.threads, self.precision, (False, True) if self.compile else (False,)
                )
            ]
            results = []
            for index, case in enumerate(cases):
                progress(f"{case.name}, {case.threads} threads", index / len(cases))
                results.append(measure(case, self.repeat))
                self._write({"machine": machine(), "results": [r.to_json() for r in results]})
        for result in results:
            show(result)
        if self.output is not None:
            tell(f"Wrote {self.output}.")
        return 0

    def _write(self, content: dict[str, Any]) -> None:
        """After every case, so that a run that is stopped leaves what it has."""
        if self.output is not None:
            self.output.write_text(json.dumps(content, indent=1) + "\n")

    def _check(self) -> None:
        from ..commands.reconstruct import check_can_write

        if len(self.size) not in (1, 2):
            raise ValueError(f"Expected --size SIDE or --size HEIGHT WIDTH, got {self.size}.")
        if self.repeat < 1 or min(self.threads, default=0) < 1 or not self.precision:
            raise ValueError("Expected at least one repetition, one thread and one precision.")
        check_can_write(self.output)


def show(result: "Result") -> None:
    """One case as a table."""
    case = result.case
    title = f"{case.preset}, {case.height}x{case.width}, {case.threads} threads, {case.name}"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    table.add_column("part", no_wrap=True)
    for heading in ("seconds", "share", "plain", "ratio", "CPU s", "plain", "GFLOP"):
        table.add_column(heading, justify="right")
    for row in result.to_json()["parts"]:
        *outer, name = row["part"].split(" / ")
        table.add_row(
            "  " * len(outer) + name,
            f"{row['seconds']:.3f}",
            f"{row['share']:.0%}",
            f"{row['plain_seconds']:.3f}",
            f"{row['seconds'] / row['plain_seconds']:.2f}",
            f"{row['processor_seconds']:.3f}",
            f"{row['plain_processor_seconds']:.3f}",
            f"{row['gflops']:.1f}",
        )
    console = Console(highlight=False)
    console.print(table)
    if result.memory is not None and result.plain_memory is not None:
        console.print(
            f"peak memory {result.memory['peak_mib']:.0f} MiB, of which weights "
            f"{result.memory['weights_mib']:.0f}; plain {result.plain_memory['peak_mib']:.0f} MiB"
        )
    console.print("difference: " + ", ".join(f"{k} {v:.2g}" for k, v in result.errors.items()))
