"""Real spherical harmonics in the 3DGS basis and order, and their rotation."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

MAX_DEGREE = 3


def sh_basis(directions: Float[Tensor, "*n 3"], degree: int) -> Float[Tensor, "*n sh"]:
    """The (degree + 1) squared basis functions at unit directions, degree 0 to 3."""
    x, y, z = directions.unbind(-1)
    basis = [torch.full_like(x, 0.28209479177387814)]
    if degree >= 1:
        basis += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if degree >= 2:
        basis += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (2 * z * z - x * x - y * y),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (x * x - y * y),
        ]
    if degree >= 3:
        basis += [
            -0.5900435899266435 * y * (3 * x * x - y * y),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (4 * z * z - x * x - y * y),
            0.3731763325901154 * z * (2 * z * z - 3 * x * x - 3 * y * y),
            -0.4570457994644658 * x * (4 * z * z - x * x - y * y),
            1.445305721320277 * z * (x * x - y * y),
            -0.5900435899266435 * x * (x * x - 3 * y * y),
        ]
    return torch.stack(basis, dim=-1)


def rotation_of_harmonics(
    rotation: Float[Tensor, "*n 3 3"], degree: int
) -> Float[Tensor, "*n sh sh"]:
    """Matrices D with f'(R d) = f(d): they turn coefficients along with the world."""

    def basis(directions: Tensor) -> Tensor:
        return sh_basis(directions, degree)

    return fitted_on_sphere(basis, basis, rotation).to(rotation)


def fitted_on_sphere(
    wanted: Callable[[Tensor], Tensor],
    given: Callable[[Tensor], Tensor],
    rotation: Float[Tensor, "*n 3 3"],
) -> Float[Tensor, "*n sh sh"]:
    """Matrices D (float64) with wanted(d) D c = given(R^T d) c for all directions d and all c.

    Found by sampling: D = pinv(wanted(d)) given(R^T d) at more directions than functions. Exact
    if the functions of ``given``, turned, are sums of those of ``wanted``. Bands of spherical
    harmonics are, because rotations map each band onto itself.
    """
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(64, 3, generator=generator, dtype=torch.float64)
    samples = torch.nn.functional.normalize(samples, dim=-1).to(rotation.device)
    turned = samples @ rotation.double()  # rows are R^T d
    return torch.linalg.pinv(wanted(samples)) @ given(turned)
