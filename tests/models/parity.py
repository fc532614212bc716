"""Reference tensors of the published network, and weights anybody can make up alike."""

import json
import math
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hisplat_models.cameras import Cameras
from hisplat_models.published_keys import KeyTable, published_key


def parity_dir() -> Path:
    """Folder of the reference tensors; skips the calling test when it is absent."""
    default = Path(__file__).resolve().parents[3] / "shared" / "parity"
    folder = Path(os.environ.get("HISPLAT_PARITY_DIR", default))
    if not folder.is_dir():
        pytest.skip(f"needs reference tensors: set HISPLAT_PARITY_DIR (looked in {folder})")
    return folder


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Every state-dict key of the published network with its shape."""
    table = json.loads((parity_dir() / "state_dict.json").read_text())
    return {key: tuple(entry["shape"]) for key, entry in table.items()}


def rule_tensor(key: str, shape: tuple[int, ...]) -> Tensor:
    """The value of one published tensor under the fill rule that made the reference tensors.

    Noise seeded by the key, scaled so that activations keep their magnitude through the network.
    """
    last = key.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    uniform = np.random.RandomState(zlib.crc32(key.encode())).random_sample(shape)
    noise = (2 * uniform - 1) * math.sqrt(3)
    if last == "running_mean":
        value = 0.1 * noise
    elif last == "running_var":
        value = 1 + 0.25 * noise
    elif last == "gamma" or ".prev_values." in key:
        value = 0.5 + 0.1 * noise
    elif last in ("pos_embed", "cls_token", "mask_token"):
        value = 0.02 * noise
    elif last == "bias":
        value = 0.05 * noise
    elif len(shape) == 1:
        value = 1 + 0.1 * noise
    else:
        value = _gain(key) * noise / math.sqrt(_fan_in(key, shape))
    return torch.as_tensor(value, dtype=torch.float32)


def _gain(key: str) -> float:
    if key.endswith("raw_depth_head.2.weight"):
        return 0.05
    return 0.4 if key.endswith("to_disparity.2.weight") else 1.0


def _fan_in(key: str, shape: tuple[int, ...]) -> float:
    if key.endswith(("upsampler0.0.weight", "upsampler1.0.weight")):
        return shape[0] * shape[-1] * shape[-1] / 4
    return math.prod(shape[1:])


def filled(block: nn.Module, table: KeyTable, prefix: str) -> nn.Module:
    """The block in evaluation mode, its tensors filled by the rule under their published names."""
    state = {
        key: rule_tensor(f"{prefix}.{published_key(key, table)}", tuple(tensor.shape))
        for key, tensor in block.state_dict().items()
    }
    block.load_state_dict(state)
    return block.eval()


class Case:
    """One ``case_<side>.npz``: inputs and intermediate tensors of the published network."""

    def __init__(self, side: int):
        self._arrays = np.load(parity_dir() / f"case_{side}.npz")
        self._stats = json.loads((parity_dir() / f"case_{side}_stats.json").read_text())

    def __getitem__(self, name: str) -> Tensor:
        """A tensor as stored: some are strided samples of the flattened one."""
        return torch.from_numpy(self._arrays[name])

    def cameras(self) -> Cameras:
        return Cameras(
            self["in_extrinsics"], self["in_intrinsics"], self["in_near"], self["in_far"]
        )

    def difference(self, name: str, ours: Tensor) -> tuple[float, float]:
        """(largest, mean) absolute difference of our full tensor from the stored one."""
        entry = self._stats[name]
        assert ours.numel() == math.prod(entry["shape"]), (ours.shape, entry["shape"])
        flat = ours.detach().flatten()[:: entry.get("stride", 1)]
        difference = (flat - self[name].flatten()).abs()
        return float(difference.max()), float(difference.mean())

    def assert_close(self, name: str, ours: Tensor, floor: tuple[float, float]) -> None:
        """Within 20 times the largest and 10 times the mean noise ``floor`` of the reference."""
        largest, mean = self.difference(name, ours)
        print(f"{name}: max {largest:.1e} mean {mean:.1e} (floor {floor[0]:.1e} {floor[1]:.1e})")
        assert largest <= 20 * floor[0], f"{name}: max {largest:.2e}, floor {floor[0]:.2e}"
        assert mean <= 10 * floor[1], f"{name}: mean {mean:.2e}, floor {floor[1]:.2e}"
