"""The HiSplat network, its Gaussians, cameras, renderers and training."""
