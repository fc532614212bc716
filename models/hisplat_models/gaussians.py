"""A set of 3D Gaussians and what it knows about itself."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

SH_C0 = 0.28209479177387814  # the constant spherical harmonic, 1 / (2 sqrt(pi))


@dataclass(frozen=True)
class Gaussians:
    """3D Gaussians in the world frame; leading axes are free (none for a scene, or batch).

    Attributes:
        means: Centres, world units.
        scales: Standard deviations along the Gaussian's own axes, world units, > 0.
        quaternions_wxyz: Unit rotations from the Gaussian's axes to the world, real part first.
        opacities: In [0, 1].
        harmonics: Spherical-harmonic coefficients per colour channel, 3DGS basis and order;
            colour = 0.5 + SH_C0 * harmonics[..., 0, :] + view-dependent bands. ``sh`` is
            (degree + 1) squared.
        level: The coarse-to-fine stage that made each Gaussian, 0 is the coarsest.
    """

    means: Float[Tensor, "*batch n 3"]
    scales: Float[Tensor, "*batch n 3"]
    quaternions_wxyz: Float[Tensor, "*batch n 4"]
    opacities: Float[Tensor, "*batch n"]
    harmonics: Float[Tensor, "*batch n sh 3"]
    level: Int[Tensor, "*batch n"]

    @property
    def count(self) -> int:
        """Number of Gaussians (per batch element)."""
        return self.means.shape[-2]

    @property
    def sh_degree(self) -> int:
        """Degree of the spherical harmonics, 0 for plain colours."""
        return round(self.harmonics.shape[-2] ** 0.5) - 1

    @property
    def base_colors(self) -> Float[Tensor, "*batch n 3"]:
        """RGB of the constant band, unclamped, [0, 1] where it is displayable."""
        return 0.5 + SH_C0 * self.harmonics[..., 0, :]

    def covariances(self) -> Float[Tensor, "*batch n 3 3"]:
        """R S S^T R^T in the world frame."""
        half = quaternions_to_matrices(self.quaternions_wxyz) * self.scales[..., None, :]
        return half @ half.mT

    def transformed(self, pose: Float[Tensor, "4 4"]) -> "Gaussians":
        """The set after a rigid motion of the world; only degree-0 colours can be rotated.

        Raises:
            ValueError: if the set has view-dependent harmonics and ``pose`` turns the world.
        """
        rotation = pose[:3, :3]
        turns = not torch.allclose(rotation, torch.eye(3).to(rotation), atol=1e-6)
        if self.sh_degree > 0 and turns:
            raise ValueError(
                f"Cannot rotate harmonics of degree {self.sh_degree}: transform a degree-0 set."
            )
        turn = matrix_to_quaternion(rotation).expand_as(self.quaternions_wxyz)
        return replace(
            self,
            means=self.means @ rotation.mT + pose[:3, 3],
            quaternions_wxyz=multiply_quaternions(turn, self.quaternions_wxyz),
        )

    def scaled(self, factor: float) -> "Gaussians":
        """The set in a world whose lengths are multiplied by ``factor`` (> 0)."""
        return replace(self, means=self.means * factor, scales=self.scales * factor)

    def only_level(self, level: int) -> "Gaussians":
        """The Gaussians of one stage; for sets without leading axes.

        Raises:
            ValueError: if the set is batched (its levels may differ in number).
        """
        if self.means.dim() != 2:
            raise ValueError(f"Expected means of shape (n, 3), got {tuple(self.means.shape)}.")
        return self[self.level == level]

    def __getitem__(self, index: object) -> "Gaussians":
        """Indexes the first axis of all fields alike (batch elements, or Gaussians of a scene)."""
        return Gaussians(*(getattr(self, f.name)[index] for f in fields(self)))

    def to(self, device: torch.device | str) -> "Gaussians":
        """All fields moved to a device."""
        return Gaussians(*(getattr(self, f.name).to(device) for f in fields(self)))

    def detach(self) -> "Gaussians":
        """The same values without their history."""
        return Gaussians(*(getattr(self, f.name).detach() for f in fields(self)))

    @staticmethod
    def cat(parts: "Sequence[Gaussians]") -> "Gaussians":
        """The union of sets with equal leading axes and SH degree, in the given order."""
        axis = parts[0].means.dim() - 2
        return Gaussians(
            *(torch.cat([getattr(p, f.name) for p in parts], dim=axis) for f in fields(Gaussians))
        )


def quaternions_to_matrices(quaternions_wxyz: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n 3 3"]:
    """Rotation matrices of quaternions of any non-zero length."""
    w, x, y, z = torch.nn.functional.normalize(quaternions_wxyz, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def matrix_to_quaternion(rotation: Float[Tensor, "*n 3 3"]) -> Float[Tensor, "*n 4"]:
    """The unit quaternions (wxyz, w >= 0) of rotation matrices.

    Each is the dominant eigenvector of Bar-Itzhack's symmetric 4x4 matrix, which is stable for
    every rotation, half turns included.
    """
    r = rotation.double()
    trace = r.diagonal(dim1=-2, dim2=-1).sum(-1)
    k = r.new_zeros(*r.shape[:-2], 4, 4)
    k[..., 0, 0] = trace
    k[..., 0, 1] = k[..., 1, 0] = r[..., 2, 1] - r[..., 1, 2]
    k[..., 0, 2] = k[..., 2, 0] = r[..., 0, 2] - r[..., 2, 0]
    k[..., 0, 3] = k[..., 3, 0] = r[..., 1, 0] - r[..., 0, 1]
    eye = torch.eye(3, dtype=r.dtype, device=r.device)
    k[..., 1:, 1:] = r + r.mT - trace[..., None, None] * eye
    quaternion = torch.linalg.eigh(k).eigenvectors[..., -1]
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion).to(rotation)


def multiply_quaternions(
    left: Float[Tensor, "*n 4"], right: Float[Tensor, "*n 4"]
) -> Float[Tensor, "*n 4"]:
    """Hamilton product; as rotations, ``right`` is applied first."""
    aw, ax, ay, az = left.unbind(-1)
    bw, bx, by, bz = right.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        dim=-1,
    )
