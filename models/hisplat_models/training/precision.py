"""Arithmetic of matrix products and convolutions."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from .settings import Precision


@contextmanager
def float32_arithmetic(precision: Precision, device: torch.device) -> Iterator[None]:
    """Within it GPUs work on float32 exactly ("fp32") or in TF32 (otherwise).

    Torch keeps these switches for the whole process; they are put back afterwards.
    """
    if device.type != "cuda":
        yield
        return
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    exact = precision == "fp32"
    torch.set_float32_matmul_precision("highest" if exact else "high")
    torch.backends.cudnn.allow_tf32 = not exact
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Within it convolutions and matrix products of "bf16" are in bfloat16."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
