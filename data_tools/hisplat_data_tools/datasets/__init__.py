"""Photos with known cameras: posed folders, stereo pairs, published chunk files of many scenes."""

from .chunks import DATASETS, ChunkScenes
from .evaluation_index import read_index
from .posed_folder import PosedFolderDataset, pair_name
from .posed_scene import PosedScene, SceneCollection, UnusableScene
from .scene_dataset import SceneDataset
from .scene_folders import SceneFolders
from .stereo import StereoFolder, read_stereo_folder
from .view_samplers import AllViews, BoundedSampler, IndexSampler, ViewChoice, ViewSampler

__all__ = [
    "DATASETS",
    "AllViews",
    "BoundedSampler",
    "ChunkScenes",
    "IndexSampler",
    "PosedFolderDataset",
    "PosedScene",
    "SceneCollection",
    "SceneDataset",
    "SceneFolders",
    "StereoFolder",
    "UnusableScene",
    "ViewChoice",
    "ViewSampler",
    "pair_name",
    "read_index",
    "read_stereo_folder",
]
