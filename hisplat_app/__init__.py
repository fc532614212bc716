"""Two photos in, a 3D Gaussian scene out."""

__version__ = "0.1.0"
