"""The network that is measured and what it is given."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hisplat_models.cameras import Cameras
from hisplat_models.channels_last import GroupNorm
from hisplat_models.config import PRESETS
from hisplat_models.inference import Precision, prepare
from hisplat_models.network import HiSplat

NEAR, FAR = 1.0, 100.0


@dataclass(frozen=True)
class Case:
    """One way of running the network.

    Attributes:
        preset: Name of the configuration.
        height: Of the photos, pixels.
        width: Of the photos.
        threads: Of torch and our own loops.
        precision: See ``prepare``.
        compile: See ``prepare``.
        device: "cpu" or "cuda".
    """

    preset: str
    height: int
    width: int
    threads: int = 1
    precision: Precision = "fp32"
    compile: bool = False
    device: str = "cpu"

    @property
    def name(self) -> str:
        """E.g. "bf16, compiled"."""
        return self.precision + (", compiled" if self.compile else "")


def create_network(case: Case) -> HiSplat:
    """The preset's network with seeded random weights, the same for every precision."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = HiSplat(PRESETS[case.preset]).eval().requires_grad_(False)
        for module in network.modules():
            if isinstance(module, GroupNorm):  # some start at zero, which would hide their branch
                nn.init.normal_(module.weight, 1.0, 0.1)
    return network.to(case.device)


def prepared_network(case: Case) -> HiSplat:
    """The same made ready in the way that is measured."""
    return prepare(create_network(case), case.precision, case.compile)


def photos(case: Case) -> tuple[Tensor, Cameras]:
    """Two smooth random photos and cameras side by side."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(2, 3, case.height // 16, case.width // 16, generator=generator)
    size = (case.height, case.width)
    images = nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1)
    poses = torch.eye(4).repeat(1, 2, 1, 1)
    poses[0, 1, 0, 3] = 0.3
    intrinsics = torch.tensor([[0.9, 0, 0.5], [0, 0.9 * case.width / case.height, 0.5], [0, 0, 1]])
    ones = torch.ones(1, 2)
    cameras = Cameras(poses, intrinsics.expand(1, 2, 3, 3), NEAR * ones, FAR * ones)
    return images[None].to(case.device), cameras.to(case.device)
