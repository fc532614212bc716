"""How close renders and disparities come to the truth.

SSIM is Wang et al., "Image quality assessment: from error visibility to structural similarity",
IEEE TIP 2004, equations 6 and 13, with the 11x11 Gaussian window (sigma 1.5) of that paper, per
colour channel, on the pixels whose whole window lies inside the image: what scikit-image gives with
``gaussian_weights=True, sigma=1.5, use_sample_covariance=False``; published view synthesis scores
were made without the last of these arguments, see ``ssim_map``.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import conv2d

SSIM_SIGMA = 1.5
SSIM_RADIUS = 5
"""The window is 2 * radius + 1 pixels wide; SSIM maps are smaller than images by 2 * radius."""


@dataclass(frozen=True)
class DisparityErrors:
    """Errors over the pixels whose true disparity is known.

    Attributes:
        end_point: Mean absolute error, pixels.
        bad_1: Share of pixels off by more than one pixel, in [0, 1].
        bad_2: Share of pixels off by more than two pixels, in [0, 1].
    """

    end_point: float
    bad_1: float
    bad_2: float


def psnr(
    image: Float[Tensor, "*batch 3 height width"],
    target: Float[Tensor, "*batch 3 height width"],
    mask: Bool[Tensor, "*batch height width"] | None = None,
) -> Float[Tensor, "*batch"]:
    """-10 log10 of the mean squared error of each image in [0, 1], dB; infinite if they are equal.

    With a ``mask`` only its pixels count; NaN where it is empty.
    """
    error = (image - target).square().mean(dim=-3)
    if mask is None:
        mean = error.mean(dim=(-2, -1))
    else:
        mean = (error * mask).sum(dim=(-2, -1)) / mask.sum(dim=(-2, -1))
    return -10.0 * torch.log10(mean)


def gain_corrected(
    image: Float[Tensor, "*batch 3 height width"],
    target: Float[Tensor, "*batch 3 height width"],
    mask: Bool[Tensor, "*batch height width"] | None = None,
) -> Float[Tensor, "*batch 3 height width"]:
    """The image times one gain per colour channel, clamped to [0, 1].

    The gain is the one that minimises the squared error before clamping, sum(image * target) /
    sum(image^2); it takes out differences of exposure and white balance between the photos. A
    channel that is black everywhere keeps its gain of 1.
    """
    weight = torch.ones_like(image[..., :1, :, :]) if mask is None else mask.unsqueeze(-3)
    energy = (weight * image.square()).sum(dim=(-2, -1), keepdim=True)
    product = (weight * image * target).sum(dim=(-2, -1), keepdim=True)
    gain = torch.where(energy > 0, product / energy.clamp_min(1e-12), 1.0)
    return (image * gain).clamp(0.0, 1.0)


def gain_corrected_psnr(
    image: Float[Tensor, "*batch 3 height width"],
    target: Float[Tensor, "*batch 3 height width"],
    mask: Bool[Tensor, "*batch height width"] | None = None,
) -> Float[Tensor, "*batch"]:
    """The PSNR after ``gain_corrected``, dB."""
    return psnr(gain_corrected(image, target, mask), target, mask)


def ssim_map(
    image: Float[Tensor, "*batch 3 height width"],
    target: Float[Tensor, "*batch 3 height width"],
    sample_covariance: bool = False,
) -> Float[Tensor, "*batch inner_height inner_width"]:
    """Structural similarity around every pixel, mean over colours, without the outer 5 pixels.

    Args:
        image: Values in [0, 1].
        target: What it is compared with.
        sample_covariance: Enlarge variances and covariances by 121 / 120, as scikit-image does by
            default (as if the window were an unweighted sample): some 0.0004 less on photos, but
            pixelSplat, MVSplat and HiSplat report their SSIM so.

    Raises:
        ValueError: if a side is shorter than the 11-pixel window.
    """
    window = 2 * SSIM_RADIUS + 1
    if min(image.shape[-2:]) < window:
        raise ValueError(
            f"SSIM needs sides of at least {window} pixels, got {tuple(image.shape[-2:])}."
        )
    # The moments nearly cancel in flat areas: float32 is not enough for five digits.
    a, b = image.double().flatten(0, -3), target.double().flatten(0, -3)
    moments = _blurred(torch.stack([a, b, a * a, b * b, a * b]))
    mean_a, mean_b, square_a, square_b, product = moments
    variance_a, variance_b = square_a - mean_a**2, square_b - mean_b**2
    covariance = product - mean_a * mean_b
    if sample_covariance:
        factor = window**2 / (window**2 - 1)
        variance_a, variance_b = factor * variance_a, factor * variance_b
        covariance = factor * covariance
    c1, c2 = 0.01**2, 0.03**2
    values = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    )
    values = values.unflatten(0, image.shape[:-2])
    return values.mean(dim=-3).to(image.dtype)


def ssim(
    image: Float[Tensor, "*batch 3 height width"],
    target: Float[Tensor, "*batch 3 height width"],
    mask: Bool[Tensor, "*batch height width"] | None = None,
    sample_covariance: bool = False,
) -> Float[Tensor, "*batch"]:
    """Mean of ``ssim_map``, with a ``mask`` over its pixels only (NaN where it is empty)."""
    values = ssim_map(image, target, sample_covariance)
    if mask is None:
        return values.mean(dim=(-2, -1))
    inner = mask[..., SSIM_RADIUS:-SSIM_RADIUS, SSIM_RADIUS:-SSIM_RADIUS]
    return (values * inner).sum(dim=(-2, -1)) / inner.sum(dim=(-2, -1))


def disparity_errors(
    disparity: Float[Tensor, "height width"], truth: Float[Tensor, "height width"]
) -> DisparityErrors:
    """Errors of a dense disparity map in pixels; ``truth`` is NaN where it is unknown.

    Raises:
        ValueError: if the truth is unknown everywhere, or the estimate is not finite where it is
            known.
    """
    known = torch.isfinite(truth)
    if not known.any():
        raise ValueError("The true disparity is unknown everywhere.")
    error = (disparity[known] - truth[known]).abs()
    if not torch.isfinite(error).all():
        raise ValueError(
            "The estimated disparity has NaN or infinite pixels; fill them, so that all methods "
            "are compared on the same pixels."
        )
    return DisparityErrors(
        end_point=error.mean().item(),
        bad_1=(error > 1).to(error.dtype).mean().item(),
        bad_2=(error > 2).to(error.dtype).mean().item(),
    )


def _blurred(stack: Float[Tensor, "moment plane height width"]) -> Tensor:
    offsets = torch.arange(-SSIM_RADIUS, SSIM_RADIUS + 1, dtype=stack.dtype, device=stack.device)
    weights = torch.exp(-0.5 * (offsets / SSIM_SIGMA) ** 2)
    weights = weights / weights.sum()
    planes = stack.flatten(0, 1).unsqueeze(1)
    planes = conv2d(conv2d(planes, weights[None, None, :, None]), weights[None, None, None, :])
    return planes.squeeze(1).unflatten(0, stack.shape[:2])
