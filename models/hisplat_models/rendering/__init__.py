"""Renderers of Gaussians behind one protocol."""
