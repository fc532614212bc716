"""The network the way one writes it first: the same output, slower and larger.

What the optimised network is measured against, and the oracle of its tests: every view of every
candidate is warped at once, attention is three lines, maps keep torch's usual layout.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

from hisplat_models import channels_last, cost_volume


@contextmanager
def plain_network() -> Iterator[None]:
    """Networks that run inside do everything in the plain way; not for several threads at once."""
    with ExitStack() as stack:
        for owner, name, replacement in _REPLACEMENTS:
            stack.enter_context(patch.object(owner, name, replacement))
        yield


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    *,
    scale: float | None = None,
) -> Tensor:
    """softmax(scale q k^T + mask) v; the scale is one over sqrt(channels) unless given."""
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if attn_mask is not None:
        scores = scores + attn_mask
    return scores.softmax(dim=-1) @ value


def correlations(
    features: Tensor,
    sweeps: list[cost_volume.Sweep],
    inverse_depths: Tensor,
    pixel_centers: bool,
    *_: Any,
) -> Tensor:
    """The cost volume's sums over the other views, from all warped features at once."""
    total = features.new_zeros(())
    for sweep in sweeps:
        grid = cost_volume.sampling_grid(sweep, inverse_depths, pixel_centers)
        warped = F.grid_sample(
            features[:, sweep.other].flatten(0, 1),
            grid.flatten(2, 3).flatten(0, 1),
            align_corners=not pixel_centers,
        )
        batch, views, channels, height, width = features.shape
        warped = warped.reshape(batch, views, channels, -1, height, width)
        total = total + (features[:, :, :, None] * warped).sum(dim=2) / channels**0.5
    return total


def never(maps: Tensor) -> bool:
    """Maps are neither reordered nor overwritten."""
    return False


_REPLACEMENTS = (
    (torch.nn.functional, "scaled_dot_product_attention", attention),
    (channels_last, "is_inference_on_cpu", never),
    (cost_volume, "fused_volume", correlations),
    (cost_volume, "warped_volume", correlations),
)
