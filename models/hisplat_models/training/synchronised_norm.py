"""Batch norm over the batches of all processes, on any device.

torch.nn.SyncBatchNorm does the same on GPUs alone; this one is as right on a CPU, where two
processes can be compared with one.
"""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn


class _SumOverProcesses(torch.autograd.Function):
    """The sum of all processes' tensors; what every process makes of it flows back to all."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        total = grad_outputs[0].contiguous().clone()
        dist.all_reduce(total)
        return total


def _summed(tensor: Tensor) -> Tensor:
    total = _SumOverProcesses.apply(tensor)
    assert isinstance(total, Tensor)
    return total


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """Normalises by the statistics of all processes' maps while training, else as any batch norm.

    Every process must bring maps of one shape.
    """

    def forward(self, input: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Zero mean and unit variance per channel, then the learned scale and shift."""
        if not self.training:
            return super().forward(input)
        x = input.float()
        world_size = dist.get_world_size()
        mean = _summed(x.mean((0, 2, 3))) / world_size
        centred = x - mean[:, None, None]
        variance = _summed(centred.square().mean((0, 2, 3))) / world_size
        self._remember(mean.detach(), variance.detach(), x.numel() // x.shape[1] * world_size)
        scale = (variance + self.eps).rsqrt() * self.weight
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / max(1, count - 1), self.momentum)


def with_synchronised_norms(model: nn.Module) -> nn.Module:
    """The model, its batch norms replaced in place by synchronised ones with the same tensors."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, _synchronised(child))
    return model


def _synchronised(norm: nn.BatchNorm2d) -> SynchronisedBatchNorm2d:
    if not (norm.affine and norm.track_running_stats and norm.momentum is not None):
        raise ValueError(f"Expected a batch norm with weights and running statistics, got {norm}.")
    new = SynchronisedBatchNorm2d(norm.num_features, norm.eps, norm.momentum)
    new.weight, new.bias = norm.weight, norm.bias
    for name, tensor in norm.named_buffers():
        setattr(new, name, tensor)
    return new.train(norm.training)
