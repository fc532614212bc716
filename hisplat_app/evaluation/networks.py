"""The evaluated methods that are networks: before training, and with the given weights."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hisplat_models.cameras import Cameras
from hisplat_models.config import PRESETS
from hisplat_models.gaussians import Gaussians
from hisplat_models.matching import MatchingPrior, match_views
from hisplat_models.network import HiSplat, HiSplatOutput
from hisplat_models.refinement import refine

from .methods import Context, MethodFailed, Views
from .shared_work import SharedWork

UNTRAINED_PRESET = "hisplat-small"


@dataclass(frozen=True)
class NetworkScene:
    """A network and what it predicts, drawn by the renderer that its Gaussians are meant for.

    Attributes:
        model: In evaluation mode, on ``device``.
        device: Where it works; photos come from, and views go back to, the CPU.
        refinement_steps: By which each scene is fitted to its photos before it is drawn.
    """

    model: HiSplat
    device: torch.device
    refinement_steps: int = 0

    def __call__(self, context: Context, targets: Cameras, size: tuple[int, int]) -> Views:
        """The predicted scene at the target cameras.

        Of one pair, all networks share the matches, and those that differ in ``refinement_steps``
        alone the prediction.
        """
        gaussians = context.work.once(
            ("refined", self.model, self.refinement_steps), lambda: self._scene(context)
        )
        with torch.no_grad():
            renderer = self.model.create_renderer(self.device)
            drawn = renderer(gaussians, targets[None].to(self.device), size)
        color = drawn.color[0].clamp(0, 1).cpu()
        return Views(color, drawn.alpha[0].cpu(), drawn.expected_depth()[0].cpu())

    def surface(
        self, images: Float[Tensor, "view 3 height width"], cameras: Cameras
    ) -> Float[Tensor, "view height width"]:
        """z-depth of the finest level's Gaussian of each pixel, in its own photo."""
        views, _, height, width = images.shape
        photos, seen = images[None].to(self.device), cameras[None].to(self.device)
        output = self._predict(photos, seen, SharedWork())
        means = output.stages[-1].gaussians.means[0].cpu()
        if len(means) != views * height * width:
            raise MethodFailed("the network's finest level is coarser than the photo")
        depth = cameras.project(means.view(views, height * width, 3))[..., 2]
        return depth.view(views, height, width)

    def _scene(self, context: Context) -> Gaussians:
        images = context.images[None].to(self.device)
        cameras = context.cameras[None].to(self.device)
        predicted = context.work.once(
            ("predicted", self.model), lambda: self._predict(images, cameras, context.work)
        )
        renderer = self.model.create_renderer(self.device)
        refined = refine(predicted.gaussians, images, cameras, renderer, self.refinement_steps)
        self._wait()
        return refined

    @torch.no_grad()
    def _predict(self, images: Tensor, cameras: Cameras, work: SharedWork) -> HiSplatOutput:
        prior = None
        if self.model.config.matching_prior:
            prior = work.once(("prior", self.device), lambda: self._match(images, cameras))
        output = self.model(images, cameras, prior=prior)
        self._wait()
        return output

    def _match(self, images: Tensor, cameras: Cameras) -> MatchingPrior:
        prior = match_views(images, cameras)
        self._wait()
        return prior

    def _wait(self) -> None:
        """Until a GPU has done it, so that its time is counted where it belongs."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def create_untrained(seed: int) -> HiSplat:
    """The small preset before training: it predicts the layered analytic scene."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return HiSplat(PRESETS[UNTRAINED_PRESET]).eval()
