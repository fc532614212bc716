"""Gaussian scenes as the .splat of antimatter15's viewer: 32 bytes a Gaussian, no header.

Position and standard deviations as float32, colour and opacity as bytes, the rotation as four
bytes (wxyz). Harmonics and levels are lost.
"""

import numpy as np

from hisplat_models.gaussians import SH_C0, Gaussians

from .scene_values import SceneFileError, ready_to_write, tidied

RECORD = np.dtype(
    [("mean", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("rotation", "u1", 4)]
)


def to_splat_bytes(gaussians: Gaussians) -> bytes:
    """The content of a .splat, coarsest level first.

    Raises:
        ValueError: if the set is batched, or holds NaN, infinite or non-positive scales.
    """
    gaussians = ready_to_write(gaussians)
    records = np.zeros(gaussians.count, dtype=RECORD)
    records["mean"] = gaussians.means.numpy()
    records["scale"] = gaussians.scales.numpy()
    rgba = np.concatenate(
        [gaussians.base_colors.numpy(), gaussians.opacities.numpy()[:, None]], axis=1
    )
    records["rgba"] = np.rint(rgba.clip(0, 1) * 255)
    rotations = gaussians.quaternions_wxyz.double().numpy()
    rotations = rotations / np.linalg.norm(rotations, axis=1, keepdims=True)
    records["rotation"] = np.rint(rotations * 128 + 128).clip(0, 255)
    return records.tobytes()


def from_splat_bytes(content: bytes, name: str = "the file") -> Gaussians:
    """The scene in the content of a .splat, called ``name`` in messages.

    Raises:
        SceneFileError: if the size is not that of whole Gaussians, or none is usable.
    """
    if len(content) % RECORD.itemsize:
        raise SceneFileError(
            f"{name} is no complete .splat: {len(content)} bytes are no multiple of "
            f"{RECORD.itemsize}."
        )
    records = np.frombuffer(content, dtype=RECORD)
    rgba = records["rgba"].astype(np.float64) / 255
    return tidied(
        name,
        records["mean"],
        records["scale"],
        (records["rotation"].astype(np.float64) - 128) / 128,
        rgba[:, 3],
        ((rgba[:, :3] - 0.5) / SH_C0)[:, None],
    )
