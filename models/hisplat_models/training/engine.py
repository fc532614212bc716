"""One process or many: what differs between them, behind one small class.

Several processes are started by torchrun (on one machine or many) and joined by Hugging Face
accelerate, which is imported only then.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import nn

from .synchronised_norm import with_synchronised_norms


class Engine:
    """A single process: nothing to share.

    Attributes:
        device: Where this process works.
        rank: Its number among all processes.
        world_size: How many there are.
    """

    def __init__(self, device: torch.device, rank: int = 0, world_size: int = 1):
        self.device, self.rank, self.world_size = device, rank, world_size

    def parallel(self, model: nn.Module) -> nn.Module:
        """The model to call in training: its gradients are the mean over all processes."""
        return model

    @contextmanager
    def keeping_gradients(self, parallel: nn.Module) -> Iterator[None]:
        """Within it gradients add up in this process without being shared yet."""
        yield

    def any(self, flag: bool) -> bool:
        """Whether any process says so; the same answer on all of them."""
        return flag

    def wait(self) -> None:
        """Until all processes are here."""

    def close(self) -> None:
        """Leaves the group of processes."""


class AccelerateEngine(Engine):
    """One of several processes that torchrun started.

    Raises:
        ImportError: without accelerate.
    """

    def __init__(self, cuda: bool):
        try:
            from accelerate import Accelerator
            from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
        except ImportError as error:
            raise ImportError(
                'Several processes need accelerate: pip install "hisplat-app[train]".'
            ) from error
        self.accelerator = Accelerator(
            cpu=not cuda,
            mixed_precision="no",  # the loop casts by itself, around the network alone
            kwargs_handlers=[
                # Heads may end in channels that nothing draws.
                DistributedDataParallelKwargs(find_unused_parameters=True),
                # The first process evaluates while the others wait.
                InitProcessGroupKwargs(timeout=timedelta(hours=1)),
            ],
        )
        super().__init__(
            self.accelerator.device,
            self.accelerator.process_index,
            self.accelerator.num_processes,
        )

    def parallel(self, model: nn.Module) -> nn.Module:
        """See Engine; batch norms see the whole batch from then on."""
        return self.accelerator.prepare_model(with_synchronised_norms(model))

    @contextmanager
    def keeping_gradients(self, parallel: nn.Module) -> Iterator[None]:
        """See Engine."""
        with self.accelerator.no_sync(parallel):
            yield

    def any(self, flag: bool) -> bool:
        """See Engine."""
        total = self.accelerator.reduce(torch.tensor(float(flag), device=self.device), "sum")
        assert isinstance(total, torch.Tensor)
        return bool(total > 0)

    def wait(self) -> None:
        """See Engine."""
        self.accelerator.wait_for_everyone()

    def close(self) -> None:
        """See Engine."""
        self.accelerator.state.destroy_process_group()


@contextmanager
def open_engine(device: str = "auto") -> Iterator[Engine]:
    """The engine of this process: many processes where torchrun started several.

    Args:
        device: "cpu", "cuda", or "auto" for a GPU if there is one.

    Raises:
        ImportError: for several processes without accelerate.
        ValueError: for CUDA where there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("There is no CUDA device here; pass --device cpu.")
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Engine(torch.device("cuda" if cuda else "cpu"))
        return
    engine = AccelerateEngine(cuda)
    try:
        yield engine
    finally:
        engine.close()
