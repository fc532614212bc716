"""View-dependent colours as the published network means them, turned into ours without loss.

The published network (HiSplat, ICLR 2025) predicts real spherical harmonics whose polar axis is
y. It turns them with the camera by one set of signs and its rasteriser evaluates them with
another, and the rasteriser's last but one function is z (z^2 - x^2) where y (z^2 - x^2) was
meant. Its weights were trained through all that, so the right colours are those that its own
rasteriser would draw.

Still every function of that rasteriser is a polynomial of degree three or less on the sphere and
so a sum of the usual (3DGS) basis functions. Hence one constant matrix takes what it would draw
into coefficients that draw the same in any viewer: only the rotation and this matrix are special,
``Gaussians.harmonics`` are not.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from .spherical_harmonics import MAX_DEGREE, fitted_on_sphere, sh_basis

_FLAWED = 14  # the function with z in the place of y


def published_basis(
    directions: Float[Tensor, "*n 3"], degree: int = MAX_DEGREE
) -> Float[Tensor, "*n sh"]:
    """What the published rasteriser multiplies coefficients with, degree 0 to 3."""
    basis = sh_basis(_polar_y(directions), degree)
    if degree < 3:
        return basis
    x, _, z = directions.unbind(-1)
    flawed = 1.445305721320277 * z * (z * z - x * x)
    return torch.cat([basis[..., :_FLAWED], flawed[..., None], basis[..., _FLAWED + 1 :]], dim=-1)


def published_to_standard(degree: int) -> Float[Tensor, "sh sh"]:
    """Takes coefficients of ``published_basis`` to those of ``sh_basis`` (float64, exact)."""
    return fitted_on_sphere(
        lambda d: sh_basis(d, degree), lambda d: published_basis(d, degree), torch.eye(3)
    )


def published_rotation(rotation: Float[Tensor, "*n 3 3"], degree: int) -> Float[Tensor, "*n sh sh"]:
    """The matrices by which the published network turns coefficients, degree 0 to 4.

    They are right for harmonics without alternating signs (``unsigned_basis``); with the signs
    of ``published_basis`` they are not the rotation of the colours, yet what was trained with.
    """
    return fitted_on_sphere(
        lambda d: unsigned_basis(d, degree), lambda d: unsigned_basis(d, degree), rotation
    ).to(rotation)


def unsigned_basis(directions: Float[Tensor, "*n 3"], degree: int) -> Float[Tensor, "*n sh"]:
    """Harmonics with polar axis y and without Condon-Shortley signs, degree 0 to 4."""
    rolled = _polar_y(directions)
    basis = sh_basis(rolled, min(degree, MAX_DEGREE))
    orders = [m for band in range(MAX_DEGREE + 1) for m in range(-band, band + 1)]
    signs = basis.new_tensor([(-1.0) ** m for m in orders[: basis.shape[-1]]])
    basis = basis * signs
    return torch.cat([basis, _fourth_band(rolled)], dim=-1) if degree > MAX_DEGREE else basis


def _polar_y(directions: Tensor) -> Tensor:
    return directions.roll(1, dims=-1)  # (z, x, y)


def _fourth_band(directions: Tensor) -> Tensor:
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    band = [
        2.5033429417967046 * x * y * (xx - yy),
        1.7701307697799304 * y * z * (3 * xx - yy),
        0.9461746957575601 * x * y * (7 * zz - 1),
        0.6690465435572892 * y * z * (7 * zz - 3),
        0.10578554691520431 * (35 * zz * zz - 30 * zz + 3),
        0.6690465435572892 * x * z * (7 * zz - 3),
        0.47308734787878004 * (xx - yy) * (7 * zz - 1),
        1.7701307697799304 * x * z * (xx - 3 * yy),
        0.6258357354491761 * (xx * (xx - 3 * yy) - yy * (3 * xx - yy)),
    ]
    return torch.stack(band, dim=-1)
