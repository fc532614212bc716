"""Renderers of Gaussians behind one protocol."""

import torch

from .base import Renderer, Rendering
from .cpu import CpuRenderer
from .places import Appearance, place
from .reference import ReferenceRenderer
from .settings import PAPER, RasterizationSettings

__all__ = [
    "PAPER",
    "Appearance",
    "CpuRenderer",
    "RasterizationSettings",
    "ReferenceRenderer",
    "Renderer",
    "Rendering",
    "create_renderer",
    "place",
]


def create_renderer(
    device: torch.device | str, settings: RasterizationSettings | None = None
) -> Renderer:
    """The renderer for Gaussians on this device: our own on the CPU, gsplat on CUDA.

    Raises:
        ImportError: for CUDA without gsplat.
        ValueError: for other devices.
    """
    settings = settings or RasterizationSettings()
    device = torch.device(device)
    if device.type == "cpu":
        return CpuRenderer(settings)
    if device.type == "cuda":
        from .gsplat import GsplatRenderer  # only here: gsplat compiles or loads CUDA code

        return GsplatRenderer(settings)
    raise ValueError(f"Expected a CPU or CUDA device, got {device}.")
