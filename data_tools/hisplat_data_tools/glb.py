"""Gaussian scenes as a .glb point cloud: what Blender and other 3D programs open directly.

One point a Gaussian at its centre, with its colour and, as the colour's alpha, its opacity. The
points keep their world coordinates; the node that holds them turns OpenCV axes (y down, z forward)
to those of glTF (y up, z backward), so programs show the scene upright. Sizes and rotations of the
Gaussians are lost.
"""

import json
import struct

import numpy as np
from jaxtyping import Float

from hisplat_models.gaussians import Gaussians

from .scene_values import ready_to_write

_FLOAT, _USHORT = 5126, 5123
_ARRAY_BUFFER = 34962
_POINTS = 0
_HALF_TURN_ABOUT_X = [1.0, 0.0, 0.0, 0.0]  # quaternion xyzw


def to_glb_bytes(gaussians: Gaussians) -> bytes:
    """The content of a .glb, coarsest level first.

    Raises:
        ValueError: if the set is empty or batched, or holds NaN or infinite values.
    """
    gaussians = ready_to_write(gaussians)
    if not gaussians.count:
        raise ValueError("Cannot write a .glb without Gaussians: the format has no empty clouds.")
    means = gaussians.means.numpy().astype("<f4")
    rgb = linear_from_srgb(gaussians.base_colors.double().numpy().clip(0, 1))
    alpha = gaussians.opacities.double().numpy()[:, None]
    rgba = np.rint(np.concatenate([rgb, alpha], axis=1) * 65535).astype("<u2")
    content = means.tobytes() + rgba.tobytes()
    document = json.dumps(_document(means, len(content)), separators=(",", ":")).encode()
    document += b" " * (-len(document) % 4)
    chunks = [(b"JSON", document), (b"BIN\0", content)]
    body = b"".join(struct.pack("<I4s", len(data), kind) + data for kind, data in chunks)
    return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body


def linear_from_srgb(srgb: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Linear light, which vertex colours of glTF are, of sRGB values in [0, 1]."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _document(means: np.ndarray, size: int) -> dict[str, object]:
    count, split = len(means), means.nbytes
    views = [
        {"buffer": 0, "byteOffset": 0, "byteLength": split, "target": _ARRAY_BUFFER},
        {"buffer": 0, "byteOffset": split, "byteLength": size - split, "target": _ARRAY_BUFFER},
    ]
    position = {
        "bufferView": 0,
        "componentType": _FLOAT,
        "count": count,
        "type": "VEC3",
        "min": means.min(axis=0).tolist(),
        "max": means.max(axis=0).tolist(),
    }
    color = {
        "bufferView": 1,
        "componentType": _USHORT,
        "normalized": True,
        "count": count,
        "type": "VEC4",
    }
    points = {"attributes": {"POSITION": 0, "COLOR_0": 1}, "material": 0, "mode": _POINTS}
    return {
        "asset": {"version": "2.0", "generator": "hisplat"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "OpenCV axes", "rotation": _HALF_TURN_ABOUT_X, "children": [1]},
                  {"name": "Gaussians", "mesh": 0}],
        "meshes": [{"primitives": [points]}],
        "materials": [{"name": "Colours as they are", "extensions": {"KHR_materials_unlit": {}}}],
        "accessors": [position, color],
        "bufferViews": views,
        "buffers": [{"byteLength": size}],
    }  # fmt: skip
