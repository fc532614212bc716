"""Random textured scenes with exact depth and cameras: training data without a download."""

from .dataset import ProceduralDataset, Sample, make_sample
from .layouts import LAYOUTS, sample_scene
from .render import Camera, Rendering, render, render_depth
from .scene import Scene
from .settings import ProceduralSettings
from .views import SampledCameras, covisible, sample_cameras

__all__ = [
    "LAYOUTS",
    "Camera",
    "ProceduralDataset",
    "ProceduralSettings",
    "Rendering",
    "Sample",
    "SampledCameras",
    "Scene",
    "covisible",
    "make_sample",
    "render",
    "render_depth",
    "sample_cameras",
    "sample_scene",
]
