"""How a network that only predicts is made faster: bfloat16, compilation."""

import os
import shutil
from typing import Any, Literal

import torch
from torch import nn

from .network import HiSplat
from .refine_unet import RefineUNet

Precision = Literal["fp32", "bf16"]

_COMPUTING = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def prepare(network: HiSplat, precision: Precision = "fp32", compile: bool = False) -> HiSplat:
    """The network itself, changed in place for prediction; it cannot be trained afterwards.

    Args:
        network: In evaluation mode.
        precision: "bf16": convolutions and matrix products take and give bfloat16, and their
            weights are stored so. Cost volume, depths, Gaussians and renders stay in float32.
        compile: Compile with ``torch.compile``, during the first prediction of each image size.

    Raises:
        ValueError: in training mode, or for a compilation without a C++ compiler.
    """
    if network.training:
        raise ValueError("Expected a network in evaluation mode; call network.eval() first.")
    network.requires_grad_(False)
    if precision == "bf16":
        _use_bfloat16(network)
    if compile:
        _compile_parts(network)
    return network


def _use_bfloat16(network: HiSplat) -> None:
    for module in network.modules():
        if isinstance(module, _COMPUTING):
            module.to(torch.bfloat16)
    device = next(network.parameters()).device.type
    contexts: list[torch.autocast] = []

    def enter(*_: Any) -> None:
        contexts.append(torch.autocast(device, torch.bfloat16))
        contexts[-1].__enter__()

    def leave(*_: Any) -> None:
        contexts.pop().__exit__(None, None, None)

    network.register_forward_pre_hook(enter)
    network.register_forward_hook(leave, always_call=True)


def _compile_parts(network: HiSplat) -> None:
    """The deep parts; between them are single large convolutions and loops compiled already."""
    if next(network.parameters()).device.type == "cpu" and _cpp_compiler() is None:
        raise ValueError(
            "Compiling for the CPU needs a C++ compiler and found none: install g++ or clang++, "
            "name one in the environment variable CXX, or leave out --compile."
        )
    network.cnn.encode = torch.compile(network.cnn.encode, dynamic=False)
    network.cnn.decode = torch.compile(network.cnn.decode, dynamic=False)
    parts: list[nn.Module | None] = [network.monocular, network.transformer]
    for stage in network.stages:
        parts += [module for module in stage.modules() if isinstance(module, RefineUNet)]
    for part in parts:
        if part is not None:
            part.compile(dynamic=False)


def _cpp_compiler() -> str | None:
    named = os.environ.get("CXX")
    return next(filter(None, map(shutil.which, [named] if named else ["g++", "clang++"])), None)
