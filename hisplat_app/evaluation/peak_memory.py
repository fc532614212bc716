"""The most memory that a piece of work took."""

import re
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


def forget_peak(device: torch.device) -> None:
    """What ``peak_memory_mib`` says begins anew, where the system lets it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _CLEAR.exists():
        _CLEAR.write_text(_RESET_PEAK)


def peak_memory_mib(device: torch.device) -> float | None:
    """Since the last ``forget_peak``: tensors on the GPU, or resident memory of the whole process.

    None where the system does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if not _STATUS.is_file():
        return None
    found = re.search(r"VmHWM:\s*(\d+) kB", _STATUS.read_text())
    return None if found is None else int(found[1]) / 2**10
