"""Features of the photos: convolutional, multi-view and monocular."""

from .residual_unet import ResidualUNet, imagenet_normalised
from .transformer import MultiViewTransformer
from .vit import CrossViewTransformerDecoder, MonocularBranch, VisionTransformer

__all__ = [
    "CrossViewTransformerDecoder",
    "MonocularBranch",
    "MultiViewTransformer",
    "ResidualUNet",
    "VisionTransformer",
    "imagenet_normalised",
]
