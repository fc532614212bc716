"""Features of the photos: convolutional, multi-view and monocular."""

from .residual_unet import ResidualUNet, imagenet_normalised
from .transformer import MultiViewTransformer

__all__ = ["MultiViewTransformer", "ResidualUNet", "imagenet_normalised"]
