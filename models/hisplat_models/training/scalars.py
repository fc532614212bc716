"""Curves for TensorBoard, where it is installed; RUN_DIR/log.jsonl has them in any case."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)

WriteScalars = Callable[[int, Mapping[str, float | int]], None]


@contextmanager
def scalar_writer(folder: Path, enabled: bool) -> Iterator[WriteScalars]:
    """A function that writes named values of a step; it does nothing unless ``enabled``."""
    if not enabled:
        yield _ignore
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.info('No TensorBoard: pip install "hisplat-app[train]" for its curves')
        yield _ignore
        return
    with SummaryWriter(folder) as writer:

        def write(step: int, values: Mapping[str, float | int]) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, step)

        yield write


def _ignore(step: int, values: Mapping[str, float | int]) -> None:
    pass
