"""``hisplat convert``: the published checkpoints as files for --model."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.table import Table
from rich.text import Text

from .console import console, progress_line, tell
from .reconstruct import check_can_write

if TYPE_CHECKING:
    from hisplat_models.checkpoints import Misfit

MOST_ROWS = 20


@dataclass(frozen=True)
class Convert:
    """Make a .safetensors file for --model of a checkpoint of the published network.

    Nothing in the checkpoint is run. Its weights are taken, the state of the optimiser is not;
    every tensor must have its name and shape, or nothing is written.

    For example:

      hisplat convert hisplat_re10k.ckpt re10k.safetensors
      hisplat convert hisplat_acid.ckpt acid.safetensors --half
    """

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CHECKPOINT")]
    """A Lightning checkpoint (.ckpt), or a state dict alone (.pth, .safetensors)."""
    target: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="WEIGHTS.SAFETENSORS")]
    """The file to write."""
    half: bool = False
    """Store 16 bits a number: half the size, rounded to a part in 2000."""
    tensors_only: bool = False
    """Take the tensors also of a checkpoint that names things which do not belong in one. Those
    are left out, and still nothing is run."""

    def run(self) -> int:
        """Writes the file; 0 when done."""
        self._check()
        with progress_line() as progress:
            progress("loading the program", 0.0)
            from hisplat_models.checkpoints import MisfitError
            from hisplat_models.pickled_tensors import RefusedError
            from hisplat_models.published_checkpoints import convert_published

            progress(f"converting {self.source.name}", 0.2)
            try:
                done = convert_published(
                    self.source, self.target, half=self.half, tensors_only=self.tensors_only
                )
            except MisfitError as error:
                console.print(misfit_table(error.misfit))
                raise
            except RefusedError as error:
                raise ValueError(
                    f"{error} If you expect objects of your own in it, --tensors-only takes the "
                    "tensors and leaves those out."
                ) from error
        if done.left_out:
            tell(f"Left out: {', '.join(done.left_out)}.")
        at_step = "" if done.step is None else f" at training step {done.step:,}"
        tell(f"All {done.tensors} tensors fit: {done.parameters:,} parameters{at_step}.")
        tell(f"Wrote {self.target} ({done.size / 1e6:.0f} MB).")
        return 0

    def _check(self) -> None:
        check_can_write(self.target)
        if self.target.suffix != ".safetensors":
            raise ValueError(f"Expected a name that ends in .safetensors, got {self.target}.")
        if self.target.exists() and self.target.samefile(self.source):
            raise ValueError(f"{self.target} is the checkpoint itself; give another name.")


def misfit_table(misfit: "Misfit") -> Table:
    """What did not fit, at most ``MOST_ROWS`` of each kind."""
    table = Table("tensor", "expected", "came", title="What does not fit")
    missing = [(key, "a tensor", "none") for key in misfit.missing]
    unknown = [(key, "none", "a tensor") for key in misfit.unknown]
    for rows in (missing, unknown, list(misfit.wrong)):
        for row in rows[:MOST_ROWS]:
            table.add_row(*(Text(_plain(cell)) for cell in row))
        if len(rows) > MOST_ROWS:
            table.add_row(f"… and {len(rows) - MOST_ROWS} more")
    return table


def _plain(cell: str) -> str:
    from hisplat_models.model_sources import shown

    return shown(cell)
