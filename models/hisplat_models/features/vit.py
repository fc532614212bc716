"""What a single photo suggests: a frozen DINOv2 transformer and a decoder that joins the views.

The transformer is DINOv2's ViT-B/14 (Oquab et al., TMLR 2024); the decoder and the way its map
enters the U-Net are HiSplat's (ICLR 2025), section 3.2; its attention is the linear one of
Katharopoulos et al. (ICML 2020), equation 6 with elu + 1 as feature map.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_PIXELS_PER_PATCH = 32
"""Photo pixels per transformer patch along each axis: 256 pixels make 8 patches."""


class MonocularBranch(nn.Module):
    """Photos to one map per view at an eighth of their size: transformer, then decoder.

    The transformer stays as given; only the decoder learns, unless the transformer's parameters
    are made to require gradients.
    """

    def __init__(self, vit: "VisionTransformer", decoder: "CrossViewTransformerDecoder"):
        super().__init__()
        self.vit = vit.requires_grad_(False)
        self.decoder = decoder

    def forward(
        self, images: Float[Tensor, "batch view 3 height width"]
    ) -> Float[Tensor, "batch view c h w"]:
        """Maps of 4 x 4 pixels per patch, from normalised images of any size."""
        shape = images.shape[:2]
        small = resized_to_patches(images.flatten(0, 1), self.vit.patch_size)
        rows, columns = (side // self.vit.patch_size for side in small.shape[-2:])
        taps = self.vit(small)
        return self.decoder([tap.unflatten(0, shape) for tap in taps], rows, columns)


def resized_to_patches(
    images: Float[Tensor, "n 3 height width"], patch_size: int = 14
) -> Float[Tensor, "n 3 _ _"]:
    """Images scaled so that one patch covers about 32 pixels: (side // 32) patches, at least one.

    For patches of 14 pixels these are the published 7/16 of the size, rounded down to patches.
    """
    size = [max(1, side // _PIXELS_PER_PATCH) * patch_size for side in images.shape[-2:]]
    return F.interpolate(images, size, mode="bicubic")


class VisionTransformer(nn.Module):
    """DINOv2 (defaults: ViT-B/14) that also returns tokens from inside the network.

    Args:
        channels: Width of the tokens.
        depth: Blocks.
        heads: Attention heads.
        patch_size: Pixels of a patch, along each axis.
        trained_patches: Patches per axis of the learned position embedding.
    """

    def __init__(
        self,
        channels: int = 768,
        depth: int = 12,
        heads: int = 12,
        patch_size: int = 14,
        trained_patches: int = 37,
    ):
        super().__init__()
        if depth % 3:
            raise ValueError(f"Expected a depth that splits into three parts, got {depth}.")
        self.patch_size = patch_size
        self.trained_patches = trained_patches
        self.class_token = nn.Parameter(torch.zeros(1, 1, channels))
        self.position_embedding = nn.Parameter(torch.zeros(1, 1 + trained_patches**2, channels))
        # Only DINOv2's own training uses it; kept so that its weights fit one to one.
        self.mask_token = nn.Parameter(torch.zeros(1, channels))
        self.patch_embedding = nn.Conv2d(3, channels, patch_size, patch_size)
        self.blocks = nn.ModuleList([ViTBlock(channels, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        nn.init.trunc_normal_(self.position_embedding, std=0.02)
        nn.init.normal_(self.class_token, std=1e-6)

    def forward(
        self, images: Float[Tensor, "n 3 height width"]
    ) -> list[Float[Tensor, "n tokens channels"]]:
        """Patch tokens (row by row) after one, two and all three thirds of the blocks.

        Only the last are normalised. Sides of normalised ``images`` are multiples of the patch.
        """
        patches = self.patch_embedding(images)
        rows, columns = patches.shape[-2:]
        tokens = patches.flatten(2).mT
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), tokens], dim=1)
        tokens = tokens + self._positions(rows, columns)
        third = len(self.blocks) // 3
        taps = []
        for index, block in enumerate(self.blocks, start=1):
            tokens = block(tokens)
            if index % third == 0:
                taps.append(tokens if index < len(self.blocks) else self.norm(tokens))
        return [tap[:, 1:] for tap in taps]

    def _positions(self, rows: int, columns: int) -> Float[Tensor, "1 tokens channels"]:
        """The learned positions, resampled to the grid of patches."""
        trained = self.trained_patches
        if rows == columns == trained:
            return self.position_embedding
        grid = self.position_embedding[:, 1:].mT.unflatten(2, (trained, trained))
        # DINOv2 was trained with this +0.1: it shifts the sampling positions, not just the size.
        scale = ((rows + 0.1) / trained, (columns + 0.1) / trained)
        grid = F.interpolate(grid, scale_factor=scale, mode="bicubic")
        return torch.cat([self.position_embedding[:, :1], grid.flatten(2).mT], dim=1)


class ViTBlock(nn.Module):
    """Pre-norm attention and feed-forward net, each scaled per channel."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.projection = nn.Linear(channels, channels)
        self.scale1 = nn.Parameter(torch.ones(channels))
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = _mlp(channels)
        self.scale2 = nn.Parameter(torch.ones(channels))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (n, tokens, channels), each informed by all of its image."""
        qkv = self.qkv(self.norm1(tokens)).unflatten(-1, (3, self.heads, -1))
        query, key, value = qkv.transpose(1, 3).unbind(2)
        message = F.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.scale1 * self.projection(message.transpose(1, 2).flatten(2))
        return tokens + self.scale2 * self.mlp(self.norm2(tokens))


class CrossViewTransformerDecoder(nn.Module):
    """Joins transformer tokens of all views and three depths into one map per view.

    View 0 is the reference: it attends to itself only, every other view attends to it. So the
    order of the views matters.

    Args:
        channels: Width of the tokens.
        heads: Heads of the linear attention.
        map_channels: Channels at 1, 2 and 4 pixels per patch; the last are the output's.
    """

    def __init__(
        self,
        channels: int = 768,
        heads: int = 12,
        map_channels: tuple[int, int, int] = (256, 128, 64),
    ):
        super().__init__()
        self.self_blocks = nn.ModuleList([LinearBlock(channels, heads) for _ in range(2)])
        self.cross_blocks = nn.ModuleList([LinearBlock(channels, heads) for _ in range(3)])
        self.norms = nn.ModuleList([nn.LayerNorm(channels, eps=1e-6) for _ in range(2)])
        self.previous_weights = nn.ParameterList([torch.tensor(0.5) for _ in range(2)])
        one, two, four = map_channels
        self.project = _ConvNorm(nn.Conv2d(channels, one, 3, padding=1), one)
        self.upsample = nn.ModuleList(
            [
                _ConvNorm(nn.ConvTranspose2d(one, two, 4, 2, padding=1), two),
                _ConvNorm(nn.ConvTranspose2d(two, four, 4, 2, padding=1), four),
            ]
        )

    def forward(
        self, taps: Sequence[Float[Tensor, "batch view tokens channels"]], rows: int, columns: int
    ) -> Float[Tensor, "batch view c h w"]:
        """Maps of (4 * rows, 4 * columns) from three sets of rows * columns tokens."""
        batch, views = taps[0].shape[:2]
        references = self._reference_tokens([tap[:, 0] for tap in taps])
        tokens = [references[-1]]
        for view in range(1, views):
            tokens.append(self._source_tokens([tap[:, view] for tap in taps], references))
        x = torch.stack(tokens, dim=1).flatten(0, 1).mT.unflatten(2, (rows, columns))
        x = self.project(x)
        for upsample in self.upsample:
            x = upsample(x)
        return x.unflatten(0, (batch, views))

    def _reference_tokens(self, taps: list[Tensor]) -> list[Tensor]:
        tokens = [taps[0]]
        for block, previous, norm, tap in zip(
            self.self_blocks, self.previous_weights, self.norms, taps[1:], strict=True
        ):
            tokens.append(norm(previous * block(tokens[-1]) + tap))
        return tokens

    def _source_tokens(self, taps: list[Tensor], references: list[Tensor]) -> Tensor:
        tokens = self.cross_blocks[0](taps[0], references[0])
        for block, previous, norm, tap, reference in zip(
            list(self.cross_blocks)[1:],
            self.previous_weights,
            self.norms,
            taps[1:],
            references[1:],
            strict=True,
        ):
            tokens = block(norm(previous * tokens + tap), reference)
        return tokens


class LinearBlock(nn.Module):
    """A transformer block with linear attention, to itself or to given tokens."""

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels, bias=False)
        self.projection = nn.Linear(channels, channels)
        self.scale1 = nn.Parameter(torch.ones(channels))
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = _mlp(channels)
        self.scale2 = nn.Parameter(torch.ones(channels))

    def forward(self, tokens: Tensor, attended: Tensor | None = None) -> Tensor:
        """Given tokens are attended to as they are, its own ones normalised."""
        normed = self.norm1(tokens)
        attended = normed if attended is None else attended
        split = (self.heads, -1)
        message = linear_attention(
            self.query(normed).unflatten(-1, split),
            self.key(attended).unflatten(-1, split),
            self.value(attended).unflatten(-1, split),
        )
        tokens = tokens + self.scale1 * self.projection(message.flatten(-2))
        return tokens + self.scale2 * self.mlp(self.norm2(tokens))


def linear_attention(
    query: Float[Tensor, "*batch tokens heads channels"],
    key: Float[Tensor, "*batch attended heads channels"],
    value: Float[Tensor, "*batch attended heads channels"],
) -> Float[Tensor, "*batch tokens heads channels"]:
    """Attention with scores phi(q) . phi(k), phi = elu + 1; linear in the number of tokens.

    Computed in float32 at least, since the sums over tokens overflow half precision.
    """
    dtype = torch.promote_types(query.dtype, torch.float32)
    # Networks are measured on the meta device, which knows no autocast.
    with torch.autocast("cpu" if query.is_meta else query.device.type, enabled=False):
        phi_q = F.elu(query.to(dtype)) + 1
        phi_k = F.elu(key.to(dtype)) + 1
        sums = torch.einsum("...shd,...shc->...hdc", phi_k, value.to(dtype))
        total = torch.einsum("...thd,...hd->...th", phi_q, phi_k.sum(dim=-3))
        message = torch.einsum("...thd,...hdc->...thc", phi_q, sums)
        return (message / (total[..., None] + 1e-6)).to(query.dtype)


class _ConvNorm(nn.Module):
    """A (transposed) convolution, batch norm, SiLU."""

    def __init__(self, conv: nn.Module, channels: int):
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.norm(self.conv(x)))


def _mlp(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
    )
