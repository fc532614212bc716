"""Real photos for measuring: posed folders and rectified stereo pairs."""

from .posed_folder import PosedFolderDataset, pair_name
from .stereo import StereoFolder, read_stereo_folder

__all__ = ["PosedFolderDataset", "StereoFolder", "pair_name", "read_stereo_folder"]
