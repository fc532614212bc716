"""Random scenes, and by how much each format may change them."""

from dataclasses import dataclass

import torch

from hisplat_models.gaussians import Gaussians


def scene(count: int = 60, degree: int = 2) -> Gaussians:
    """Random Gaussians, coarsest level first, within what every format can hold."""
    g = torch.Generator().manual_seed(0)
    rotations = torch.nn.functional.normalize(torch.randn(count, 4, generator=g), dim=-1)
    harmonics = torch.randn(count, (degree + 1) ** 2, 3, generator=g)
    return Gaussians(
        means=5 * torch.randn(count, 3, generator=g),
        scales=torch.exp(torch.randn(count, 3, generator=g) - 3),
        quaternions_wxyz=rotations,
        opacities=torch.rand(count, generator=g),
        harmonics=(0.3 * harmonics).clamp(-0.9, 0.9),
        level=torch.sort(torch.randint(0, 3, (count,), generator=g)).values,
    )


@dataclass(frozen=True)
class Change:
    """Largest differences after writing; None where the format does not hold the value."""

    mean: float = 1e-6
    relative_scale: float | None = 1e-5
    degrees: float | None = 0.05
    opacity: float = 1e-6
    color: float = 1e-6
    harmonics: float | None = 1e-6
    keeps_levels: bool = True


ALLOWED = {
    ".ply": Change(),
    # A chunk spans the whole random scene: 30 units / 1024; the log of scales 7 / 1024.
    ".compressed.ply": Change(0.02, 0.005, 0.2, 0.5 / 255, 0.002, 4 / 255, True),
    ".splat": Change(0, 0, 1.0, 0.5 / 255, 0.5 / 255, None, False),
    ".spz": Change(2**-18 + 1e-6, 0.033, 0.25, 0.5 / 255, 0.5 / 255 / 0.5, 1 / 128, False),
}
"""By file ending."""


def assert_alike(read: Gaussians, expected: Gaussians, allowed: Change) -> None:
    """Compares Gaussian by Gaussian, whatever their order in the file is."""
    order = torch.cdist(read.means.double(), expected.means.double()).argmin(dim=1)
    assert sorted(order.tolist()) == list(range(expected.count))
    expected = expected[order]
    close = {"rtol": 1e-5, "check_dtype": False}
    torch.testing.assert_close(read.means, expected.means, atol=allowed.mean, **close)
    torch.testing.assert_close(
        read.opacities, expected.opacities, atol=allowed.opacity + 1e-5, **close
    )
    colors = expected.base_colors.clamp(0, 1) if allowed.harmonics is None else expected.base_colors
    torch.testing.assert_close(read.base_colors, colors, atol=allowed.color + 1e-5, **close)
    if allowed.relative_scale is not None:
        ratio = (read.scales / expected.scales).log().abs().max()
        assert ratio <= allowed.relative_scale + 1e-5
    if allowed.degrees is not None:
        difference = torch.minimum(
            (read.quaternions_wxyz - expected.quaternions_wxyz).double().norm(dim=1),
            (read.quaternions_wxyz + expected.quaternions_wxyz).double().norm(dim=1),
        )
        assert (4 * (difference / 2).asin()).rad2deg().max() <= allowed.degrees
    if allowed.harmonics is None:
        assert read.sh_degree == 0
    else:
        wanted = expected.harmonics[:, 1:16]
        torch.testing.assert_close(read.harmonics[:, 1:], wanted, atol=allowed.harmonics, **close)
    levels = expected.level if allowed.keeps_levels else torch.zeros_like(expected.level)
    assert torch.equal(read.level, levels)
