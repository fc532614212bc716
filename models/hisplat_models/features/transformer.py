"""Features that know of the other views: a transformer with shifted windows and cross-attention.

UniMatch (Xu et al., TPAMI 2023), section 3.1 and GMFlow (CVPR 2022), section 3.2, as used by
MVSplat (ECCV 2024) and HiSplat (ICLR 2025), section 3.2.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

_MASKED = -100.0
"""Added to attention scores between different regions of a wrapped window (as in Swin)."""


class MultiViewTransformer(nn.Module):
    """Alternates self-attention within a view and cross-attention to all other views.

    Attention stays inside a ``windows`` x ``windows`` split of the map; every second layer shifts
    the split by half a window. All views of a layer are updated from the same previous features.
    For more than two views the published code pairs keys with masks of other positions in
    shifted layers; here every key carries the mask of its own position. With two views both
    agree.

    Args:
        channels: Feature channels, a multiple of 4.
        layers: Pairs of self- and cross-attention.
        ffn_expansion: Hidden channels of the feed-forward net over its 2 * ``channels`` inputs.
        windows: Windows per axis.
        pad: Pad maps that ``windows`` does not divide (padding is never attended to) instead of
            refusing them.
    """

    def __init__(
        self,
        channels: int = 128,
        layers: int = 6,
        ffn_expansion: int = 4,
        windows: int = 2,
        pad: bool = False,
    ):
        super().__init__()
        if channels % 4:
            raise ValueError(f"Expected a multiple of 4 channels, got {channels}.")
        self.windows = windows
        self.pad = pad
        self.layers = nn.ModuleList([_Layer(channels, ffn_expansion) for _ in range(layers)])
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(
        self, features: Float[Tensor, "batch view channels height width"]
    ) -> Float[Tensor, "batch view channels height width"]:
        """Features of the same shape, each informed by its own and the other views.

        Raises:
            ValueError: for fewer than two views, or sides that ``windows`` does not divide
                unless ``pad``.
        """
        height, width = features.shape[-2:]
        if features.shape[1] < 2:
            raise ValueError(f"Expected at least two views, got {features.shape[1]}.")
        pad_y, pad_x = -height % self.windows, -width % self.windows
        if (pad_y or pad_x) and not self.pad:
            raise ValueError(
                f"Expected a map that splits into {self.windows}x{self.windows} windows, got "
                f"{height}x{width}; build the transformer with pad=True."
            )
        x = F.pad(features, (0, pad_x, 0, pad_y)).movedim(2, -1)
        padded_height, padded_width = x.shape[2:4]
        straight = _Windows.of(features, padded_height, padded_width, self.windows, shifted=False)
        shifted = _Windows.of(features, padded_height, padded_width, self.windows, shifted=True)
        x = x + straight.position_embedding(x)
        for index, layer in enumerate(self.layers):
            x = layer(x, shifted if index % 2 else straight)
        return x[:, :, :height, :width].movedim(-1, 2)


@dataclass(frozen=True)
class _Windows:
    """How maps (batch, view, height, width, channels) split into windows of tokens.

    Attributes:
        count: Windows per axis.
        size: (height, width) of one window.
        shift: (rows, columns) by which the split is moved down and right, wrapping around.
        regions: Labels of each window's tokens: only equal ones attend to each other. None when all
            do.
    """

    count: int
    size: tuple[int, int]
    shift: tuple[int, int]
    regions: Int[Tensor, "windows tokens"] | None

    @classmethod
    def of(cls, unpadded: Tensor, height: int, width: int, count: int, shifted: bool) -> "_Windows":
        size = (height // count, width // count)
        shift = (size[0] // 2, size[1] // 2) if shifted else (0, 0)
        plain = cls(count, size, shift, None)
        if unpadded.shape[-2:] == (height, width) and shift == (0, 0):
            return plain
        regions = _regions(unpadded, height, width, shift)
        regions = plain.split(regions[None, None, :, :, None])[0, 0, :, :, 0]
        return cls(count, size, shift, regions)

    def split(
        self, x: Tensor
    ) -> Tensor:  # (b, v, height, width, c) -> (b, v, windows, tokens, c), after the shift
        b, v, _, _, c = x.shape
        k, (rows, columns) = self.count, self.size
        x = x.roll((-self.shift[0], -self.shift[1]), dims=(2, 3))
        x = x.reshape(b, v, k, rows, k, columns, c).transpose(3, 4)
        return x.reshape(b, v, k * k, rows * columns, c)

    def merge(self, tokens: Tensor) -> Tensor:
        """Undoes ``split``."""
        b, v, _, _, c = tokens.shape
        k, (rows, columns) = self.count, self.size
        x = tokens.reshape(b, v, k, k, rows, columns, c).transpose(3, 4)
        x = x.reshape(b, v, k * rows, k * columns, c)
        return x.roll(self.shift, dims=(2, 3))

    def position_embedding(self, like: Tensor) -> Float[Tensor, "height width channels"]:
        """Sines and cosines of the position inside the window, the same for every window."""
        channels = like.shape[-1]
        rows = _sine_embedding(like, self.size[0], channels // 2)[:, None]
        columns = _sine_embedding(like, self.size[1], channels // 2)[None, :]
        both = torch.cat(torch.broadcast_tensors(rows, columns), dim=-1)
        return both.repeat(self.count, self.count, 1)


def _regions(
    unpadded: Tensor, height: int, width: int, shift: tuple[int, int]
) -> Int[Tensor, "height width"]:
    """Labels whose equality tells whether two tokens of one shifted window are neighbours.

    The shift wraps around, so a window at the border holds tokens of opposite borders; padding
    is a region of its own. Indexed by the position *before* the shift.
    """
    y = torch.arange(height, device=unpadded.device)[:, None]
    x = torch.arange(width, device=unpadded.device)[None, :]
    wrapped = (y < shift[0]) * 1 + (x < shift[1]) * 2
    padding = (y >= unpadded.shape[-2]) | (x >= unpadded.shape[-1])
    return torch.where(padding, -1, wrapped)


def _sine_embedding(like: Tensor, count: int, channels: int) -> Float[Tensor, "count channels"]:
    """Interleaved sin, cos of positions 1 ... count scaled to (0, 2 pi] (as in DETR)."""
    positions = torch.arange(1, count + 1, device=like.device, dtype=like.dtype)
    positions = positions / (count + 1e-6) * 2 * math.pi
    pair = torch.arange(channels // 2, device=like.device, dtype=like.dtype)
    angles = positions[:, None] / 10000 ** (2 * pair / channels)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class _Layer(nn.Module):
    """Self-attention within each view, then cross-attention with a feed-forward net."""

    def __init__(self, channels: int, ffn_expansion: int):
        super().__init__()
        self.self_attention = WindowAttention(channels)
        self.cross_attention = WindowAttention(channels)
        self.ffn = FeedForward(channels, ffn_expansion)

    def forward(self, x: Tensor, windows: _Windows) -> Tensor:
        before = windows.split(x)
        tokens = before + self.self_attention(before, before, windows.regions)
        # The other views are seen as they were before this layer, as published.
        message = self.cross_attention(tokens, _of_other_views(before), windows.regions)
        return windows.merge(tokens + self.ffn(tokens, message))


class WindowAttention(nn.Module):
    """Single-head attention between the tokens of one window, of one view or of all others."""

    def __init__(self, channels: int):
        super().__init__()
        # That of the whole network, also where compression leaves fewer channels to queries: what
        # the others contribute to a score stays the same.
        self.score_scale = channels**-0.5
        self.query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels, bias=False)
        self.merge = nn.Linear(channels, channels, bias=False)
        self.norm = nn.LayerNorm(channels)

    def forward(self, tokens: Tensor, attended: Tensor, regions: Tensor | None) -> Tensor:
        """What to add to the tokens (batch, view, windows, tokens, channels).

        ``attended`` are k times as many as the tokens; ``regions`` as in ``_Windows``.
        """
        query = self.query(tokens).flatten(0, 1)
        key, value = self.key(attended).flatten(0, 1), self.value(attended).flatten(0, 1)
        if regions is None:
            message = self._message(query, key, value, None)
        else:
            # Window by window: a mask has as many elements as there are pairs of tokens.
            windows = [slice(w, w + 1) for w in range(len(regions))]
            message = torch.cat(
                [
                    self._message(query[:, w], key[:, w], value[:, w], _mask(regions[w], key))
                    for w in windows
                ],
                dim=1,
            )
        return self.norm(self.merge(message.unflatten(0, tokens.shape[:2])))

    def _message(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, mask, scale=self.score_scale)


def _mask(regions: Int[Tensor, "1 tokens"], attended: Tensor) -> Float[Tensor, "1 1 n m"]:
    """What to add to one window's scores."""
    differ = (regions[:, :, None] != regions[:, None, :]).to(attended.dtype).mul_(_MASKED)
    copies = attended.shape[-2] // regions.shape[-1]
    return (differ if copies == 1 else differ.repeat(1, 1, copies))[None]


def _of_other_views(tokens: Tensor) -> Tensor:
    """For each view the tokens of all other views: (b, v, windows, (v - 1) * tokens, c)."""
    views = tokens.shape[1]
    if views == 2:
        return tokens.flip(1)
    others = [
        torch.cat([tokens[:, o] for o in range(views) if o != v], dim=-2) for v in range(views)
    ]
    return torch.stack(others, dim=1)


class FeedForward(nn.Module):
    """What to add to the tokens, given the tokens and the message from the other views."""

    def __init__(self, channels: int, expansion: int):
        super().__init__()
        hidden = 2 * channels * expansion
        self.expand = nn.Linear(2 * channels, hidden, bias=False)
        self.contract = nn.Linear(hidden, channels, bias=False)
        self.norm = nn.LayerNorm(channels)

    def forward(self, tokens: Tensor, message: Tensor) -> Tensor:
        """Both have as many channels."""
        hidden = F.gelu(self.expand(torch.cat([tokens, message], dim=-1)))
        return self.norm(self.contract(hidden))
