"""What every renderer refuses."""

import torch

from ..cameras import Cameras
from ..gaussians import Gaussians
from ..spherical_harmonics import MAX_DEGREE


def check_inputs(gaussians: Gaussians, cameras: Cameras, image_size: tuple[int, int]) -> None:
    """Raises ValueError for shapes that don't fit and for parameters that aren't finite."""
    if gaussians.means.dim() != 3:
        raise ValueError(
            f"Expected batched Gaussians with means (batch, n, 3), got {_shape(gaussians.means)}; "
            "a single scene needs a leading axis of 1."
        )
    if len(cameras.batch_shape) != 2:
        raise ValueError(
            "Expected cameras with leading axes (batch, view), got "
            f"camera_to_world {_shape(cameras.camera_to_world)}."
        )
    if gaussians.means.shape[0] != cameras.batch_shape[0]:
        raise ValueError(
            f"Expected as many scenes as camera batches, got {gaussians.means.shape[0]} "
            f"and {cameras.batch_shape[0]}."
        )
    if gaussians.sh_degree > MAX_DEGREE:
        raise ValueError(
            f"Expected harmonics of degree 0 to {MAX_DEGREE}, got {gaussians.harmonics.shape[-2]} "
            f"coefficients; keep the first {(MAX_DEGREE + 1) ** 2}."
        )
    if min(image_size) < 1:
        raise ValueError(f"Expected a positive image size (height, width), got {image_size}.")
    for field in ("means", "scales", "quaternions_wxyz", "opacities", "harmonics"):
        check_finite(f"gaussians.{field}", getattr(gaussians, field))
    for field in ("camera_to_world", "intrinsics"):
        check_finite(f"cameras.{field}", getattr(cameras, field))


def check_finite(name: str, values: torch.Tensor) -> None:
    """Raises ValueError for NaN or infinite values."""
    # The sum is finite unless an element isn't, or it overflows: cheaper than asking each.
    if torch.isfinite(values.detach().sum()):
        return
    bad = ~torch.isfinite(values)
    if bad.any():
        raise ValueError(f"Expected finite {name}, got {int(bad.sum())} NaN or infinite values.")


def _shape(tensor: torch.Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)
