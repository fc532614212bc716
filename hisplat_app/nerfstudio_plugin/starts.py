"""First Gaussians of a training: the network's, or those that splatfacto would start from."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.data.datamanagers.full_images_datamanager import FullImageDatamanager
from nerfstudio.utils.rich_utils import CONSOLE
from scipy.spatial import KDTree
from torch import Tensor

from hisplat_data_tools.images import ExifFocal, Photo
from hisplat_models.checkpoints import load_model
from hisplat_models.gaussians import SH_C0, Gaussians

from ..capture_fusion import FusionSettings
from ..capture_pairs import PairSettings
from ..capture_scene import CaptureSettings, reconstruct_capture
from .cameras import from_nerfstudio

if TYPE_CHECKING:
    from .model import HiSplatModelConfig
    from .pipeline import StartConfig

START_OPACITY = 0.1
NEIGHBOURS = 3


@dataclass(frozen=True)
class Start:
    """The Gaussians, in nerfstudio's world and without leading axes, and a line about them."""

    gaussians: Gaussians
    told: str


def first_gaussians(
    data: FullImageDatamanager,
    model: "HiSplatModelConfig",
    start: "StartConfig",
    device: torch.device | str,
) -> Start:
    """What the configuration asks for.

    Raises:
        ValueError: if the photos or points don't serve; says why.
    """
    metadata = data.train_dataparser_outputs.metadata
    points, colors = metadata.get("points3D_xyz"), metadata.get("points3D_rgb")
    if start.source == "network":
        return _network_start(data, start, points, device)
    if start.source == "random":
        made = random_gaussians(model.num_random, model.random_scale)
        return Start(made, f"Started from {made.count:,} random Gaussians.")
    if points is None or colors is None:
        raise ValueError(
            "The capture has no sparse points (ply_file_path in transforms.json): start from "
            "network or random instead."
        )
    made = point_gaussians(points.cpu(), colors.cpu().float() / 255)
    return Start(made, f"Started from {made.count:,} sparse points.")


def _network_start(
    data: FullImageDatamanager,
    start: "StartConfig",
    points: Float[Tensor, "point 3"] | None,
    device: torch.device | str,
) -> Start:
    photos = TrainingPhotos(data)  # also undistorts, which changes the cameras
    cameras = from_nerfstudio(data.train_dataset.cameras.to("cpu"))
    settings = CaptureSettings(
        size=start.size,
        pairs=PairSettings(most=start.most_pairs),
        fusion=FusionSettings(most=start.most_gaussians),
    )
    network = load_model(start.model, device)
    begin = time.perf_counter()

    def progress(step: str, fraction: float) -> None:
        CONSOLE.log(f"HiSplat: {step} ({fraction:.0%})")

    points = None if points is None else points.cpu().float()
    scene = reconstruct_capture(photos, cameras, network, settings, points, progress)
    return Start(
        scene.gaussians,
        f"HiSplat made {scene.gaussians.count:,} Gaussians from {len(scene.pairs)} pairs of "
        f"{len(photos)} photos ({scene.made:,} before they were fused) "
        f"in {time.perf_counter() - begin:.1f} s.",
    )


class TrainingPhotos:
    """The data manager's training photos, undistorted; alpha is laid over black."""

    def __init__(self, data: FullImageDatamanager) -> None:
        self._cached = data.cached_train
        self._files = data.train_dataset.image_filenames

    def __len__(self) -> int:
        return len(self._cached)

    def __getitem__(self, index: int) -> Photo:
        """One photo as this project's functions take it."""
        image = self._cached[index]["image"].detach().cpu()
        values = image.float() / 255 if image.dtype == torch.uint8 else image
        if values.shape[-1] == 4:
            values = values[..., :3] * values[..., 3:]
        pixels = (values * 255).round().clamp(0, 255).to(torch.uint8).numpy()
        size = pixels.shape[0], pixels.shape[1]
        unknown = ExifFocal(None, None, None, None, None)
        return Photo(np.ascontiguousarray(pixels), self._files[index].name, size, size, unknown)


def point_gaussians(points: Float[Tensor, "n 3"], colors: Float[Tensor, "n 3"]) -> Gaussians:
    """Round Gaussians as wide as the mean distance of their nearest neighbours, hardly opaque."""
    distances = KDTree(points.numpy()).query(points.numpy(), k=NEIGHBOURS + 1)[0][:, 1:]
    width = torch.from_numpy(distances).float().mean(dim=1).clamp_min(1e-7)
    count = len(points)
    return Gaussians(
        means=points.float(),
        scales=width[:, None].expand(-1, 3).clone(),
        quaternions_wxyz=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        opacities=torch.full((count,), START_OPACITY),
        harmonics=((colors - 0.5) / SH_C0)[:, None],
        level=torch.zeros(count, dtype=torch.long),
    )


def random_gaussians(count: int, extent: float) -> Gaussians:
    """Such Gaussians anywhere in a cube of this side around the origin, by torch's own seed."""
    colors = 0.5 + SH_C0 * torch.rand(count, 3)
    return point_gaussians((torch.rand(count, 3) - 0.5) * extent, colors)
