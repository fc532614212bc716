"""The world to tensors, Gaussians to files."""
