"""``hisplat compress``: a smaller, faster network out of a trained one."""

from contextlib import AbstractContextManager
from dataclasses import dataclass

import tyro

from hisplat_models.training import Trainer

from .commands.console import tell
from .compression_run import CompressionRun
from .train import Show, progress_line


@tyro.conf.configure(tyro.conf.OmitArgPrefixes)
@dataclass
class Compress(CompressionRun):
    """Make a trained network smaller and faster, and keep it in OUT with a card.

    OUT/slim.safetensors is taken by --model everywhere. ST and GKT also leave
    OUT/elastic.safetensors, of which --depth fast, balanced or full is chosen when it is loaded.
    Start the command again with the same arguments to go on where it stopped. For example:

      hisplat compress --model hisplat-small --method s2h --keep-flops 0.5 --out runs/half
    """

    def run(self) -> int:
        """Compresses and says what came out; 0 when done, 143 when stopped by SIGTERM."""
        status = super().run()
        card = self.out / "slim.md"
        if status == 0 and card.is_file():
            tell(card.read_text(encoding="utf-8"))
        return status

    def progress(self, trainer: Trainer) -> AbstractContextManager[Show | None]:
        """A progress line."""
        return progress_line(trainer)
