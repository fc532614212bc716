"""Reconstructions one after the other, with networks that stay loaded."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from hisplat_data_tools.distortion import RadialDistortion
from hisplat_models.cameras import Cameras
from hisplat_models.checkpoints import load_model
from hisplat_models.inference import Precision, prepare
from hisplat_models.network import HiSplat
from hisplat_models.smaller_networks import Depth

from .defaults import DEFAULT_REFINE
from .reconstruction import (
    Device,
    PhotoBytes,
    Preview,
    Reconstruction,
    choose_device,
    reconstruct,
)
from .session import MOST_WAITING, Session, Work
from .step_clock import Progress

WARM_UP_SIDE = 64
MOST_NETWORKS = 2
"""Kept in memory; one more replaces the one that was not needed for longest."""


@dataclass(frozen=True)
class ReconstructionRequest:
    """Two or more photos, and what is known or wished about them; see ``reconstruct``.

    ``model`` and ``size`` are the session's own where they are None. ``preview`` is called on the
    session's thread.
    """

    photos: tuple[Path | PhotoBytes, ...]
    cameras: Path | None = None
    focal_px: float | None = None
    fov_degrees: float | None = None
    principal_point: tuple[float, float] | None = None
    distortion: RadialDistortion | None = None
    model: str | None = None
    size: int | None = None
    preview: Callable[[Preview], None] | None = None


class ReconstructionSession(Session[ReconstructionRequest, Reconstruction]):
    """A worker that owns the networks.

    Args:
        model: A bundled name or a .safetensors file; loaded at once.
        device: Where to load networks.
        size: Working size of reconstructions that wish none.
        warm_up: Whether to compile everything on a tiny pair before the first request.
        precision: Of the networks; see ``hisplat_models.inference.prepare``.
        compile: Whether to compile the networks; the same.
        depth: Of ``model``, if it is elastic; other networks are loaded at their full depth.
        most_waiting: How many clients may wait at a time.
        refine: Steps by which scenes are fitted to their photos.
    """

    def __init__(
        self,
        model: str,
        device: Device,
        size: int,
        warm_up: bool,
        precision: Precision = "fp32",
        compile: bool = False,
        depth: Depth = "full",
        most_waiting: int = MOST_WAITING,
        refine: int = DEFAULT_REFINE,
    ) -> None:
        def prepare_worker() -> Work[ReconstructionRequest, Reconstruction]:
            return _prepared(model, device, size, warm_up, precision, compile, depth, refine)

        super().__init__(prepare_worker, most_waiting)


def _prepared(
    model: str,
    device: Device,
    size: int,
    warm_up: bool,
    precision: Precision,
    compile: bool,
    depth: Depth,
    refine: int,
) -> Callable[[ReconstructionRequest, Progress], Reconstruction]:
    def load(name: str) -> HiSplat:
        network = load_model(name, choose_device(device), depth if name == model else "full")
        return prepare(network, precision, compile)

    networks = OrderedDict({model: load(model)})
    if warm_up:
        _warm_up(networks[model])

    def network_for(name: str) -> HiSplat:
        if name not in networks:
            while len(networks) >= MOST_NETWORKS:
                networks.popitem(last=False)
            networks[name] = load(name)
        networks.move_to_end(name)
        return networks[name]

    def work(request: ReconstructionRequest, progress: Progress) -> Reconstruction:
        progress("loading the network", 0.0)
        network = network_for(request.model or model)
        return reconstruct(
            *request.photos,
            cameras=request.cameras,
            focal_px=request.focal_px,
            fov_degrees=request.fov_degrees,
            principal_point=request.principal_point,
            distortion=request.distortion,
            model=network,
            size=request.size or size,
            refine=refine,
            progress=progress,
            preview=request.preview,
        )

    return work


def _warm_up(network: HiSplat) -> None:
    """One tiny reconstruction, so that compiled kernels are ready for the first photos."""
    side = WARM_UP_SIDE
    noise = torch.rand(1, 2, 3, side, side, generator=torch.Generator().manual_seed(0))
    pose = torch.eye(4).repeat(1, 2, 1, 1)
    pose[0, 1, 0, 3] = 0.2
    intrinsics = torch.tensor([[1.0, 0, 0.5], [0, 1.0, 0.5], [0, 0, 1.0]]).expand(1, 2, 3, 3)
    cameras = Cameras(pose, intrinsics, torch.full((1, 2), 1.0), torch.full((1, 2), 10.0))
    where = next(network.parameters()).device
    with torch.no_grad():
        network(noise.to(where), cameras.to(where))
