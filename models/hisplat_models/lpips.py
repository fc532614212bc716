"""LPIPS with VGG-16: how far two images are apart in the eyes of a classifier.

Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018,
version 0.1, as its authors' package ``lpips`` computes it on torchvision's VGG-16. Both are
optional, and torchvision's ImageNet weights (528 MB) come from a file: nothing is downloaded here.
"""

import os
import pickle
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

WEIGHTS_FILE = "vgg16-397923af.pth"
WEIGHTS_URL = f"https://download.pytorch.org/models/{WEIGHTS_FILE}"
WEIGHTS_VARIABLE = "HISPLAT_LPIPS_WEIGHTS"

_TINY = 1e-18


class Lpips(nn.Module):
    """Frozen; ``load_lpips`` makes it. Differentiable with respect to both images."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        inner: Any = network.net
        inner.register_forward_hook(_nowhere_zero)

    def forward(
        self,
        images: Float[Tensor, "image 3 height width"],
        targets: Float[Tensor, "image 3 height width"],
    ) -> Float[Tensor, " image"]:
        """One distance per pair of images in [0, 1], 0 for equal ones; in float32 throughout."""
        with torch.autocast(images.device.type, enabled=False):
            return self.network(images.float(), targets.float(), normalize=True).flatten()

    def train(self, mode: bool = True) -> "Lpips":
        """Stays in evaluation mode: a measure has no dropout."""
        return super().train(False)


def load_lpips(device: torch.device | str = "cpu", weights: Path | None = None) -> Lpips:
    """LPIPS on this device.

    Args:
        device: Where to put it.
        weights: torchvision's ImageNet weights of VGG-16; by default the file that
            ``$HISPLAT_LPIPS_WEIGHTS`` names, else the one in torch's download folder.

    Raises:
        ImportError: without ``lpips`` and a torchvision that fits the installed torch.
        FileNotFoundError: without the weights.
        ValueError: if the file holds something else.
    """
    package = _import_package()
    path = _find_weights(weights)
    with warnings.catch_warnings():  # it uses torchvision's old argument names
        warnings.simplefilter("ignore", UserWarning)
        network = package.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    _fit_vgg(network.net, path)
    return Lpips(network).to(device)


def lpips_obstacle(weights: Path | None = None) -> str | None:
    """Why ``load_lpips`` cannot work here and what to do, None if nothing is missing."""
    try:
        _import_package()
        _find_weights(weights)
    except (ImportError, FileNotFoundError) as error:
        return str(error)
    return None


def _import_package() -> ModuleType:
    try:
        import torchvision  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError('LPIPS needs torchvision: pip install "hisplat-app[lpips]".') from error
    except RuntimeError as error:
        # What torchvision raises when its compiled part was built for another torch.
        raise ImportError(
            f"LPIPS needs a torchvision built for torch {torch.__version__}, the installed one is "
            f"not ({error}); reinstall both from the same place, see "
            "https://pytorch.org/get-started/locally."
        ) from error
    try:
        import lpips  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError('LPIPS needs lpips: pip install "hisplat-app[lpips]".') from error
    return lpips


def _find_weights(weights: Path | None) -> Path:
    named = os.environ.get(WEIGHTS_VARIABLE)
    if weights is None and named:
        weights = Path(named)
    path = weights or Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"LPIPS needs the VGG-16 weights of torchvision, there is no file {path}: download "
            f"{WEIGHTS_URL} to there, or name the file with --lpips-weights or ${WEIGHTS_VARIABLE}."
        )
    return path


def _fit_vgg(vgg: nn.Module, path: Path) -> None:
    """Fills the five slices of the feature extractor, whose layers keep torchvision's numbers."""
    wrong = f"Expected torchvision's VGG-16 weights ({WEIGHTS_FILE}) in {path}"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{wrong}, cannot read it: {error}.") from error
    if not isinstance(state, dict):
        raise ValueError(f"{wrong}, got a {type(state).__name__}.")
    wanted = {key: f"features.{key.split('.', 1)[1]}" for key in vgg.state_dict()}
    try:
        vgg.load_state_dict({ours: state[theirs] for ours, theirs in wanted.items()})
    except KeyError as error:
        raise ValueError(f"{wrong}, it lacks {error}.") from error
    except RuntimeError as error:
        raise ValueError(f"{wrong}, its shapes are others: {error}.") from error


def _nowhere_zero(module: nn.Module, inputs: Any, features: Any) -> Any:
    """The same features, but none exactly 0: the package divides by the length of each pixel's.

    The gradient of a length is NaN at zero, and one such pixel (dark, flat) would spoil that of
    the whole image. No digit of the distance changes.
    """
    return type(features)(*(feature + _TINY for feature in features))
