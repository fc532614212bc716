"""Colours of the published network in the basis that every viewer knows."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hisplat_models.cameras import Cameras
from hisplat_models.gaussian_head import damped_by_band, gaussians_from_raw
from hisplat_models.published_colors import (
    published_basis,
    published_rotation,
    published_to_standard,
    unsigned_basis,
)
from hisplat_models.spherical_harmonics import rotation_of_harmonics, sh_basis

from .scenes import rigid_pose, sideways_cameras

ROTATION = torch.linalg.qr(rigid_pose(0.9, (0.0, 0.0, 0.0))[:3, :3].double()).Q


def directions(count: int = 100, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, 3, generator=generator, dtype=torch.float64), dim=-1)


def as_the_published_rasteriser(direction: Tensor) -> Tensor:
    """Its sixteen functions, written out."""
    x, y, z = direction.unbind(-1)
    c1, c2, c3 = 0.4886025119029199, 1.0925484305920792, 0.5900435899266435
    functions = [
        torch.full_like(x, 0.28209479177387814),
        -c1 * x,
        c1 * y,
        -c1 * z,
        c2 * z * x,
        -c2 * x * y,
        0.31539156525252005 * (2 * y * y - z * z - x * x),
        -c2 * z * y,
        0.5462742152960396 * (z * z - x * x),
        -c3 * x * (3 * z * z - x * x),
        2.890611442640554 * z * x * y,
        -0.4570457994644658 * x * (4 * y * y - z * z - x * x),
        0.3731763325901154 * y * (2 * y * y - 3 * z * z - 3 * x * x),
        -0.4570457994644658 * z * (4 * y * y - z * z - x * x),
        1.445305721320277 * z * (z * z - x * x),
        -c3 * z * (z * z - 3 * x * x),
    ]
    return torch.stack(functions, dim=-1)


def test_basis_is_the_published_rasterisers():
    d = directions()
    torch.testing.assert_close(published_basis(d), as_the_published_rasteriser(d))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_conversion_to_our_basis_is_exact(degree: int):
    d = directions()
    ours = sh_basis(d, degree) @ published_to_standard(degree)
    torch.testing.assert_close(ours, published_basis(d, degree), rtol=0, atol=1e-14)


def test_unsigned_harmonics_are_orthonormal():
    heights, weights = np.polynomial.legendre.leggauss(12)
    angles = torch.arange(24, dtype=torch.float64) * (2 * torch.pi / 24)
    y = torch.from_numpy(heights)[:, None].expand(-1, 24)
    radius = (1 - y * y).sqrt()
    d = torch.stack([radius * angles.sin(), y, radius * angles.cos()], dim=-1).flatten(0, 1)
    w = torch.from_numpy(weights)[:, None].expand(-1, 24).flatten() * (2 * torch.pi / 24)
    basis = unsigned_basis(d, 4)
    gram = basis.mT @ (basis * w[:, None])
    torch.testing.assert_close(gram, torch.eye(25, dtype=gram.dtype), rtol=0, atol=1e-12)


def test_published_rotation_turns_unsigned_harmonics_band_by_band():
    turn = published_rotation(ROTATION, 4)
    d = directions()
    torch.testing.assert_close(unsigned_basis(d, 4) @ turn, unsigned_basis(d @ ROTATION, 4))
    torch.testing.assert_close(turn[1:4, 1:4], ROTATION)  # the first band is x, y, z itself
    torch.testing.assert_close(turn @ turn.mT, torch.eye(25, dtype=turn.dtype))
    band = torch.tensor([0] + [1] * 3 + [2] * 5 + [3] * 7 + [4] * 9)
    assert turn[band[:, None] != band].abs().max() < 1e-12


def test_signs_are_why_the_published_rotation_is_not_one_of_the_colours():
    flip = torch.diag(torch.tensor([-1.0, 1.0, -1.0], dtype=torch.float64))
    bands = slice(0, 9)  # the flaw is in the third band
    convert = published_to_standard(3)[bands, bands]
    exact = convert.mT @ rotation_of_harmonics(ROTATION, 2) @ convert
    torch.testing.assert_close(published_rotation(flip @ ROTATION @ flip, 2), exact)
    assert (published_rotation(ROTATION, 2) - exact).abs().max() > 0.1


def one_gaussian(raw: Tensor, cameras: Cameras, published: bool) -> Tensor:
    shape = (1, 2, 1, 1)
    gaussians = gaussians_from_raw(
        raw, torch.ones(shape), torch.ones(shape), cameras, 0, published=published
    )
    return gaussians.harmonics


def turned(cameras: Cameras, rotation: Tensor) -> Cameras:
    pose = torch.eye(4)
    pose[:3, :3] = rotation
    return cameras.transformed(pose)


def test_gaussians_hold_what_the_published_rasteriser_would_draw():
    raw = torch.randn(1, 2, 84, 1, 1, generator=torch.Generator().manual_seed(0))
    cameras = turned(sideways_cameras(2, 0.6)[None], ROTATION.float())
    ours = one_gaussian(raw, cameras, published=True)
    assert ours.shape == (1, 2, 16, 3)

    predicted = damped_by_band(raw[0, :, 9:, 0, 0].unflatten(-1, (3, 25)).mT).double()
    theirs = published_rotation(ROTATION, 4) @ predicted
    d = directions(20)
    torch.testing.assert_close(
        sh_basis(d, 3) @ ours[0].double(),
        as_the_published_rasteriser(d) @ theirs[:, :16],
        rtol=0,
        atol=1e-6,
    )


@pytest.mark.parametrize("published", [True, False])
def test_only_our_own_colours_turn_with_the_world(published: bool):
    raw = torch.randn(1, 2, 84, 1, 1, generator=torch.Generator().manual_seed(0))
    cameras = sideways_cameras(2, 0.6)[None]
    there = one_gaussian(raw, turned(cameras, ROTATION.float()), published)[0].double()
    here = one_gaussian(raw, cameras, published)[0].double()
    d = directions(20)
    difference = (sh_basis(d @ ROTATION.mT, 3) @ there - sh_basis(d, 3) @ here).abs().max()
    assert (difference < 1e-5) != published


def test_damping_holds_higher_bands_back():
    damped = damped_by_band(torch.ones(25, 3))[:, 0]
    by_band = [1, *[0.025] * 3, *[0.00625] * 5, *[0.0015625] * 7, *[0.000390625] * 9]
    assert damped.tolist() == pytest.approx(by_band)
